import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { narIndexConformance } from "./nar-index.ts";

describe.for(SERVICES)("NarIndex: %s", ([, open]) => narIndexConformance(pick(open, "nars")));

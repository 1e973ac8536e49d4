import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { documentIndexConformance } from "./document-index.ts";

describe.for(SERVICES)("DocumentIndex: %s", ([, open]) => documentIndexConformance(pick(open, "documents")));

import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { directoryServiceConformance } from "./directory-service.ts";

describe.for(SERVICES)("DirectoryService: %s", ([, open]) => directoryServiceConformance(pick(open, "directories")));

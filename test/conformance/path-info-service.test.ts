import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { pathInfoServiceConformance } from "./path-info-service.ts";

describe.for(SERVICES)("PathInfoService: %s", ([, open]) => pathInfoServiceConformance(pick(open, "pathInfos")));

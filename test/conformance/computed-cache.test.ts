import { describe } from "vitest";
import { pick, SERVICES } from "../helpers/open-stores.ts";
import { computedCacheConformance } from "./computed-cache.ts";

describe.for(SERVICES)("ComputedCache: %s", ([, open]) => computedCacheConformance(pick(open, "computed")));

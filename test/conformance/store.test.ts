import { describe } from "vitest";
import { openMemory, openPacks } from "../helpers/open-stores.ts";
import { durableStoreConformance, storeConformance } from "./store.ts";

describe("Store: memory", () => storeConformance(openMemory));

describe.for([
  ["packs", openPacks()],
  ["packs without compression", openPacks({ compression: "none" })],
] as const)("Store: %s", ([, open]) => {
  storeConformance(open);
  durableStoreConformance(open);
});

import { describe } from "vitest";
import { openGrpc } from "../helpers/grpc-store.ts";
import { openMemory, openPacks } from "../helpers/open-stores.ts";
import { durableStoreConformance, storeConformance } from "./store.ts";

describe("Store: memory", () => storeConformance(openMemory));

describe.for([
  ["memory", openMemory],
  ["packs", openPacks()],
] as const)("Store: %s through gRPC", ([, open]) => storeConformance(openGrpc(open)));

describe.for([
  ["packs", openPacks()],
  ["packs without compression", openPacks({ compression: "none" })],
] as const)("Store: %s", ([, open]) => {
  storeConformance(open);
  durableStoreConformance(open);
});

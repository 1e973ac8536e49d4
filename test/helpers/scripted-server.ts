/** A hand-made server that is taken for a Narbor, and answers each method as a test says. */
import { onTestFinished } from "vitest";
import type { GrpcStoreOptions } from "../../src/backends/grpc/grpc-store.ts";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import type { RawReply, RawRequest } from "./raw-grpc.ts";
import { RawGrpcServer, UNIMPLEMENTED } from "./raw-grpc.ts";
import { lengthField, message, numberField } from "./raw-protobuf.ts";

/** What each method answers, by the end of its path; one that is not named is UNIMPLEMENTED. The first that fits is taken. */
export type Script = Readonly<Record<string, Exclude<RawReply, (stream: never) => void> | ((request: RawRequest) => RawReply)>>;

/** What a Narbor that has no batches says of itself. */
export const NARBOR_WITHOUT_BATCHES: Script = {
  "narbor.store.v1.StoreService/GetInfo": { messages: [message(numberField(1, 1), lengthField(2, "9.9"))] },
};

/** GetInfo and GetCapabilities of a Narbor. */
export const NARBOR: Script = {
  ...NARBOR_WITHOUT_BATCHES,
  "/GetCapabilities": { messages: [lengthField(1, message(lengthField(1, Buffer.of(9)), numberField(4, 4 * 1024 * 1024)))] },
};

/** GetInfo of a Narbor that gives blobs as it stores them, and GetCapabilities. */
export const NARBOR_WITH_BLOCKS: Script = {
  "narbor.store.v1.StoreService/GetInfo": { messages: [message(numberField(1, 1), lengthField(2, "9.9"), numberField(3, 1))] },
  "/GetCapabilities": { messages: [lengthField(1, message(lengthField(1, Buffer.of(9)), numberField(4, 4 * 1024 * 1024)))] },
};

/** A server with that script, and our client to it, both gone when the test has finished. */
export async function openScripted(script: Script, parameters = "", options: GrpcStoreOptions = {}): Promise<{ readonly server: RawGrpcServer; readonly store: GrpcStore }> {
  const server = await RawGrpcServer.open((request) => {
    const [, found] = Object.entries(script).find(([name]) => request.path.endsWith(name)) ?? [];
    if (found === undefined) return UNIMPLEMENTED;
    return typeof found === "function" ? found(request) : found;
  });
  const store = new GrpcStore(`${server.address}${parameters}`, options);
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return { server, store };
}

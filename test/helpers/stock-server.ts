/** A server as snix and tvix are: the castore and store services under one name and nothing else, with sizes counted twice. */
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import type { handleClientStreamingCall, handleServerStreamingCall, handleUnaryCall, sendUnaryData, ServiceDefinition, ServiceError } from "@grpc/grpc-js";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { decodePathInfo, encodePathInfo } from "../../src/store/path-info-message.ts";
import { chunked, collect, collectItems } from "./bytes.ts";
import { only } from "./castore-messages.ts";
import { bytesOf, numberOf } from "./raw-protobuf.ts";
import { sourceOf } from "./tracked-source.ts";

/** tonic's. */
const RECEIVE_LIMIT = 4 * 1024 * 1024;
/** What tokio's reader streams give. */
const FRAME_BYTES = 4096;

export interface StockServer extends AsyncDisposable {
  readonly address: string;
  readonly store: MemoryStore;
  /** Digests that were asked for and put, in order, as base16. */
  readonly stats: string[];
  readonly puts: string[];
  /** Most Stat and Put calls that were under way at once. */
  readonly maxAtOnce: () => number;
}

class StockError extends Error {
  readonly code: status;
  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/** @param delayMilliseconds that a Stat and a Put take */
export async function openStockServer(family: "snix" | "tvix", delayMilliseconds = 0): Promise<StockServer> {
  const store = new MemoryStore();
  const stats: string[] = [];
  const puts: string[] = [];
  let atOnce = 0;
  let maxAtOnce = 0;
  const counted = async <T>(work: () => Promise<T>): Promise<T> => {
    maxAtOnce = Math.max(maxAtOnce, ++atOnce);
    try {
      if (delayMilliseconds > 0) await new Promise((resolve) => setTimeout(resolve, delayMilliseconds));
      return await work();
    } finally {
      atOnce--;
    }
  };
  const unary = (work: (request: Buffer) => Promise<Uint8Array>): handleUnaryCall<Buffer, Buffer> => (call, callback) => void answer(work(call.request), callback);
  const upload = (work: (messages: Buffer[]) => Promise<Uint8Array>): handleClientStreamingCall<Buffer, Buffer> => (call, callback) => {
    void answer((async () => await work(await collectItems(call as AsyncIterable<Buffer>)))(), callback);
  };
  const stream = (work: (request: Buffer) => Promise<readonly Uint8Array[]>): handleServerStreamingCall<Buffer, Buffer> => (call) => {
    void work(call.request).then(
      (messages) => {
        for (const message of messages) call.write(Buffer.from(message));
        call.end();
      },
      (error: unknown) => call.emit("error", error),
    );
  };
  const first = (request: Buffer): Buffer => bytesOf(request, 1)[0] ?? Buffer.alloc(0);
  const digestIn = (request: Buffer): ReturnType<typeof toB3Digest> => {
    if (first(request).length !== 32) throw new StockError(status.INVALID_ARGUMENT, "invalid digest length");
    return toB3Digest(new Uint8Array(first(request)));
  };
  const server = new Server({ "grpc.max_receive_message_length": RECEIVE_LIMIT });
  server.addService(
    definitionOf(`${family}.castore.v1.BlobService`, { Stat: "unary", Read: "serverStream", Put: "clientStream" }),
    {
      Stat: unary(async (request) => {
        stats.push(digestIn(request).reduce((text, byte) => text + byte.toString(16).padStart(2, "0"), ""));
        return await counted(async () => {
          if ((await store.blobs.stat(digestIn(request))) === undefined) throw new StockError(status.NOT_FOUND, "blob not found");
          return Buffer.alloc(0);
        });
      }),
      Read: stream(async (request) => {
        const content = await store.blobs.openRead(digestIn(request));
        if (content === undefined) throw new StockError(status.NOT_FOUND, "blob not found");
        return chunked(await collect(content), FRAME_BYTES).map(only);
      }),
      Put: upload(async (messages) =>
        await counted(async () => {
          const digest = await store.blobs.put(sourceOf(...messages.map(first)));
          puts.push(Buffer.from(digest).toString("hex"));
          return only(digest);
        }),
      ),
    },
  );
  server.addService(definitionOf(`${family}.castore.v1.DirectoryService`, { Get: "serverStream", Put: "clientStream" }), {
    Get: stream(async (request) => {
      const digest = digestIn(request);
      if (numberOf(request, 2) === 0) {
        const found = await store.directories.get(digest);
        if (found === undefined) throw new StockError(status.NOT_FOUND, "directory not found");
        return [found];
      }
      const closure = await store.directories.getClosure(digest);
      return closure === undefined ? [] : (await collectItems(closure)).map(({ bytes }) => bytes);
    }),
    Put: upload(async (messages) => {
      checkSizes(messages);
      return only(await store.directories.putClosure(messages));
    }),
  });
  server.addService(definitionOf(`${family}.store.v1.PathInfoService`, { Get: "unary", Put: "unary", List: "serverStream" }), {
    Get: unary(async (request) => {
      const found = await store.pathInfos.get(first(request));
      if (found === undefined) throw new StockError(status.NOT_FOUND, "PathInfo not found");
      return encodePathInfo(found);
    }),
    Put: unary(async (request) => encodePathInfo(await store.pathInfos.put(decodePathInfo(request)))),
    List: stream(async () => (await collectItems(store.pathInfos.list())).map(encodePathInfo)),
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createServer((socket) => injector.injectConnection(socket));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    address: `grpc://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    store,
    stats,
    puts,
    maxAtOnce: () => maxAtOnce,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => listener.close(resolve));
      server.forceShutdown();
      await closed;
    },
  };
}

async function answer(bytes: Promise<Uint8Array>, callback: sendUnaryData<Buffer>): Promise<void> {
  try {
    callback(null, Buffer.from(await bytes));
  } catch (error) {
    callback(error as Partial<ServiceError>);
  }
}

/** snix counts each entry twice, and answers INTERNAL to who does not. */
function checkSizes(messages: readonly Buffer[]): void {
  const sizes = new Map<string, number>();
  for (const message of messages) {
    let size = 0;
    for (const { node } of decodeDirectory(message)) {
      size += 2;
      if (node.type !== "directory") continue;
      const recorded = sizes.get(Buffer.from(node.digest).toString("hex"));
      if (recorded !== undefined && recorded !== node.size) throw new StockError(status.INTERNAL, `'${Buffer.from(node.digest).toString("base64")}' has wrong size, specified ${node.size}, recorded ${recorded}`);
      size += node.size;
    }
    sizes.set(Buffer.from(blake3(message)).toString("hex"), size);
  }
}

function definitionOf(service: string, methods: Readonly<Record<string, "unary" | "serverStream" | "clientStream">>): ServiceDefinition {
  const identity = (bytes: Buffer): Buffer => bytes;
  return Object.fromEntries(
    Object.entries(methods).map(([name, kind]) => [
      name,
      {
        path: `/${service}/${name}`,
        requestStream: kind === "clientStream",
        responseStream: kind === "serverStream",
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    ]),
  ) as ServiceDefinition;
}

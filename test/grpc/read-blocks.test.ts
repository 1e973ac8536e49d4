/** narbor.store.v1 ReadBlocks at the wire. */
import { describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { Store } from "../../src/store/store.ts";
import { sampleBytes } from "../helpers/bytes.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { openPacks } from "../helpers/open-stores.ts";
import { RawGrpcClient, STATUS } from "../helpers/raw-grpc.ts";
import { lengthField, message, numberField } from "../helpers/raw-protobuf.ts";

const READ_BLOCKS = "/narbor.store.v1.StoreService/ReadBlocks";
const GET_INFO = "/narbor.store.v1.StoreService/GetInfo";
const BLOBS = [toSmallBlob(sampleBytes(1000)), toSmallBlob(sampleBytes(2000, 2))];

function asking(digests: Uint8Array, sizes: readonly number[] = []): Buffer {
  return message(lengthField(1, digests), ...sizes.map((size) => numberField(2, size)));
}

async function clientOf(store: Store): Promise<RawGrpcClient> {
  const server = await serveGrpc(store);
  const client = new RawGrpcClient(server.port);
  onTestFinished(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return client;
}

describe("ReadBlocks", () => {
  test("gives a block with what was asked for in it", async () => {
    await using opened = await openPacks({ compression: "none" })();
    await opened.service.blobs.putMany(BLOBS);
    const client = await clientOf(opened.service);
    const { status, messages } = await client.call(READ_BLOCKS, [asking(Buffer.concat(BLOBS.map(({ digest }) => digest)), [1000, 2000])]);
    expect(status).toBe(STATUS.OK);
    const expected = message(
      numberField(1, 1),
      numberField(2, 3000),
      lengthField(3, numberField(4, 1000)),
      lengthField(3, message(numberField(1, 1), numberField(3, 1000), numberField(4, 2000))),
      lengthField(4, Buffer.concat(BLOBS.map(({ bytes }) => bytes))),
    );
    expect(messages.map((bytes) => Buffer.from(bytes).toString("hex"))).toEqual([expected.toString("hex")]);
  });

  test.for([
    ["no digest", asking(new Uint8Array(0))],
    ["half a digest", asking(new Uint8Array(48))],
    ["several without sizes", asking(new Uint8Array(64))],
    ["fewer sizes than digests", asking(new Uint8Array(64), [1])],
    ["several that have more than 16 MiB together", asking(new Uint8Array(64), [16 * 1024 * 1024, 1])],
    ["a size that no blob can have", message(lengthField(1, new Uint8Array(32)), Buffer.from([0x10, ...Array.from({ length: 9 }, () => 0xff), 0x01]))],
    ["more than 2,048", asking(new Uint8Array(32 * 2049), Array.from({ length: 2049 }, () => 1))],
  ] as const)("of %s is INVALID_ARGUMENT", async ([, request]) => {
    await using opened = await openPacks()();
    expect((await (await clientOf(opened.service)).call(READ_BLOCKS, [request])).status).toBe(STATUS.INVALID_ARGUMENT);
  });

  test("of a blob that is not stored, or not of that size, is NOT_FOUND", async () => {
    await using opened = await openPacks()();
    await opened.service.blobs.putMany(BLOBS);
    const client = await clientOf(opened.service);
    expect((await client.call(READ_BLOCKS, [asking(new Uint8Array(32))])).status).toBe(STATUS.NOT_FOUND);
    expect((await client.call(READ_BLOCKS, [asking(BLOBS[0]?.digest ?? Buffer.alloc(0), [999])])).status).toBe(STATUS.NOT_FOUND);
  });

  test("is UNIMPLEMENTED where blobs do not lie in blocks, and GetInfo says so", async () => {
    const client = await clientOf(new MemoryStore());
    expect((await client.call(READ_BLOCKS, [asking(BLOBS[0]?.digest ?? Buffer.alloc(0))])).status).toBe(STATUS.UNIMPLEMENTED);
    await using opened = await openPacks()();
    const [without, withBlocks] = [await client.call(GET_INFO, [Buffer.alloc(0)]), await (await clientOf(opened.service)).call(GET_INFO, [Buffer.alloc(0)])];
    expect([without, withBlocks].map(({ messages }) => Buffer.from(messages[0] ?? []).toString("hex").includes("1801"))).toEqual([false, true]);
  });
});

/** narbor.store.v1 WriteBlocks at the wire. */
import { create } from "@bufbuild/protobuf";
import { describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { compressZstdSync } from "../../src/compression/zstd.ts";
import type { GrpcServerOptions } from "../../src/grpc/server.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { WriteBlocksRequestSchema } from "../../src/proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { writtenBlockFromProto } from "../../src/store/written-block-proto.ts";
import type { Store } from "../../src/store/store.ts";
import { collectItems, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { openPacks } from "../helpers/open-stores.ts";
import { within } from "../helpers/promises.ts";
import { RawGrpcClient, STATUS } from "../helpers/raw-grpc.ts";
import { lengthField, message, numberField } from "../helpers/raw-protobuf.ts";

const WRITE_BLOCKS = "/narbor.store.v1.StoreService/WriteBlocks";
const GET_INFO = "/narbor.store.v1.StoreService/GetInfo";
const BLOBS = [toSmallBlob(textBytes(1000)), toSmallBlob(textBytes(2000, 2))];
const RAW = Buffer.concat(BLOBS.map(({ bytes }) => bytes));
const DIGESTS = lengthField(3, Buffer.concat(BLOBS.map(({ digest }) => digest)));
/** 1000 and 2000. */
const LENGTHS = lengthField(4, Buffer.of(0xe8, 0x07, 0xd0, 0x0f));
const NONE = numberField(1, 1);
const ZSTD = numberField(1, 2);
const DIGEST_OF_A = blake3(Buffer.from("a"));
const PIECE = numberField(7, 1);

function data(bytes: Uint8Array): Buffer {
  return lengthField(6, bytes);
}

const STORED = message(NONE, numberField(2, 3000), DIGESTS, LENGTHS, data(RAW));
const COMPRESSED = message(ZSTD, numberField(2, 3000), DIGESTS, LENGTHS, data(compressZstdSync(RAW, 1)));

async function clientOf(store: Store, options: Partial<GrpcServerOptions> = {}): Promise<RawGrpcClient> {
  const server = await serveGrpc(store, options);
  const client = new RawGrpcClient(server.port);
  onTestFinished(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return client;
}

describe("WriteBlocks", () => {
  test.for([
    ["as it is", [STORED]],
    ["compressed", [COMPRESSED]],
    ["twice", [COMPRESSED, STORED]],
    ["with a field that no one knows", [message(COMPRESSED, lengthField(99, "new"))]],
  ] as const)("stores a block %s", async ([, requests]) => {
    await using opened = await openPacks()();
    const { status, messages } = await (await clientOf(opened.service)).call(WRITE_BLOCKS, requests);
    expect([status, messages.map((bytes) => bytes.length)]).toEqual([STATUS.OK, [0]]);
    expect((await collectItems(opened.service.blobs.readMany(BLOBS))).map((bytes) => Buffer.from(bytes))).toEqual(BLOBS.map(({ bytes }) => Buffer.from(bytes)));
  });

  test("of nothing stores nothing", async () => {
    await using opened = await openPacks()();
    expect((await (await clientOf(opened.service)).call(WRITE_BLOCKS, [])).status).toBe(STATUS.OK);
  });

  const large = sampleBytes(600_000);
  const other = lengthField(3, Buffer.concat([Buffer.alloc(32), BLOBS[1]?.digest ?? Buffer.alloc(0)]));
  test.for([
    ["nothing", Buffer.alloc(0)],
    ["no data", message(DIGESTS, LENGTHS)],
    ["data that does not say how it is compressed", message(numberField(2, 3000), DIGESTS, LENGTHS, data(RAW))],
    ["a compression that no one knows", message(numberField(1, 9), numberField(2, 3000), DIGESTS, LENGTHS, data(RAW))],
    ["more bytes than it says", message(NONE, numberField(2, 2999), DIGESTS, LENGTHS, data(RAW))],
    ["another size than its chunks have", message(NONE, numberField(2, 2999), DIGESTS, LENGTHS, data(RAW.subarray(1)))],
    ["half a digest", message(NONE, numberField(2, 3000), lengthField(3, Buffer.alloc(48)), LENGTHS, data(RAW))],
    ["a digest too few", message(NONE, numberField(2, 3000), lengthField(3, Buffer.alloc(32)), LENGTHS, data(RAW))],
    ["a digest that is another's", message(NONE, numberField(2, 3000), other, LENGTHS, data(RAW))],
    ["a frame that is longer than what it holds", message(ZSTD, numberField(2, 3000), DIGESTS, LENGTHS, data(sampleBytes(3000)))],
    ["a frame that is none", message(ZSTD, numberField(2, 3000), DIGESTS, LENGTHS, data(sampleBytes(300)))],
    ["a frame of more than it says", message(ZSTD, numberField(2, 3000), DIGESTS, LENGTHS, data(compressZstdSync(Buffer.alloc(1_000_000), 1)))],
    ["more than a mebibyte", message(ZSTD, numberField(2, 1_048_577), DIGESTS, LENGTHS, data(compressZstdSync(Buffer.alloc(1_048_577), 1)))],
    ["a chunk of more than half a mebibyte", message(NONE, numberField(2, large.length), lengthField(3, blake3(large)), numberField(4, large.length), data(large))],
    ["framing at its end", message(NONE, numberField(2, 3000), DIGESTS, LENGTHS, numberField(5, 1), data(RAW))],
    ["framing without a byte", message(NONE, numberField(2, 3000), lengthField(3, Buffer.concat([blake3(Buffer.alloc(0)), ...BLOBS.map(({ digest }) => digest)])), lengthField(4, Buffer.of(0, 0xe8, 0x07, 0xd0, 0x0f)), lengthField(5, Buffer.of(0)), data(RAW))],
    ["framing before framing", message(NONE, numberField(2, 3000), lengthField(3, Buffer.concat([DIGEST_OF_A, DIGEST_OF_A, blake3(Buffer.alloc(2998, "a"))])), lengthField(4, Buffer.of(1, 1, 0xb6, 0x17)), lengthField(5, Buffer.of(0, 1)), data(Buffer.alloc(3000, "a")))],
    ["framing twice", message(NONE, numberField(2, 3000), DIGESTS, LENGTHS, lengthField(5, Buffer.of(0, 0)), data(RAW))],
    ["a piece that is two", message(NONE, numberField(2, 3000), DIGESTS, LENGTHS, data(RAW), PIECE)],
    ["a blob of which it is no piece", message(NONE, numberField(2, 3000), DIGESTS, LENGTHS, data(RAW), lengthField(8, Buffer.alloc(32)))],
    ["half a blob's digest", message(NONE, numberField(2, 1000), lengthField(3, BLOBS[0]?.digest ?? ""), numberField(4, 1000), data(BLOBS[0]?.bytes ?? RAW), PIECE, lengthField(8, Buffer.alloc(16)))],
    ["a piece and no end", message(NONE, numberField(2, 1000), lengthField(3, BLOBS[0]?.digest ?? ""), numberField(4, 1000), data(BLOBS[0]?.bytes ?? RAW), PIECE)],
    ["what is no message", Buffer.of(0xff, 0xff)],
  ] as const)("of %s is INVALID_ARGUMENT", async ([, request]) => {
    await using opened = await openPacks()();
    expect((await (await clientOf(opened.service)).call(WRITE_BLOCKS, [request])).status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await opened.service.blobs.findMissing(BLOBS.map(({ digest }) => digest))).toContainEqual(BLOBS[1]?.digest);
  });

  test("of messages that become ten thousand times as much does not keep others waiting", async () => {
    await using opened = await openPacks()();
    const client = await clientOf(opened.service);
    const zeros = new Uint8Array(1_048_576);
    const half = blake3(zeros.subarray(0, 524_288));
    const request = message(ZSTD, numberField(2, zeros.length), lengthField(3, Buffer.concat([half, half])), lengthField(4, Buffer.from("808020808020", "hex")), data(compressZstdSync(zeros, 1)));
    const call = client.begin(WRITE_BLOCKS);
    for (let index = 0; index < 1500; index++) call.send(request);
    call.stream.end();
    let isDone = false;
    void call.answer.then(() => (isDone = true));
    for (let index = 0; index < 5; index++) expect((await within(client.call(GET_INFO, [Buffer.alloc(0)]))).status).toBe(STATUS.OK);
    expect(isDone).toBe(false);
    expect((await call.answer).status).toBe(STATUS.OK);
  });

  test("keeps no more of a message than the block", () => {
    const large = new Uint8Array(2_000_000);
    large.set([1, 2, 3], 1_000_000);
    const { content } = writtenBlockFromProto(create(WriteBlocksRequestSchema, { compression: 1, size: 3, digests: new Uint8Array(32), lengths: [3], data: large.subarray(1_000_000, 1_000_003) }));
    expect([content?.bytes.length, content?.bytes.buffer.byteLength]).toEqual([3, 3]);
  });

  test("of a piece that is not stored is NOT_FOUND", async () => {
    await using opened = await openPacks()();
    const request = message(lengthField(3, Buffer.alloc(32, 1)), numberField(4, 200_000), PIECE);
    expect((await (await clientOf(opened.service)).call(WRITE_BLOCKS, [request])).status).toBe(STATUS.NOT_FOUND);
  });

  test("of more than a message may have is RESOURCE_EXHAUSTED", async () => {
    await using opened = await openPacks()();
    expect((await (await clientOf(opened.service)).call(WRITE_BLOCKS, [message(STORED, data(Buffer.alloc(3_000_000)))])).status).toBe(STATUS.RESOURCE_EXHAUSTED);
  });

  test("is PERMISSION_DENIED where uploads are off", async () => {
    await using opened = await openPacks()();
    expect((await (await clientOf(opened.service, { allowWrites: false })).call(WRITE_BLOCKS, [STORED])).status).toBe(STATUS.PERMISSION_DENIED);
  });

  test("is UNIMPLEMENTED where blobs do not lie in blocks, and GetInfo tells the level that blocks are to have", async () => {
    const client = await clientOf(new MemoryStore());
    expect((await client.call(WRITE_BLOCKS, [STORED])).status).toBe(STATUS.UNIMPLEMENTED);
    const levelOf = async (store: Store): Promise<string> => {
      const { messages } = await (await clientOf(store)).call(GET_INFO, [Buffer.alloc(0)]);
      return Buffer.from(messages[0] ?? []).subarray(-2).toString("hex");
    };
    await using plain = await openPacks({ compression: "none" })();
    await using levelled = await openPacks({ compression: 3 })();
    expect([await levelOf(plain.service), await levelOf(levelled.service)]).toEqual(["2000", "2006"]);
  });
});

/** Our client against servers that lie, break off, say nothing, or are something else. */
import { randomUUID } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import { constants, createServer as createHttp2Server } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../../src/backends/grpc/grpc-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import type { B3Digest } from "../../../src/castore/digest.ts";
import { toB3Digest } from "../../../src/castore/digest.ts";
import { compressZstdSync } from "../../../src/compression/zstd.ts";
import type { NamedDirectory } from "../../../src/castore/directory-order.ts";
import type { ErrorCode } from "../../../src/errors.ts";
import { NarborError } from "../../../src/errors.ts";
import { encodePathInfo } from "../../../src/store/path-info-message.ts";
import { collect, collectItems, expectBytes, hexes, sampleBytes } from "../../helpers/bytes.ts";
import { directoryOf, fileNode, named, symlinkNode } from "../../helpers/castore.ts";
import { casDigest, entryOf, only } from "../../helpers/castore-messages.ts";
import { pathInfoOf, sha256Of } from "../../helpers/path-infos.ts";
import { expectCode, rejection, within } from "../../helpers/promises.ts";
import { lengthField, message, numberField } from "../../helpers/raw-protobuf.ts";
import { STATUS, frameOf } from "../../helpers/raw-grpc.ts";
import type { RawReply } from "../../helpers/raw-grpc.ts";
import type { Script } from "../../helpers/scripted-server.ts";
import { NARBOR, NARBOR_WITH_BLOCKS, NARBOR_WITHOUT_BATCHES, openScripted } from "../../helpers/scripted-server.ts";
import { TrackedSource, sourceOf } from "../../helpers/tracked-source.ts";

const BLOB = toSmallBlob(sampleBytes(50_000));
const OTHER = toSmallBlob(sampleBytes(50_000, 2));
const LONGER = Buffer.concat([BLOB.bytes, Buffer.from("more")]);
const SHORTER = BLOB.bytes.subarray(0, -1);

const LEAF = directoryOf({ file: fileNode("contents") });
const MIDDLE = directoryOf({ leaf: LEAF, other: fileNode("other") });
const ROOT = directoryOf({ middle: MIDDLE, link: symlinkNode("middle") });

const GET_INFO = "narbor.store.v1.StoreService/GetInfo";
const ADDRESS = /grpc:\/\/127\.0\.0\.1:\d+/;

async function openWith(script: Script, parameters = ""): Promise<GrpcStore> {
  return (await openScripted({ ...NARBOR, ...script }, parameters)).store;
}

async function readAll(store: GrpcStore, digest: B3Digest = BLOB.digest): Promise<Uint8Array> {
  return await collect((await store.blobs.openRead(digest)) ?? sourceOf());
}

async function readClosure(store: GrpcStore, root: B3Digest): Promise<NamedDirectory[]> {
  const closure = await store.directories.getClosure(root);
  return await collectItems(closure as AsyncIterable<NamedDirectory>);
}

/** That a call fails with this code and an error that names the server. */
async function expectNamed(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expectCode(promise, code, ADDRESS);
}

/** These messages, and then another for ever. */
function endlessly(messages: readonly Uint8Array[], again: Uint8Array): (stream: ServerHttp2Stream) => void {
  return (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    for (const bytes of messages) stream.write(frameOf(bytes));
    const write = (): void => {
      while (!stream.destroyed && stream.write(frameOf(again)));
    };
    stream.on("drain", write);
    write();
  };
}

describe("a server that gives a wrong blob", () => {
  test.for([
    ["another blob", [OTHER.bytes]],
    ["a shorter one", [SHORTER]],
    ["a longer one", [LONGER]],
    ["nothing at all", []],
    ["one with its pieces swapped", [BLOB.bytes.subarray(20_000), BLOB.bytes.subarray(0, 20_000)]],
  ] as const)("is found out: Read() of %s is ERR_DATA_LOSS, and its last bytes are not given", async ([, pieces]) => {
    const store = await openWith({ "/Read": { messages: pieces.map(only) } });
    const given: Uint8Array[] = [];
    const reading = (async () => {
      for await (const bytes of (await store.blobs.openRead(BLOB.digest)) as AsyncIterable<Uint8Array>) given.push(bytes);
    })();
    await expectNamed(reading, "ERR_DATA_LOSS");
    expect(Buffer.concat(given).length).toBeLessThan(BLOB.size);
    await expectNamed((async () => await collect((await store.blobs.openRead(BLOB.digest, { start: 10, end: 20 })) as AsyncIterable<Uint8Array>))(), "ERR_DATA_LOSS");
  });

  test.for([
    ["another blob", casDigest(BLOB.digest, BLOB.size), OTHER.bytes, "ERR_DATA_LOSS"],
    ["a shorter one", casDigest(BLOB.digest, BLOB.size), SHORTER, "ERR_DATA_LOSS"],
    ["a longer one", casDigest(BLOB.digest, BLOB.size), LONGER, "ERR_DATA_LOSS"],
    ["nothing", casDigest(BLOB.digest, BLOB.size), new Uint8Array(0), "ERR_DATA_LOSS"],
    ["one that was not asked for", casDigest(OTHER.digest, OTHER.size), OTHER.bytes, "ERR_MISMATCH"],
    ["the right one under another size", casDigest(BLOB.digest, 7), BLOB.bytes, "ERR_MISMATCH"],
  ] as const)("is found out: BatchReadBlobs() of %s", async ([, digest, data, code]) => {
    const store = await openWith({ "/BatchReadBlobs": { messages: [lengthField(1, message(lengthField(1, digest), lengthField(2, data)))] } });
    await expectNamed(collectItems(store.blobs.readMany([BLOB])), code);
  });

  test("is found out: BatchReadBlobs() that answers nothing, or with a compression that was not asked for", async () => {
    await expectNamed(collectItems((await openWith({ "/BatchReadBlobs": { messages: [Buffer.alloc(0)] } })).blobs.readMany([BLOB])), "ERR_MISMATCH");
    const compressed = lengthField(1, message(lengthField(1, casDigest(BLOB.digest, BLOB.size)), lengthField(2, BLOB.bytes), numberField(4, 1)));
    await expectNamed(collectItems((await openWith({ "/BatchReadBlobs": { messages: [compressed] } })).blobs.readMany([BLOB])), "ERR_COMPRESSION_UNSUPPORTED");
  });

  test("is found out when it has no batches", async () => {
    const { store } = await openScripted({ ...NARBOR_WITHOUT_BATCHES, "/Read": { messages: [only(OTHER.bytes)] } });
    await expectNamed(collectItems(store.blobs.readMany([BLOB])), "ERR_DATA_LOSS");
  });

  test("does not fill our memory: a blob that never ends is given up, where it was to be whole in memory", async () => {
    const endless = (stream: ServerHttp2Stream): void => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      const frame = frameOf(only(Buffer.alloc(500_000)));
      const write = (): void => {
        while (!stream.destroyed && stream.write(frame));
      };
      stream.on("drain", write);
      write();
    };
    const { store } = await openScripted({ ...NARBOR_WITHOUT_BATCHES, "/Read": () => endless });
    const error = (await rejection(collectItems(store.blobs.readMany([BLOB])))) as NarborError;
    expect(error).toBeInstanceOf(NarborError);
  });
});

/** A block of narbor.store.v1. */
function blockOf(data: Uint8Array, parts: readonly (readonly [blob: number, blobOffset: number, offset: number, length: number])[], { size = data.length, compression = 1 } = {}): Buffer {
  const fields = parts.map(([blob, blobOffset, offset, length]) => lengthField(3, message(numberField(1, blob), numberField(2, blobOffset), numberField(3, offset), numberField(4, length))));
  return message(numberField(1, compression), numberField(2, size), ...fields, lengthField(4, data));
}

describe("a server that gives wrong blocks", () => {
  const whole = [[0, 0, 0, BLOB.size]] as const;
  const wrong: readonly (readonly [string, readonly Uint8Array[], ErrorCode])[] = [
    ["another blob", [blockOf(OTHER.bytes, whole)], "ERR_DATA_LOSS"],
    ["nothing", [], "ERR_DATA_LOSS"],
    ["half a blob", [blockOf(BLOB.bytes, [[0, 0, 0, 25_000]])], "ERR_DATA_LOSS"],
    ["a block without a piece", [blockOf(BLOB.bytes, [])], "ERR_STORE"],
    ["a piece of a blob that was not asked for", [blockOf(BLOB.bytes, [[1, 0, 0, BLOB.size]])], "ERR_STORE"],
    ["a piece beyond the block", [blockOf(BLOB.bytes, [[0, 0, 1, BLOB.size]])], "ERR_STORE"],
    ["a piece beyond the blob", [blockOf(LONGER, [[0, 10, 0, BLOB.size]])], "ERR_STORE"],
    ["a piece where none can be", [blockOf(BLOB.bytes, [[0, 2 ** 52, 0, BLOB.size]])], "ERR_STORE"],
    ["a blob twice", [blockOf(BLOB.bytes, whole), blockOf(BLOB.bytes, whole)], "ERR_STORE"],
    ["an empty piece", [blockOf(BLOB.bytes, [[0, 0, 0, 0]])], "ERR_STORE"],
    ["a block of another size than it says", [blockOf(LONGER, whole, { size: BLOB.size })], "ERR_STORE"],
    ["a block that says that it is huge", [blockOf(BLOB.bytes, whole, { size: 4_000_000_000 })], "ERR_STORE"],
    ["a compression that is not known", [blockOf(BLOB.bytes, whole, { compression: 7 })], "ERR_STORE"],
    ["what is not zstd", [blockOf(BLOB.bytes, whole, { compression: 2 })], "ERR_STORE"],
    ["a hundred thousand pieces of nothing", [Buffer.concat(Array.from({ length: 150_000 }, () => lengthField(3, Buffer.alloc(0))))], "ERR_STORE"],
    ["a frame of another size", [blockOf(compressZstdSync(LONGER, 1), whole, { compression: 2, size: BLOB.size })], "ERR_STORE"],
  ];

  test.for(wrong)("is found out: ReadBlocks() of %s", async ([, messages, code]) => {
    const { store } = await openScripted({ ...NARBOR_WITH_BLOCKS, "/ReadBlocks": { messages } });
    await expectCode(collectItems(store.blobs.readMany([BLOB])), code);
    expect(await rejection(readAll(store))).toBeInstanceOf(NarborError);
  });

  test("is found out when its blocks have no end", async () => {
    const { store } = await openScripted({
      ...NARBOR_WITH_BLOCKS,
      "/ReadBlocks": () => (stream: ServerHttp2Stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" });
        const frame = frameOf(blockOf(BLOB.bytes.subarray(0, 100), [[0, 0, 0, 100]]));
        const write = (): void => {
          while (!stream.destroyed && stream.write(frame));
        };
        stream.on("drain", write);
        write();
      },
    });
    await expectCode(within(collectItems(store.blobs.readMany([BLOB])), 5_000), "ERR_STORE");
    await expectCode(within(readAll(store), 5_000), "ERR_STORE");
  });

  test("does not have us keep four megabytes for a byte", async () => {
    const bytes = new Uint8Array(4 * 1024 * 1024);
    const byte = toSmallBlob(bytes.subarray(0, 1));
    const { store } = await openScripted({ ...NARBOR_WITH_BLOCKS, "/ReadBlocks": { messages: [blockOf(compressZstdSync(bytes, 1), [[0, 0, 0, 1]], { compression: 2, size: bytes.length })] } });
    const [found] = await collectItems(store.blobs.readMany([byte]));
    expect(found).toEqual(byte.bytes);
    expect(found?.buffer.byteLength).toBeLessThan(100_000);
  });

  test("is not listened to for ever when a blob has a known size", async () => {
    const endless = (bytes: Uint8Array) => () => (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      let offset = 0;
      const write = (): void => {
        do offset += bytes.length;
        while (!stream.destroyed && stream.write(frameOf(blockOf(bytes, [[0, offset - bytes.length, 0, bytes.length]]))));
      };
      stream.on("drain", write);
      write();
    };
    const { store } = await openScripted({ ...NARBOR_WITH_BLOCKS, "/ReadBlocks": endless(sampleBytes(100_000)) });
    const reading = async (): Promise<Uint8Array> => await collect((await store.blobs.openRead(BLOB.digest, { size: 2_000_000 })) ?? sourceOf());
    await expectCode(within(reading(), 5_000), "ERR_DATA_LOSS");
  });

  test("is asked in another way once it has no blocks any more", async () => {
    let answers = 0;
    const { store } = await openScripted({
      ...NARBOR_WITH_BLOCKS,
      [GET_INFO]: () => (answers++ === 0 ? NARBOR_WITH_BLOCKS : NARBOR)[GET_INFO] as RawReply,
      "BlobService/Read": { messages: [lengthField(1, BLOB.bytes)] },
    });
    expectBytes((await collectItems(store.blobs.readMany([BLOB])))[0], BLOB.bytes);
    expectBytes(await readAll(store), BLOB.bytes);
    expect(answers).toBe(2);
  });

  test("that marks a message as compressed and does not say how is named", async () => {
    const { store } = await openScripted({
      ...NARBOR_WITH_BLOCKS,
      "/ReadBlocks": () => (stream: ServerHttp2Stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" });
        const frame = Buffer.from(frameOf(blockOf(BLOB.bytes, whole)));
        frame[0] = 1;
        stream.end(frame);
      },
    });
    await expectNamed(collectItems(store.blobs.readMany([BLOB])), "ERR_STORE");
  });

  test("is asked again, for all of it, when it goes away between two blocks", async () => {
    let calls = 0;
    const first = blockOf(BLOB.bytes.subarray(0, 20_000), [[0, 0, 0, 20_000]]);
    const second = blockOf(BLOB.bytes.subarray(20_000), [[0, 20_000, 0, 30_000]]);
    const { store } = await openScripted({
      ...NARBOR_WITH_BLOCKS,
      "/ReadBlocks": () => {
        if (++calls > 2) return { messages: [first, second] };
        return (stream: ServerHttp2Stream) => {
          stream.respond({ ":status": 200, "content-type": "application/grpc" });
          stream.write(frameOf(first));
          setTimeout(() => stream.session?.destroy(), 20);
        };
      },
    });
    expect(await collectItems(store.blobs.readMany([BLOB]))).toEqual([BLOB.bytes]);
    expect(calls).toBe(3);
  });
});

describe("a server that calls things by wrong names", () => {
  test("is found out: Put() of a stream", async () => {
    await expectNamed((await openWith({ "BlobService/Put": { messages: [only(OTHER.digest)] } })).blobs.put(sourceOf(BLOB.bytes)), "ERR_MISMATCH");
  });

  test("is found out: Put() that answers 31 bytes, or nothing", async () => {
    for (const messages of [[only(new Uint8Array(31))], [Buffer.alloc(0)], []]) {
      expect(await rejection((await openWith({ "BlobService/Put": { messages } })).blobs.put(sourceOf(BLOB.bytes)))).toBeInstanceOf(NarborError);
    }
  });

  test("is found out: Put() of a small blob where there are no batches", async () => {
    const { store } = await openScripted({ ...NARBOR_WITHOUT_BATCHES, "/Stat": { status: STATUS.NOT_FOUND }, "BlobService/Put": { messages: [only(OTHER.digest)] } });
    await expectNamed(store.blobs.putMany([BLOB]), "ERR_MISMATCH");
  });

  test.for([
    ["nothing", Buffer.alloc(0), "ERR_MISMATCH"],
    ["another blob", lengthField(1, lengthField(1, casDigest(OTHER.digest, OTHER.size))), "ERR_MISMATCH"],
    ["that it could not", lengthField(1, message(lengthField(1, casDigest(BLOB.digest, BLOB.size)), lengthField(2, message(numberField(1, STATUS.RESOURCE_EXHAUSTED), lengthField(2, "full"))))), "ERR_LIMIT"],
  ] as const)("is found out: BatchUpdateBlobs() that answers %s", async ([, answer, code]) => {
    const store = await openWith({ "/FindMissingBlobs": { messages: [lengthField(2, casDigest(BLOB.digest, 0))] }, "/BatchUpdateBlobs": { messages: [answer] } });
    await expectNamed(store.blobs.putMany([BLOB]), code);
  });

  test("is found out: DirectoryService.Put()", async () => {
    const store = await openWith({ "DirectoryService/Put": { messages: [only(LEAF.digest)] } });
    await expectNamed(store.directories.putClosure([LEAF.bytes, MIDDLE.bytes]), "ERR_MISMATCH");
  });
});

test("a server that says in tonic's words that a directory is too large for it is understood", async () => {
  const reply = { status: STATUS.OUT_OF_RANGE, message: "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes" };
  const store = await openWith({ "DirectoryService/Put": reply });
  await expectCode(store.directories.putClosure([LEAF.bytes]), "ERR_LIMIT", /^Cannot store a directory of 1 entries: grpc:\S+ takes none that is so large \(\d+ bytes, it takes 4194304\); split it/);
});

describe("a server that gives wrong directories", () => {
  test.for([
    ["another directory", [LEAF.bytes]],
    ["bytes that are none", [Buffer.from("whatever")]],
    ["the same one with unknown fields", [Buffer.concat([MIDDLE.bytes, numberField(99, 1)])]],
  ] as const)("is found out: Get() of %s", async ([, messages]) => {
    await expectNamed((await openWith({ "DirectoryService/Get": { messages } })).directories.get(MIDDLE.digest), "ERR_DATA_LOSS");
  });

  test.for([
    ["without a leaf", [ROOT.bytes, MIDDLE.bytes]],
    ["of the root only", [ROOT.bytes]],
    ["without the middle", [ROOT.bytes, LEAF.bytes]],
    ["with a directory that nothing holds", [ROOT.bytes, MIDDLE.bytes, LEAF.bytes, directoryOf({ stray: fileNode("x") }).bytes]],
    ["leaves to root", [LEAF.bytes, MIDDLE.bytes, ROOT.bytes]],
    ["of another root", [MIDDLE.bytes, LEAF.bytes]],
    ["with bytes that are no directory", [ROOT.bytes, Buffer.from("whatever")]],
  ] as const)("is found out: a recursive Get() %s", async ([, messages]) => {
    const store = await openWith({ "DirectoryService/Get": { messages } });
    await expectNamed(readClosure(store, ROOT.digest), "ERR_DATA_LOSS");
  });

  test.for([
    ["a leaf", LEAF.bytes],
    ["the root", ROOT.bytes],
  ] as const)("is not listened to for ever: a recursive Get() that sends %s again and again is ERR_STORE", async ([, again]) => {
    const store = await openWith({ "DirectoryService/Get": () => endlessly([ROOT.bytes, MIDDLE.bytes, LEAF.bytes], again) });
    await expectCode(within(readClosure(store, ROOT.digest), 5_000), "ERR_STORE", /grpc:\/\/127\.0\.0\.1:\d+: it sends the same directories again and again$/);
  });

  test("may send a directory again for each that holds it", async () => {
    const other = directoryOf({ leaf: LEAF, more: fileNode("more") });
    const root = directoryOf({ one: MIDDLE, other });
    const store = await openWith({ "DirectoryService/Get": { messages: [root.bytes, MIDDLE.bytes, LEAF.bytes, other.bytes, LEAF.bytes] } });
    expect(hexes((await readClosure(store, root.digest)).map(({ digest }) => digest))).toEqual(hexes([root, MIDDLE, LEAF, other].map(({ digest }) => digest)));
  });

  test("is found out when a directory that has the right digest holds what no directory may", async () => {
    const bad = named(lengthField(1, message(lengthField(1, ".."), lengthField(2, LEAF.digest), numberField(3, LEAF.node.size))), 1);
    const store = await openWith({ "DirectoryService/Get": { messages: [bad.bytes] } });
    expect(await rejection(readClosure(store, bad.digest))).toBeInstanceOf(NarborError);
  });
});

describe("a server that gives wrong records", () => {
  const asked = pathInfoOf("asked");
  const other = pathInfoOf("other");

  test("is found out: the path info of another path, got or put", async () => {
    await expectNamed((await openWith({ "PathInfoService/Get": { messages: [encodePathInfo(other)] } })).pathInfos.get(asked.storePath.digest), "ERR_DATA_LOSS");
    await expectNamed((await openWith({ "PathInfoService/Put": { messages: [encodePathInfo(other)] } })).pathInfos.put(asked), "ERR_DATA_LOSS");
  });

  test("is found out: a path info that is none, got or listed", async () => {
    const store = await openWith({ "PathInfoService/Get": { messages: [Buffer.alloc(0)] }, "PathInfoService/List": { messages: [encodePathInfo(asked), Buffer.alloc(0)] } });
    await expectNamed(store.pathInfos.get(asked.storePath.digest), "ERR_DATA_LOSS");
    await expectNamed(collectItems(store.pathInfos.list()), "ERR_DATA_LOSS");
  });

  test("is not listened to for ever: a list that has a path twice is ERR_STORE", async () => {
    const store = await openWith({ "PathInfoService/List": () => endlessly([encodePathInfo(other), encodePathInfo(asked)], encodePathInfo(asked)) });
    await expectCode(within(collectItems(store.pathInfos.list()), 5_000), "ERR_STORE", /grpc:\/\/127\.0\.0\.1:\d+: it sent \/nix\/store\/\w+-asked twice$/);
  });

  test("is not listened to for ever: a list that has a document twice is ERR_STORE", async () => {
    const document = lengthField(1, message(lengthField(1, "log/asked"), lengthField(2, BLOB.digest), numberField(3, 5)));
    const store = await openWith({ "/ListDocuments": () => endlessly([], document) });
    await expectCode(within(collectItems(store.documents.list("log/")), 5_000), "ERR_STORE", /grpc:\/\/127\.0\.0\.1:\d+: it sent "log\/asked" twice$/);
  });

  test("is found out: the NAR of another hash, of another file, or of another tree", async () => {
    const root = symlinkNode("somewhere");
    const nar = (hash: Uint8Array, target: string): Buffer => lengthField(1, message(lengthField(1, hash), numberField(2, 136), lengthField(3, entryOf({ type: "symlink", target }))));
    const file = lengthField(2, message(lengthField(1, sha256Of("another file")), numberField(2, 100), lengthField(3, "xz")));
    const store = await openWith({ "/GetNar": { messages: [message(nar(sha256Of("another"), "elsewhere"), file)] } });
    await expectNamed(store.nars.byNarHash(sha256Of("asked")), "ERR_DATA_LOSS");
    await expectNamed(store.nars.byFileHash(sha256Of("asked")), "ERR_DATA_LOSS");
    await expectNamed(store.nars.byRoot(root), "ERR_DATA_LOSS");
  });

  test("is found out: another document", async () => {
    const store = await openWith({ "/GetDocument": { messages: [lengthField(1, message(lengthField(1, "log/other"), lengthField(2, BLOB.digest), numberField(3, 5)))] } });
    await expectNamed(store.documents.get("log/asked"), "ERR_DATA_LOSS");
  });
});

describe("a server that does not answer as gRPC does", () => {
  const replies: readonly (readonly [string, (stream: ServerHttp2Stream) => void])[] = [
    ["headers and then the end, without a status", (stream) => (stream.respond({ ":status": 200, "content-type": "application/grpc" }), stream.end())],
    ["HTTP's 404", (stream) => (stream.respond({ ":status": 404 }), stream.end("not here"))],
    ["HTTP's 502", (stream) => (stream.respond({ ":status": 502 }), stream.end("bad gateway"))],
    ["HTTP's 200 with a page", (stream) => (stream.respond({ ":status": 200, "content-type": "text/html" }), stream.end("<html>"))],
    ["a message that is cut short", (stream) => (stream.respond({ ":status": 200, "content-type": "application/grpc" }), stream.end(frameOf(only(BLOB.bytes)).subarray(0, 1000)))],
    ["a message that is not protobuf", (stream) => (stream.respond({ ":status": 200, "content-type": "application/grpc" }), stream.end(frameOf(Buffer.from("0aff", "hex"))))],
    ["a reset stream", (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR)],
    ["a reset stream after headers", (stream) => (stream.respond({ ":status": 200, "content-type": "application/grpc" }), setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), 5))],
    ["a message of 4 GiB", (stream) => (stream.respond({ ":status": 200, "content-type": "application/grpc" }), stream.end(Buffer.of(0, 255, 255, 255, 255, 1, 2, 3)))],
    ["a status that is none", (stream) => stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "purple" }, { endStream: true })],
  ];

  test.for(replies)("is an error of ours, and never nothing: %s", async ([, reply]) => {
    const store = await openWith({ "/Read": () => reply, "/Stat": () => reply, "/Put": () => reply, "/Get": () => reply, "/GetNar": () => reply, "/BatchReadBlobs": () => reply });
    const calls = [
      readAll(store),
      store.blobs.stat(BLOB.digest),
      store.blobs.put(sourceOf(BLOB.bytes)),
      store.directories.get(LEAF.digest),
      readClosure(store, LEAF.digest),
      store.directories.putClosure([LEAF.bytes]),
      store.pathInfos.get(new Uint8Array(20)),
      store.nars.byNarHash(sha256Of("x")),
      collectItems(store.blobs.readMany([BLOB])),
    ];
    for (const outcome of await within(Promise.allSettled(calls), 20_000)) {
      expect(outcome).toMatchObject({ status: "rejected" });
      if (outcome.status === "rejected") expect(outcome.reason).toBeInstanceOf(NarborError);
    }
  });

  test("is an error when it breaks off in the middle of a blob, of a closure, of a list", async () => {
    const breakOff = (first: Uint8Array) => (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(frameOf(first));
      setTimeout(() => stream.session?.destroy(), 20);
    };
    const store = await openWith({
      "/Read": () => breakOff(only(BLOB.bytes.subarray(0, 40_000))),
      "DirectoryService/Get": () => breakOff(ROOT.bytes),
      "/List": () => breakOff(encodePathInfo(pathInfoOf("first"))),
    });
    await expectNamed(readAll(store), "ERR_UNAVAILABLE");
    await expectNamed(readClosure(store, ROOT.digest), "ERR_UNAVAILABLE");
    await expectNamed(collectItems(store.pathInfos.list()), "ERR_UNAVAILABLE");
  });

  test("is asked again when it breaks off before the first message, and is then believed", async () => {
    let reads = 0;
    const { store, server } = await openScripted({
      ...NARBOR,
      "/Read": () => (++reads < 3 ? (stream: ServerHttp2Stream) => stream.session?.destroy() : { messages: [only(BLOB.bytes)] }),
    });
    expect(await readAll(store)).toHaveLength(BLOB.size);
    expect(server.asked("/Read")).toHaveLength(3);
  });

  test("closes the source of a Put() that the server breaks off, or answers before its end, and gives an error", async () => {
    const replies: readonly ((stream: ServerHttp2Stream) => void)[] = [
      (stream) => stream.close(constants.NGHTTP2_CANCEL),
      (stream) => stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "8", "grpc-message": "full" }, { endStream: true }),
      (stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(frameOf(only(BLOB.digest)));
      },
    ];
    for (const reply of replies) {
      const early = await openEarly(reply);
      const source = new TrackedSource([BLOB.bytes], "stuck");
      const client = new GrpcStore(`grpc://127.0.0.1:${early}`);
      onTestFinished(async () => await client[Symbol.asyncDispose]());
      expect(await rejection(client.blobs.put(source))).toBeInstanceOf(NarborError);
      expect(source.closed).toBe(true);
    }
  });
});

/** A Narbor that answers Put() as soon as it begins. */
async function openEarly(reply: (stream: ServerHttp2Stream) => void): Promise<number> {
  const server = createHttp2Server();
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    const path = String(headers[":path"]);
    if (path.endsWith("/Put")) return reply(stream);
    stream.resume();
    const isInfo = path.endsWith("/GetInfo");
    stream.respond({ ":status": 200, "content-type": "application/grpc", ...(!isInfo && { "grpc-status": "12" }) }, isInfo ? { waitForTrailers: true } : { endStream: true });
    if (!isInfo) return;
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(frameOf(numberField(1, 1)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const session of sessions) session.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A TCP server on some port. */
async function listen(onConnection: (socket: Socket) => void, make: (listener: (socket: Socket) => void) => Server = createServer): Promise<{ readonly port: number }> {
  const sockets = new Set<Socket>();
  const server = make((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return server.address() as AddressInfo;
}

/** Everything that a store can be asked, none of which may hang. */
function everything(store: GrpcStore): readonly Promise<unknown>[] {
  return [
    store.blobs.stat(BLOB.digest),
    store.blobs.findMissing([BLOB.digest]),
    store.blobs.put(sourceOf(BLOB.bytes)),
    store.blobs.putMany([BLOB]),
    readAll(store),
    collectItems(store.blobs.readMany([BLOB])),
    store.directories.get(LEAF.digest),
    store.directories.getClosure(LEAF.digest),
    store.directories.putClosure([LEAF.bytes]),
    store.pathInfos.get(new Uint8Array(20)),
    store.pathInfos.put(pathInfoOf("x")),
    collectItems(store.pathInfos.list()),
    store.pathInfos.delete(new Uint8Array(20)),
    store.nars.byNarHash(sha256Of("x")),
    store.nars.byRoot(symlinkNode("x")),
    store.documents.get("log/x"),
    store.directorySizeProfile(),
    store.describe(),
  ];
}

async function expectAllUnavailable(address: string, pattern: RegExp): Promise<void> {
  const store = new GrpcStore(address);
  try {
    for (const outcome of await within(Promise.allSettled(everything(store)), 25_000)) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_UNAVAILABLE" } });
      if (outcome.status === "rejected") {
        expect((outcome.reason as Error).message).toMatch(pattern);
        expect((outcome.reason as Error).message).toContain(address);
      }
    }
  } finally {
    await store[Symbol.asyncDispose]();
  }
}

describe("a server that is none, or something else", () => {
  test("is ERR_UNAVAILABLE with its address after some seconds, whatever is asked and however it is none", async () => {
    const free = await new Promise<AddressInfo>((resolve) => {
      const server = createServer().listen(0, "127.0.0.1", () => {
        const address = server.address() as AddressInfo;
        server.close(() => resolve(address));
      });
    });
    const closes = await listen((socket) => void socket.destroy());
    const noise = await listen((socket) => void socket.write(sampleBytes(1000)));
    const http1 = await listen(
      () => undefined,
      (listener) => createHttpServer((_request, response) => void response.end("hello")).on("connection", listener) as unknown as Server,
    );
    await Promise.all([
      expectAllUnavailable(`grpc://127.0.0.1:${free.port}`, /ECONNREFUSED/),
      expectAllUnavailable(`grpc+unix:${join(tmpdir(), `narbor-${randomUUID()}.sock`)}`, /ENOENT/),
      expectAllUnavailable("grpc://narbor.invalid:7420", /./),
      expectAllUnavailable(`grpc://127.0.0.1:${closes.port}`, /Cannot reach/),
      expectAllUnavailable(`grpc://127.0.0.1:${noise.port}`, /Cannot reach/),
      expectAllUnavailable(`grpc://127.0.0.1:${http1.port}`, /Cannot reach/),
    ]);
  });

  test("is ERR_UNAVAILABLE after the address's timeout, which it says: it takes connections and never answers", async () => {
    const { port } = await listen(() => undefined);
    const started = Date.now();
    await expectAllUnavailable(`grpc://127.0.0.1:${port}?timeout=0.5`, /for 0\.5 s/);
    expect(Date.now() - started).toBeLessThan(5000);
  });

  test("is ERR_UNAVAILABLE after the address's timeout, which it says: it answers headers and then nothing", async () => {
    const silent: Script = { "": () => (stream) => stream.respond({ ":status": 200, "content-type": "application/grpc" }) };
    const { server } = await openScripted(silent);
    await expectAllUnavailable(`${server.address}?timeout=0.5`, /for 0\.5 s/);
  });

  test("is ERR_UNAVAILABLE after the timeout when a blob stops coming half-way; a reader that is slow itself is not", async () => {
    const half = (stream: ServerHttp2Stream): void => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(frameOf(only(BLOB.bytes.subarray(0, 20_000))));
      stream.write(frameOf(only(BLOB.bytes.subarray(20_000, 40_000))));
    };
    const store = await openWith({ "/Read": () => half }, "?timeout=0.5");
    const pieces = (await store.blobs.openRead(BLOB.digest)) as AsyncIterable<Uint8Array>;
    const reading = (async () => {
      for await (const _bytes of pieces) await new Promise((resolve) => setTimeout(resolve, 1000));
    })();
    await expectCode(reading, "ERR_UNAVAILABLE", /for 0\.5 s/);
  });

  test("is ERR_UNAVAILABLE after the timeout when messages without a byte go on coming", async () => {
    const empty = (stream: ServerHttp2Stream): void => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      const timer = setInterval(() => stream.write(frameOf(Buffer.alloc(0))), 20);
      stream.on("close", () => clearInterval(timer));
    };
    const store = await openWith({ "/Read": () => empty }, "?timeout=0.5");
    await expectCode(within(readAll(store), 5000), "ERR_UNAVAILABLE", /for 0\.5 s/);
  });

  test("cannot write to a terminal by what it says", async () => {
    const store = await openWith({ "/Read": { status: STATUS.INVALID_ARGUMENT, message: "sorry%0Aline two %1b[31mred%C2%9B" } });
    await expect(readAll(store)).rejects.toThrow(/: sorry\\u000aline two \\u001b\[31mred\\u009b$/);
  });

  test("is said to be none when it answers in text", async () => {
    const store = await openWith({
      "/Read": () => (stream) => {
        stream.respond({ ":status": 200, "content-type": "text/html" });
        stream.end("<html><body>It works!</body></html>");
      },
    });
    await expect(readAll(store)).rejects.toThrow(/^grpc:\/\/127\.0\.0\.1:\d+: it answers in something that is not gRPC$/);
  });

  test("does not hold up a store that is closed meanwhile: what is under way ends with ERR_CLOSED", async () => {
    const { port } = await listen(() => undefined);
    const store = new GrpcStore(`grpc://127.0.0.1:${port}`);
    const calls = everything(store);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await store[Symbol.asyncDispose]();
    for (const outcome of await within(Promise.allSettled(calls), 5000)) expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_CLOSED" } });
  });

  test("answers a call whose signal fires with its reason, also while it waits for its turn behind 128 others", async () => {
    const { store } = await openScripted({ ...NARBOR, "/Stat": () => (stream) => stream.respond({ ":status": 200, "content-type": "application/grpc" }) });
    const others = Promise.allSettled(Array.from({ length: 130 }, async () => await store.blobs.stat(BLOB.digest)));
    const controller = new AbortController();
    const calls = [store.blobs.stat(BLOB.digest, controller), store.blobs.put(sourceOf(BLOB.bytes), controller), store.pathInfos.get(new Uint8Array(20), controller)];
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 50);
    for (const outcome of await within(Promise.allSettled(calls), 2000)) expect(outcome).toEqual({ status: "rejected", reason });
    await store[Symbol.asyncDispose]();
    for (const outcome of await within(others, 2000)) expect(outcome).toMatchObject({ status: "rejected", reason: { code: "ERR_CLOSED" } });
  });

  test("answers a call whose signal has fired with its reason, while it never answers itself", async () => {
    const { port } = await listen(() => undefined);
    const store = new GrpcStore(`grpc://127.0.0.1:${port}`);
    onTestFinished(async () => await store[Symbol.asyncDispose]());
    const controller = new AbortController();
    const calls = [store.blobs.stat(BLOB.digest, controller), store.blobs.put(sourceOf(BLOB.bytes), controller), store.directories.get(toB3Digest(LEAF.digest), controller)];
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 50);
    for (const outcome of await within(Promise.allSettled(calls), 2000)) expect(outcome).toEqual({ status: "rejected", reason });
  });
});

/** What our client sends, byte for byte, to a server that shares nothing with ours; and what it makes of the answers. */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { toB3Digest } from "../../../src/castore/digest.ts";
import type { NamedDirectory } from "../../../src/castore/directory-order.ts";
import { decodePathInfo, encodePathInfo } from "../../../src/store/path-info-message.ts";
import { collect, collectItems, expectBytes, hexes, sampleBytes } from "../../helpers/bytes.ts";
import { CLOSURES, FAMILIES, PATH_INFOS, blobNamed, casDigest, directoryVector, getDirectoryRequest, only, statRequest } from "../../helpers/castore-messages.ts";
import { expectCode } from "../../helpers/promises.ts";
import { UNKNOWN_FIELDS, bytesOf, lengthField, message, numberField } from "../../helpers/raw-protobuf.ts";
import type { RawGrpcServer } from "../../helpers/raw-grpc.ts";
import { STATUS } from "../../helpers/raw-grpc.ts";
import type { Script } from "../../helpers/scripted-server.ts";
import { NARBOR, openScripted } from "../../helpers/scripted-server.ts";
import { sourceOf } from "../../helpers/tracked-source.ts";
import { PROFILES } from "../../helpers/vectors.ts";

const HELLO = blobNamed("helloworld");
const hello = toB3Digest(HELLO.digest);

/** A server with castore and store services only, under one of the two names. */
function stock(family: (typeof FAMILIES)[number], script: Script): Script {
  return {
    [`${family}.castore.v1.BlobService/Stat`]: { status: STATUS.NOT_FOUND, message: "no" },
    ...Object.fromEntries(Object.entries(script).map(([name, reply]) => [`${family}.${name}`, reply])),
  };
}

/** The messages that a method was sent, as base16. */
function sent(server: RawGrpcServer, method: string): string[][] {
  return server.asked(method).map(({ messages }) => hexes(messages));
}

describe.for(FAMILIES)("GrpcStore with a server that has %s.* only", (family) => {
  test("finds out which names there are, and asks no more", async () => {
    const { server, store } = await openScripted(stock(family, { "castore.v1.BlobService/Stat": { messages: [Buffer.alloc(0)] } }));
    expect(await store.blobs.stat(hello)).toEqual({ chunks: [] });
    expect(await store.blobs.stat(hello)).toEqual({ chunks: [] });
    expect(server.asked("/GetInfo")).toHaveLength(1);
    expect(server.asked("/GetCapabilities")).toHaveLength(1);
    expect(sent(server, `/${family}.castore.v1.BlobService/Stat`).slice(1)).toEqual([[statRequest(HELLO.digest, true).toString("hex")], [statRequest(HELLO.digest, true).toString("hex")]]);
    expect(await store.describe()).toMatchObject({ server: `${family} (no Narbor)` });
  });

  test("sends the blob and takes the digest, in frames of at most 1 MiB", async () => {
    const bytes = sampleBytes(3_500_000);
    const { digest } = toSmallBlob(bytes);
    const { server, store } = await openScripted(stock(family, { "castore.v1.BlobService/Put": { messages: [message(UNKNOWN_FIELDS, only(digest))] } }));
    expect(await store.blobs.put(sourceOf(bytes))).toEqual(digest);
    const [request] = server.asked(`/${family}.castore.v1.BlobService/Put`);
    expect(request?.headers).toMatchObject({ te: "trailers", "content-type": "application/grpc" });
    const pieces = request?.messages.flatMap((piece) => bytesOf(piece, 1)) ?? [];
    expectBytes(Buffer.concat(pieces), bytes);
    expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(1024 * 1024);
    expect(request?.messages.map((piece, index) => piece.equals(only(pieces[index] as Buffer)))).not.toContain(false);
  });

  test.for([1, 4096, 5_000_000])("reads a blob that comes in frames of %i bytes", async (size) => {
    const bytes = sampleBytes(size === 1 ? 300 : 5_000_000);
    const { digest } = toSmallBlob(bytes);
    const frames = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => only(bytes.subarray(index * size, (index + 1) * size)));
    const { server, store } = await openScripted(stock(family, { "castore.v1.BlobService/Read": { messages: [...frames, Buffer.alloc(0), UNKNOWN_FIELDS] } }));
    expectBytes(await collect((await store.blobs.openRead(digest)) as AsyncIterable<Uint8Array>), bytes);
    expect(sent(server, `/${family}.castore.v1.BlobService/Read`)).toEqual([[only(digest).toString("hex")]]);
  });

  test.for(PROFILES)("sends directories of %s sizes as they are, leaves to root, and gets them", async (profile) => {
    for (const [name, names] of Object.entries(CLOSURES)) {
      const root = directoryVector(name, profile);
      const closure = names.map((each) => directoryVector(each, profile).bytes);
      const { server, store } = await openScripted(
        stock(family, {
          "castore.v1.DirectoryService/Put": { messages: [only(root.digest)] },
          "castore.v1.DirectoryService/Get": (request) => ({ messages: request.messages[0]?.equals(getDirectoryRequest(root.digest, true)) === true ? closure.toReversed() : [root.bytes] }),
        }),
      );
      expectBytes(await store.directories.putClosure(closure), root.digest);
      expect(sent(server, "/Put")).toEqual([hexes(closure)]);
      expectBytes(await store.directories.get(toB3Digest(root.digest)), root.bytes);
      const got = await collectItems((await store.directories.getClosure(toB3Digest(root.digest))) ?? sourceOf<NamedDirectory>());
      expect(new Set(hexes(got.map(({ bytes }) => bytes)))).toEqual(new Set(hexes(closure)));
      expect(sent(server, `/${family}.castore.v1.DirectoryService/Get`)).toEqual([[getDirectoryRequest(root.digest, false).toString("hex")], [getDirectoryRequest(root.digest, true).toString("hex")]]);
    }
  });

  test.for(PATH_INFOS)("sends %s as its bytes are, and reads it", async ([, bytes]) => {
    const { server, store } = await openScripted(stock(family, { "store.v1.PathInfoService/Put": { messages: [bytes] }, "store.v1.PathInfoService/Get": { messages: [bytes] }, "store.v1.PathInfoService/List": { messages: [bytes] } }));
    const pathInfo = decodePathInfo(bytes);
    expectBytes(encodePathInfo(await store.pathInfos.put(pathInfo)), bytes);
    expect(await store.pathInfos.get(new Uint8Array(20))).toEqual(pathInfo);
    expect(await collectItems(store.pathInfos.list())).toEqual([pathInfo]);
    expect(sent(server, `/${family}.store.v1.PathInfoService/Put`)).toEqual([[bytes.toString("hex")]]);
    expect(sent(server, `/${family}.store.v1.PathInfoService/Get`)).toEqual([[only(new Uint8Array(20)).toString("hex")]]);
    expect(sent(server, `/${family}.store.v1.PathInfoService/List`)).toEqual([[""]]);
  });

  test("takes NOT_FOUND for nothing, and every other status for an error with its code and the address", async () => {
    const codes = { 1: "ERR_UNAVAILABLE", 2: "ERR_STORE", 3: "ERR_INVALID", 4: "ERR_UNAVAILABLE", 7: "ERR_FORBIDDEN", 8: "ERR_LIMIT", 9: "ERR_INVALID", 11: "ERR_OUT_OF_RANGE", 12: "ERR_UNSUPPORTED", 13: "ERR_STORE", 15: "ERR_DATA_LOSS", 16: "ERR_FORBIDDEN" } as const;
    let status: number = STATUS.NOT_FOUND;
    const { store } = await openScripted(
      stock(family, {
        "castore.v1.BlobService/Read": () => ({ status, message: "broken%20%C3%B6" }),
        "castore.v1.BlobService/Put": () => ({ status, message: "broken%20%C3%B6" }),
        "castore.v1.DirectoryService/Get": () => ({ status, message: "broken%20%C3%B6" }),
        "store.v1.PathInfoService/Get": () => ({ status, message: "broken%20%C3%B6" }),
      }),
    );
    expect(await store.pathInfos.get(new Uint8Array(20))).toBeUndefined();
    expect(await store.blobs.openRead(hello)).toBeUndefined();
    expect(await store.directories.get(hello)).toBeUndefined();
    expect(await store.directories.getClosure(hello)).toBeUndefined();
    for (const [number, code] of Object.entries(codes)) {
      status = Number(number);
      await expectCode(store.pathInfos.get(new Uint8Array(20)), code, /^grpc:\/\/127\.0\.0\.1:\d+: broken ö$/);
      for (const call of [store.blobs.openRead(hello), store.directories.get(hello), store.directories.getClosure(hello), collectItems(store.blobs.readMany([{ digest: hello, size: 12 }]))]) await expectCode(call, code, /broken ö$/);
      await expectCode(store.blobs.put(sourceOf(HELLO.bytes)), code, /^grpc:\/\/127\.0\.0\.1:\d+: broken ö$/);
    }
  });
});

describe("GrpcStore with a Narbor", () => {
  test("asks for many blobs, sends them and reads them in one call each, in these bytes", async () => {
    const blobs = [toSmallBlob(HELLO.bytes), toSmallBlob(sampleBytes(1000)), toSmallBlob(new Uint8Array(0))];
    const answer = (digest: Uint8Array, ...fields: Uint8Array[]): Buffer => lengthField(1, message(lengthField(1, digest), ...fields));
    const { server, store } = await openScripted({
      ...NARBOR,
      "/FindMissingBlobs": { messages: [message(...blobs.slice(1).map(({ digest }) => lengthField(2, casDigest(digest, 0))))] },
      "/BatchUpdateBlobs": { messages: [message(...blobs.slice(1).map(({ digest, size }) => answer(casDigest(digest, size))))] },
      "/BatchReadBlobs": { messages: [message(...blobs.toReversed().map(({ digest, size, bytes }) => answer(casDigest(digest, size), lengthField(2, bytes), lengthField(3, "", true))))] },
    });
    await store.blobs.putMany(blobs);
    const digests = blobs.map(({ digest }) => lengthField(2, casDigest(digest, 0)));
    expect(sent(server, "/FindMissingBlobs")).toEqual([[message(...digests, numberField(3, 9)).toString("hex")]]);
    const requests = blobs.slice(1).map(({ digest, size, bytes }) => lengthField(2, message(lengthField(1, casDigest(digest, size)), lengthField(2, bytes))));
    expect(sent(server, "/BatchUpdateBlobs")).toEqual([[message(...requests, numberField(5, 9)).toString("hex")]]);
    const read = await collectItems(store.blobs.readMany([...blobs, blobs[0] as (typeof blobs)[number]]));
    expect(hexes(read)).toEqual(hexes([...blobs, blobs[0] as (typeof blobs)[number]].map(({ bytes }) => bytes)));
    const wanted = blobs.map(({ digest, size }) => lengthField(2, casDigest(digest, size)));
    expect(sent(server, "/BatchReadBlobs")).toEqual([[message(...wanted, numberField(4, 9)).toString("hex")]]);
  });

  test.for([
    ["ERR_NO_SPACE", STATUS.RESOURCE_EXHAUSTED, "ERR_NO_SPACE"],
    ["ERR_CASTORE_INVALID", STATUS.INVALID_ARGUMENT, "ERR_CASTORE_INVALID"],
    // The two do not agree: the status is what counts.
    ["ERR_NO_SPACE", STATUS.INVALID_ARGUMENT, "ERR_INVALID"],
    ["ERR_WHATEVER", STATUS.DATA_LOSS, "ERR_DATA_LOSS"],
    ["__proto__", STATUS.DATA_LOSS, "ERR_DATA_LOSS"],
  ] as const)("takes %s in the trailers with status %i for %s", async ([said, status, expected]) => {
    const { store } = await openScripted({
      ...NARBOR,
      "snix.castore.v1.BlobService/Put": () => (stream) => stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": String(status), "grpc-message": "full", "narbor-error-code": said }, { endStream: true }),
    });
    await expectCode(store.blobs.put(sourceOf(HELLO.bytes)), expected, /full/);
  });

  test("keeps to batches that the server takes, and to single blobs when it takes too little together", async () => {
    const capabilities = (limit: number): Script => ({ ...NARBOR, "/GetCapabilities": { messages: [lengthField(1, message(lengthField(1, Buffer.of(1, 9)), numberField(4, limit)))] } });
    const blobs = Array.from({ length: 4 }, (_, index) => toSmallBlob(sampleBytes(700_000, index + 1)));
    const batches = {
      "/FindMissingBlobs": { messages: [message(...blobs.map(({ digest }) => lengthField(2, casDigest(digest, 0))))] },
      "/BatchUpdateBlobs": (request: { readonly messages: readonly Buffer[] }) => ({
        messages: [message(...bytesOf(request.messages[0] as Buffer, 2).map((each) => lengthField(1, lengthField(1, bytesOf(each, 1)[0] as Buffer))))],
      }),
      "/Stat": { status: STATUS.NOT_FOUND },
      "BlobService/Put": (request: { readonly messages: readonly Buffer[] }) => ({ messages: [only(toSmallBlob(bytesOf(request.messages[0] as Buffer, 1)[0] as Buffer).digest)] }),
    } satisfies Script;
    for (const [limit, calls, singles] of [[1_500_000, 2, 0], [0, 1, 0], [1000, 0, 4], [1e9, 1, 0]] as const) {
      const { server, store } = await openScripted({ ...capabilities(limit), ...batches });
      await store.blobs.putMany(blobs);
      expect([limit, server.asked("/BatchUpdateBlobs").length, server.asked("BlobService/Put").length]).toEqual([limit, calls, singles]);
    }
  });

  test("does not use batches of a server that knows no BLAKE3", async () => {
    const { server, store } = await openScripted({
      ...NARBOR,
      "/GetCapabilities": { messages: [lengthField(1, message(lengthField(1, Buffer.of(1)), numberField(4, 4_000_000)))] },
      "/Stat": { status: STATUS.NOT_FOUND },
    });
    expect(await store.blobs.findMissing([hello])).toEqual([hello]);
    expect(server.asked("/FindMissingBlobs")).toEqual([]);
  });
});

test.for(["grpc_proxy", "https_proxy", "http_proxy"])("GrpcStore goes to its server directly, whatever %s says", async (variable) => {
  onTestFinished(() => void vi.unstubAllEnvs());
  // No one listens there.
  vi.stubEnv(variable, "http://127.0.0.1:1");
  const { store } = await openScripted({ ...NARBOR, "/Stat": { messages: [Buffer.alloc(0)] } });
  expect(await store.blobs.stat(hello)).toEqual({ chunks: [] });
});

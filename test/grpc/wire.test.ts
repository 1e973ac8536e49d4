/** The castore and store services by the bytes of their messages, asked by a client that shares nothing with ours. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import type { TestGrpcServer } from "../helpers/grpc-store.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { BLOBS, CLOSURES, FAMILIES, PATH_INFOS, blobNamed, directoryEntry, directoryVector, entryOf, fromHex, getDirectoryRequest, only, statRequest } from "../helpers/castore-messages.ts";
import { RawGrpcClient, STATUS, frameOf } from "../helpers/raw-grpc.ts";
import { UNKNOWN_FIELDS, bytesOf, lengthField, message, numberField, numberOf, readFields } from "../helpers/raw-protobuf.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import { CASTORE_VECTORS, PROFILES, narVector } from "../helpers/vectors.ts";

let store: MemoryStore;
let server: TestGrpcServer;
let client: RawGrpcClient;

beforeEach(async () => {
  store = new MemoryStore();
  server = await serveGrpc(store, { idleMilliseconds: 5000 });
  client = new RawGrpcClient(server.port);
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
});

const KIB = 1024;

describe.for(FAMILIES)("%s.castore.v1.BlobService", (family) => {
  const service = `/${family}.castore.v1.BlobService`;

  test.for(BLOBS.map((blob) => [blob.name, blob] as const))("Put() answers the digest of %s, and Stat() and Read() find it", async ([, { bytes, digest }]) => {
    expectBytes(await client.ask(`${service}/Put`, only(bytes)), only(digest));
    expectBytes(await client.ask(`${service}/Stat`, statRequest(digest, false)), Buffer.alloc(0));
    const { status, messages } = await client.call(`${service}/Read`, [only(digest)]);
    expect(status).toBe(STATUS.OK);
    expectBytes(Buffer.concat(messages.flatMap((chunk) => bytesOf(chunk, 1))), bytes);
  });

  test("Put() of a stream without a message is the empty blob", async () => {
    expectBytes(await client.ask(`${service}/Put`), only(blobNamed("empty").digest));
    expect((await client.call(`${service}/Read`, [only(blobNamed("empty").digest)])).status).toBe(STATUS.OK);
  });

  test.for([1, 7, 100, 1000])("Put() does not care that a blob comes in pieces of %i bytes, with empty ones between", async (size) => {
    const bytes = sampleBytes(3000);
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => only(bytes.subarray(index * size, (index + 1) * size)));
    expectBytes(await client.ask(`${service}/Put`, ...pieces.flatMap((piece) => [piece, only("")])), only(blake3(bytes)));
  });

  test.for([1, 3, 4, 6])("Put() does not care that messages come in TCP's and HTTP/2's pieces of %i bytes", async (size) => {
    const body = Buffer.concat([frameOf(only("Hello ")), frameOf(only("World!"))]);
    const call = client.begin(`${service}/Put`);
    for (let start = 0; start < body.length; start += size) call.stream.write(body.subarray(start, start + size));
    call.stream.end();
    expectBytes((await call.answer).messages[0], only(blobNamed("helloworld").digest));
  });

  test("Stat() gives the chunks of a blob that is split when they are asked for, and says nothing in field 1", async () => {
    const { bytes, digest } = blobNamed("BLOB_B");
    await client.ask(`${service}/Put`, only(bytes));
    const answer = await client.ask(`${service}/Stat`, statRequest(digest, true));
    expect(readFields(answer).map(({ number }) => number)).not.toContain(1);
    const chunks = bytesOf(answer, 2);
    // A memory store keeps a blob whole or by its chunks; both are right, and what is said must add up.
    const stat = await store.blobs.stat(toB3Digest(digest));
    expect(chunks.map((chunk) => [bytesOf(chunk, 1)[0]?.toString("hex"), numberOf(chunk, 2)])).toEqual(stat?.chunks.map((chunk) => [Buffer.from(chunk.digest).toString("hex"), chunk.size]));
    expect(bytesOf(await client.ask(`${service}/Stat`, statRequest(digest, false)), 2)).toEqual([]);
  });

  test("Read() sends 256 KiB to 1 MiB at a time, and less only at the end", async () => {
    const bytes = sampleBytes(5_000_001);
    await store.blobs.put(sourceOf(...Array.from({ length: 51 }, (_, index) => bytes.subarray(index * 100_000, (index + 1) * 100_000))));
    const { messages } = await client.call(`${service}/Read`, [only(blake3(bytes))]);
    const sizes = messages.map((chunk) => bytesOf(chunk, 1)[0]?.length ?? 0);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1024 * KIB);
    expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThanOrEqual(256 * KIB);
    expectBytes(Buffer.concat(messages.flatMap((chunk) => bytesOf(chunk, 1))), bytes);
  });

  test("ignores unknown fields in every request", async () => {
    const { bytes, digest } = blobNamed("helloworld");
    expectBytes(await client.ask(`${service}/Put`, message(UNKNOWN_FIELDS, only(bytes.subarray(0, 5)), UNKNOWN_FIELDS), message(UNKNOWN_FIELDS, only(bytes.subarray(5)))), only(digest));
    expectBytes(await client.ask(`${service}/Stat`, message(UNKNOWN_FIELDS, statRequest(digest, false), UNKNOWN_FIELDS)), Buffer.alloc(0));
    expectBytes(await client.ask(`${service}/Read`, message(UNKNOWN_FIELDS, only(digest))), only(bytes));
  });

  test("takes the last of a field that is there twice", async () => {
    expectBytes(await client.ask(`${service}/Put`, message(only("not this"), only("Hello World!"))), only(blobNamed("helloworld").digest));
  });

  test.for([
    ["Stat() of what is not stored", "Stat", [only(new Uint8Array(32))], STATUS.NOT_FOUND],
    ["Read() of what is not stored", "Read", [only(new Uint8Array(32))], STATUS.NOT_FOUND],
    ["Stat() of a digest of 31 bytes", "Stat", [only(new Uint8Array(31))], STATUS.INVALID_ARGUMENT],
    ["Stat() of a digest of 33 bytes", "Stat", [only(new Uint8Array(33))], STATUS.INVALID_ARGUMENT],
    ["Stat() without a digest", "Stat", [Buffer.alloc(0)], STATUS.INVALID_ARGUMENT],
    ["Read() of a digest of 31 bytes", "Read", [only(new Uint8Array(31))], STATUS.INVALID_ARGUMENT],
    ["Read() without a digest", "Read", [Buffer.alloc(0)], STATUS.INVALID_ARGUMENT],
    ["Stat() of what is no message", "Stat", [fromHex("0affff")], STATUS.INVALID_ARGUMENT],
    ["Read() of what is no message", "Read", [fromHex("07")], STATUS.INVALID_ARGUMENT],
    ["Stat() with a number for a digest", "Stat", [numberField(1, 5)], STATUS.INVALID_ARGUMENT],
    ["Put() of what is no message", "Put", [only("fine"), fromHex("0affff")], STATUS.INVALID_ARGUMENT],
    ["Put() of a message with field 0", "Put", [fromHex("00")], STATUS.INVALID_ARGUMENT],
    ["a method that there is none of", "Frobnicate", [only("")], STATUS.UNIMPLEMENTED],
  ] as const)("%s is refused with the right status", async ([, method, messages, expected]) => {
    const { status, message: text } = await client.call(`${service}/${method}`, messages);
    expect({ status, text }).toEqual({ status: expected, text: expect.stringMatching(/./) });
  });

  test("Put() of a part that is wrong stores nothing of what came before", async () => {
    await client.call(`${service}/Put`, [only("Hello World!"), fromHex("0affff")]);
    expect((await client.call(`${service}/Stat`, [only(blobNamed("helloworld").digest)])).status).toBe(STATUS.NOT_FOUND);
  });

  test("Put() that is refused early answers at once, while the client still has a lot to send", async () => {
    const call = client.begin(`${service}/Put`);
    call.send(fromHex("0affff"));
    const more = setInterval(() => call.stream.writable && call.send(only(sampleBytes(300_000))), 5);
    try {
      expect((await call.answer).status).toBe(STATUS.INVALID_ARGUMENT);
    } finally {
      clearInterval(more);
    }
    expect((await client.call(`${service}/Stat`, [only(new Uint8Array(32))])).status).toBe(STATUS.NOT_FOUND);
  });

  test("a message of more than 32 MiB is RESOURCE_EXHAUSTED", async () => {
    const call = client.begin(`${service}/Put`);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(32 * 1024 * KIB + 1, 1);
    call.stream.write(head);
    call.stream.write(Buffer.alloc(1000));
    expect((await call.answer).status).toBe(STATUS.RESOURCE_EXHAUSTED);
  });
});

describe.for(FAMILIES.flatMap((family) => PROFILES.map((profile) => [family, profile] as const)))("%s.castore.v1.DirectoryService with %s sizes", ([family, profile]) => {
  const service = `/${family}.castore.v1.DirectoryService`;
  const vector = (name: string): ReturnType<typeof directoryVector> => directoryVector(name, profile);

  test.for(Object.keys(CLOSURES) as (keyof typeof CLOSURES)[])("Put() answers the digest of %s, and Get() gives the same bytes, also recursively", async (name) => {
    const closure = CLOSURES[name].map(vector);
    const root = vector(name);
    expectBytes(await client.ask(`${service}/Put`, ...closure.map(({ bytes }) => bytes)), only(root.digest));
    expectBytes(await client.ask(`${service}/Get`, getDirectoryRequest(root.digest, false)), root.bytes);
    const { status, messages } = await client.call(`${service}/Get`, [getDirectoryRequest(root.digest, true)]);
    expect(status).toBe(STATUS.OK);
    // Root first, breadth-first, each once. All of them are one below another but for D, whose A comes as its own child before B's.
    const expected = name === "D" ? [root, vector("A"), vector("B")] : closure.toReversed();
    expect(messages.map((bytes) => bytes.toString("hex"))).toEqual(expected.map(({ bytes }) => bytes.toString("hex")));
  });

  test("Put() tolerates a directory that comes twice, and unknown fields and another order of fields, of which nothing is stored", async () => {
    const [keep, root] = [vector("WITH_KEEP"), vector("COMPLICATED")];
    const lists = readFields(root.bytes).toReversed();
    const reordered = message(UNKNOWN_FIELDS, ...lists.map(({ number, value }) => lengthField(number, message(value as Buffer, UNKNOWN_FIELDS))));
    expectBytes(await client.ask(`${service}/Put`, keep.bytes, message(keep.bytes, UNKNOWN_FIELDS), reordered), only(root.digest));
    expectBytes(await client.ask(`${service}/Get`, message(UNKNOWN_FIELDS, getDirectoryRequest(root.digest, false), UNKNOWN_FIELDS)), root.bytes);
    expectBytes(await client.ask(`${service}/Get`, getDirectoryRequest(keep.digest, false)), keep.bytes);
  });

  test("Put() takes a default that is written out for the same directory", async () => {
    const spelled = lengthField(2, message(lengthField(1, ".keep"), lengthField(2, blobNamed("empty").digest), Buffer.from("18002000", "hex")));
    expectBytes(await client.ask(`${service}/Put`, spelled), only(vector("WITH_KEEP").digest));
  });

  test("a directory that was put under one name of the service is got under the other", async () => {
    await client.ask(`${service}/Put`, vector("A").bytes);
    for (const other of FAMILIES) expectBytes(await client.ask(`/${other}.castore.v1.DirectoryService/Get`, getDirectoryRequest(vector("A").digest, false)), vector("A").bytes);
  });

  test.for([
    ["no directory at all", () => []],
    ["a child that was not sent", () => [vector("COMPLICATED").bytes]],
    ["a child that comes after its parent", () => [vector("COMPLICATED").bytes, vector("WITH_KEEP").bytes]],
    ["two roots", () => [vector("A").bytes, vector("WITH_KEEP").bytes]],
    ["a directory that hangs from nothing, and then a root", () => [vector("WITH_KEEP").bytes, vector("A").bytes, vector("B").bytes]],
    ["a wrong size of a child", () => [vector("WITH_KEEP").bytes, directoryEntry("keep", vector("WITH_KEEP").digest, 3)]],
    ["a size of a child that is left out", () => [vector("WITH_KEEP").bytes, directoryEntry("keep", vector("WITH_KEEP").digest, 0)]],
    ["a digest of 31 bytes", () => [directoryEntry("a", new Uint8Array(31), 0)]],
    ["what is no message", () => [fromHex("0affff")]],
    ["names out of order", () => [vector("A").bytes, message(directoryEntry("b", vector("A").digest, 0), directoryEntry("a", vector("A").digest, 0))]],
    ["a name twice", () => [vector("A").bytes, message(directoryEntry("a", vector("A").digest, 0), lengthField(3, message(lengthField(1, "a"), lengthField(2, "target"))))]],
    ["a name with a slash", () => [vector("A").bytes, directoryEntry("a/b", vector("A").digest, 0)]],
    ["a name that is ..", () => [vector("A").bytes, directoryEntry("..", vector("A").digest, 0)]],
    ["an empty name", () => [vector("A").bytes, directoryEntry("", vector("A").digest, 0)]],
    ["sizes that overflow", () => [vector("A").bytes, message(lengthField(1, message(lengthField(1, "a"), lengthField(2, vector("A").digest), numberField(3, 2n ** 64n - 1n))))]],
    ["a symlink to nowhere", () => [lengthField(3, lengthField(1, "a"))]],
  ] as const)("Put() refuses %s with INVALID_ARGUMENT, and stores none of it", async ([, messages]) => {
    const { status, message: text } = await client.call(`${service}/Put`, messages());
    expect({ status, text }).toEqual({ status: STATUS.INVALID_ARGUMENT, text: expect.stringMatching(/./) });
    for (const name of Object.keys(CLOSURES)) expect((await client.call(`${service}/Get`, [getDirectoryRequest(vector(name).digest, false)])).status).toBe(STATUS.NOT_FOUND);
  });

  test("Put() does not count what is stored already as sent", async () => {
    await client.ask(`${service}/Put`, vector("WITH_KEEP").bytes);
    expect((await client.call(`${service}/Put`, [vector("COMPLICATED").bytes])).status).toBe(STATUS.INVALID_ARGUMENT);
  });

  test.for([
    ["of a digest of 31 bytes", getDirectoryRequest(new Uint8Array(31), false), STATUS.INVALID_ARGUMENT],
    ["of a digest of 31 bytes, recursive", getDirectoryRequest(new Uint8Array(31), true), STATUS.INVALID_ARGUMENT],
    ["without by_what", numberField(2, 1), STATUS.INVALID_ARGUMENT],
    ["of what is no message", fromHex("12ff"), STATUS.INVALID_ARGUMENT],
    ["of what is not stored", getDirectoryRequest(Buffer.alloc(32, 1), false), STATUS.NOT_FOUND],
    ["of what is not stored, recursive: well, and without a message", getDirectoryRequest(Buffer.alloc(32, 1), true), STATUS.OK],
  ] as const)("Get() ends as it must: %s", async ([, request, expected]) => {
    const { status, messages } = await client.call(`${service}/Get`, [request]);
    expect({ status, messages }).toEqual({ status: expected, messages: [] });
  });
});

describe.for(FAMILIES)("%s.store.v1.PathInfoService", (family) => {
  const service = `/${family}.store.v1.PathInfoService`;
  const [, pathInfo] = PATH_INFOS[1] as (typeof PATH_INFOS)[number];

  test.for(PATH_INFOS)("Put() of %s answers the bytes that it was sent, and Get() gives them", async ([, bytes]) => {
    expectBytes(await client.ask(`${service}/Put`, bytes), bytes);
    expectBytes(await client.ask(`${service}/Get`, only(new Uint8Array(20))), bytes);
    const { status, messages } = await client.call(`${service}/List`, [Buffer.alloc(0)]);
    expect({ status, count: messages.length }).toEqual({ status: STATUS.OK, count: 1 });
    expectBytes(messages[0], bytes);
  });

  test("Put() ignores unknown fields at every depth, and stores none of them", async () => {
    const sprinkled = (bytes: Uint8Array, depth: number): Buffer =>
      message(
        UNKNOWN_FIELDS,
        ...readFields(bytes).map(({ number, value }) => {
          if (!Buffer.isBuffer(value)) return numberField(number, value);
          return lengthField(number, (depth === 0 && number !== 2) || (depth === 1 && number <= 3 && value.length > 40) ? sprinkled(value, depth + 1) : value);
        }),
      );
    const withUnknown = sprinkled(pathInfo, 0);
    expect(withUnknown.length).toBeGreaterThan(pathInfo.length + 2 * UNKNOWN_FIELDS.length);
    expectBytes(await client.ask(`${service}/Put`, withUnknown), pathInfo);
    expectBytes(await client.ask(`${service}/Get`, message(UNKNOWN_FIELDS, only(new Uint8Array(20)))), pathInfo);
    expect((await client.call(`${service}/List`, [UNKNOWN_FIELDS])).messages).toHaveLength(1);
  });

  test.for([
    ["Get() of 19 bytes", "Get", only(new Uint8Array(19)), STATUS.INVALID_ARGUMENT],
    ["Get() of 32 bytes", "Get", only(new Uint8Array(32)), STATUS.INVALID_ARGUMENT],
    ["Get() without by_what", "Get", Buffer.alloc(0), STATUS.INVALID_ARGUMENT],
    ["Get() of what is no message", "Get", fromHex("0aff"), STATUS.INVALID_ARGUMENT],
    ["Get() of what is not there", "Get", only(Buffer.alloc(20, 7)), STATUS.NOT_FOUND],
    ["Put() of nothing", "Put", Buffer.alloc(0), STATUS.INVALID_ARGUMENT],
    ["Put() without a narinfo", "Put", lengthField(1, bytesOf(pathInfo, 1)[0] as Buffer), STATUS.INVALID_ARGUMENT],
    ["Put() without an entry", "Put", lengthField(3, bytesOf(pathInfo, 3)[0] as Buffer), STATUS.INVALID_ARGUMENT],
    ["Put() with a reference that has no name", "Put", message(pathInfo, lengthField(2, new Uint8Array(20))), STATUS.INVALID_ARGUMENT],
    ["Put() of what is no message", "Put", fromHex("0affff"), STATUS.INVALID_ARGUMENT],
    ["CalculateNAR() of nothing", "CalculateNAR", Buffer.alloc(0), STATUS.INVALID_ARGUMENT],
    ["CalculateNAR() of an entry with a name", "CalculateNAR", lengthField(3, message(lengthField(1, "name"), lengthField(2, "target"))), STATUS.INVALID_ARGUMENT],
    ["CalculateNAR() of a digest of 31 bytes", "CalculateNAR", lengthField(2, lengthField(2, new Uint8Array(31))), STATUS.INVALID_ARGUMENT],
    ["CalculateNAR() of a file that is not stored", "CalculateNAR", lengthField(2, message(lengthField(2, Buffer.alloc(32, 1)), numberField(3, 5))), STATUS.NOT_FOUND],
    ["CalculateNAR() of a directory that is not stored", "CalculateNAR", lengthField(1, lengthField(2, Buffer.alloc(32, 1))), STATUS.NOT_FOUND],
    ["List() of what is no message", "List", fromHex("0aff"), STATUS.INVALID_ARGUMENT],
  ] as const)("%s is refused with the right status", async ([, method, request, expected]) => {
    const { status, message: text } = await client.call(`${service}/${method}`, [request]);
    expect({ status, text }).toEqual({ status: expected, text: expect.stringMatching(/./) });
  });

  test.for(PROFILES.flatMap((profile) => Object.entries(CASTORE_VECTORS.nars).map(([name, nar]) => [name, profile, nar] as const)))(
    "CalculateNAR() of %s with %s sizes answers the size and hash of the NAR itself",
    async ([, profile, nar]) => {
      const { root } = await importNar(sourceOf(narVector(nar.file.replace("nar/", ""))), { blobs: store.blobs, directories: store.directories, directorySizeProfile: profile });
      const entry = entryOf(nar[profile].root);
      expect(entry.toString("base64url")).toBe(nar[profile].entryBase64Url);
      expect(root.type).toBe(nar[profile].root.type);
      expectBytes(await client.ask(`${service}/CalculateNAR`, message(UNKNOWN_FIELDS, entry)), message(numberField(1, nar.narSize), lengthField(2, fromHex(nar.narSha256))));
    },
  );

  test("CalculateNAR() says that a request has no entry", async () => {
    const { message: text } = await client.call(`${service}/CalculateNAR`, [UNKNOWN_FIELDS]);
    expect(decodeURIComponent(text)).toBe("Cannot calculate a NAR: the request has no entry");
  });

  test("CalculateNAR() of a file of another size than its node says is not taken for the file", async () => {
    await store.blobs.put(sourceOf(Buffer.from("Hello World!")));
    const { digest } = blobNamed("helloworld");
    const { status } = await client.call(`${service}/CalculateNAR`, [lengthField(2, message(lengthField(2, digest), numberField(3, 13)))]);
    expect([STATUS.NOT_FOUND, STATUS.DATA_LOSS, STATUS.INVALID_ARGUMENT]).toContain(status);
  });
});

describe("a call", () => {
  const put = "/snix.castore.v1.BlobService/Put";
  const stat = "/snix.castore.v1.BlobService/Stat";

  test("has a grpc-message that is percent-encoded ASCII, whatever it quotes", async () => {
    const name = "Zwölf 100% Öl\n\u{1f600}\ud800".toWellFormed();
    const { message: text, status } = await client.call("/narbor.store.v1.StoreService/GetDocument", [only(`log/${name}`)]);
    expect([STATUS.NOT_FOUND, STATUS.INVALID_ARGUMENT]).toContain(status);
    expect(text).toMatch(/^(?:[\x20-\x24\x26-\x7e]|%[0-9A-F]{2})+$/);
    expect(decodeURIComponent(text)).toContain("Zwölf 100% Öl");
  });

  test("is refused with a message that fits into a header, however long what it quotes is", async () => {
    const { status, message: text } = await client.call("/grpc.health.v1.Health/Check", [only("ö".repeat(30_000))]);
    expect(status).toBe(STATUS.NOT_FOUND);
    expect(text.length).toBeLessThan(4000);
  });

  test.for([
    ["a service that there is none of", "/snix.castore.v1.Nothing/Get"],
    ["a package that there is none of", "/nix.castore.v1.BlobService/Stat"],
    ["a path that is none", "/"],
  ] as const)("of %s is UNIMPLEMENTED", async ([, path]) => {
    expect((await client.call(path, [only("")])).status).toBe(STATUS.UNIMPLEMENTED);
  });

  test("says narbor's own code in a trailer", async () => {
    expect((await client.call(stat, [only(new Uint8Array(32))])).trailers["narbor-error-code"]).toBe("ERR_NOT_FOUND");
    expect((await client.call(stat, [only(new Uint8Array(31))])).trailers["narbor-error-code"]).toBe("ERR_CASTORE_INVALID");
  });

  test("takes content-type application/grpc, with and without +proto, and refuses what is not gRPC", async () => {
    for (const type of ["application/grpc", "application/grpc+proto"]) {
      expect((await client.call(stat, [only(new Uint8Array(32))], { "content-type": type })).status).toBe(STATUS.NOT_FOUND);
    }
    const { headers, status } = await client.call(stat, [only(new Uint8Array(32))], { "content-type": "application/json" });
    expect({ http: headers[":status"], status }).toEqual({ http: 415, status: -1 });
  });

  test("that ends in the middle of a message is not answered as if it were whole", async () => {
    for (const cut of [1, 4, 5, 9]) {
      const call = client.begin(put);
      call.stream.end(Buffer.concat([frameOf(only("Hello")), frameOf(only(" World!")).subarray(0, cut)]));
      expect((await call.answer).status).toBe(STATUS.INVALID_ARGUMENT);
    }
    expect(await store.blobs.stat(toB3Digest(blake3(Buffer.from("Hello"))))).toBeUndefined();
  });

  test("that brings no message, or two, where one is due, is refused", async () => {
    expect((await client.call(stat, [])).status).toBeGreaterThan(0);
    expect((await client.call(stat, [only(new Uint8Array(32)), only(new Uint8Array(32))])).status).toBeGreaterThan(0);
  });

  test("whose grpc-timeout is over ends with DEADLINE_EXCEEDED, and what it had put is not stored", async () => {
    const call = client.begin(put, { "grpc-timeout": "100m" });
    call.send(only("Hello World!"));
    const { status } = await call.answer;
    expect(status).toBe(STATUS.DEADLINE_EXCEEDED);
    expect(await store.blobs.stat(toB3Digest(blobNamed("helloworld").digest))).toBeUndefined();
  });

  test("is PERMISSION_DENIED for every write where writes are not allowed, and reads go on", async () => {
    await using readOnly = await serveGrpc(store, { allowWrites: false });
    await using other = new RawGrpcClient(readOnly.port);
    await store.blobs.put(sourceOf(Buffer.from("Hello World!")));
    const { digest, bytes } = blobNamed("helloworld");
    const writes = [
      "/snix.castore.v1.BlobService/Put",
      "/tvix.castore.v1.BlobService/Put",
      "/snix.castore.v1.DirectoryService/Put",
      "/tvix.castore.v1.DirectoryService/Put",
      "/snix.store.v1.PathInfoService/Put",
      "/tvix.store.v1.PathInfoService/Put",
      "/narbor.store.v1.StoreService/PutNar",
      "/narbor.store.v1.StoreService/PutDocument",
      "/narbor.store.v1.StoreService/DeletePathInfo",
      "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs",
      "/google.bytestream.ByteStream/Write",
    ];
    for (const path of writes) expect([path, (await other.call(path, [Buffer.alloc(0)])).status]).toEqual([path, STATUS.PERMISSION_DENIED]);
    const { messages } = await other.call("/snix.castore.v1.BlobService/Read", [only(digest)]);
    expectBytes(messages[0], only(bytes));
    expect(await collect((await store.blobs.openRead(toB3Digest(digest))) as AsyncIterable<Uint8Array>)).toHaveLength(12);
  });

  test("beyond the server's limit of calls is RESOURCE_EXHAUSTED, until one has ended", async () => {
    await using small = await serveGrpc(store, { maxCalls: 2 });
    await using other = new RawGrpcClient(small.port);
    const held = [other.begin(put), other.begin(put)];
    for (const call of held) call.send(only("held"));
    await expect.poll(async () => (await other.call(stat, [only(new Uint8Array(32))])).status).toBe(STATUS.RESOURCE_EXHAUSTED);
    held[0]?.stream.end();
    await held[0]?.answer;
    expect((await other.call(stat, [only(new Uint8Array(32))])).status).toBe(STATUS.NOT_FOUND);
    held[1]?.stream.close();
  });
});

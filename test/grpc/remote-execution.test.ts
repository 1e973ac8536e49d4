/** The Remote Execution API by the bytes of its messages, asked by a client that shares nothing with ours. */
import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { compress } from "../../src/compression/compress.ts";
import { decompress } from "../../src/compression/decompress.ts";
import { NarborError } from "../../src/errors.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { blobNamed, casDigest, fromHex } from "../helpers/castore-messages.ts";
import type { TestGrpcServer } from "../helpers/grpc-store.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { within } from "../helpers/promises.ts";
import type { RawAnswer, RawCall } from "../helpers/raw-grpc.ts";
import { RawGrpcClient, STATUS } from "../helpers/raw-grpc.ts";
import { UNKNOWN_FIELDS, bytesOf, lengthField, message, numberField, numberOf } from "../helpers/raw-protobuf.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
const CAPABILITIES = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
const BYTE_STREAM = "/google.bytestream.ByteStream";
const BLAKE3 = 9;
const SHA256 = 1;
const ZSTD = 1;
const MIB = 1024 * 1024;

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

const HELLO = blobNamed("helloworld");
const EMPTY = blobNamed("empty");
const LARGE = sampleBytes(3_000_000);
const TEXT = Buffer.from("all work and no play makes jack a dull boy\n".repeat(1000));

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

async function zstd(bytes: Uint8Array): Promise<Uint8Array> {
  return await collect(compress(sourceOf(bytes), "zstd"));
}

/** A zstd frame that holds bytes as they are and says by this byte how far back whoever decodes it must be able to look. */
function frameWithWindow(window: number, bytes: Uint8Array): Buffer {
  const block = Buffer.alloc(3);
  block.writeUIntLE((bytes.length << 3) | 1, 0, 3);
  return Buffer.concat([fromHex("28b52ffd00"), Buffer.of(window), block, bytes]);
}

const WINDOW = { eightMiB: 0x68, nineMiB: 0x69, of128MiB: 0x88 } as const;

async function isStored(bytes: Uint8Array): Promise<boolean> {
  return (await store.blobs.stat(toB3Digest(blake3(bytes)))) !== undefined;
}

async function putBlob(bytes: Uint8Array): Promise<void> {
  await store.blobs.put(sourceOf(bytes));
}

describe("GetCapabilities()", () => {
  test("says BLAKE3, zstd, batches of 3 MiB and versions 2.0 to 2.3, in these bytes", async () => {
    const cache = message(
      lengthField(1, Buffer.of(BLAKE3)),
      // No action cache can be written to: a message with nothing in it.
      lengthField(2, "", true),
      numberField(4, 3 * MIB),
      numberField(5, 2),
      lengthField(6, Buffer.of(ZSTD)),
      lengthField(7, Buffer.of(ZSTD)),
    );
    const expected = message(lengthField(1, cache), lengthField(4, numberField(1, 2)), lengthField(5, message(numberField(1, 2), numberField(2, 3))));
    expect((await client.ask(CAPABILITIES, UNKNOWN_FIELDS)).toString("hex")).toBe(expected.toString("hex"));
  });

  test("refuses an instance name, of which there is none", async () => {
    expect((await client.call(CAPABILITIES, [lengthField(1, "main")])).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

describe("FindMissingBlobs()", () => {
  const find = async (...fields: Uint8Array[]): Promise<RawAnswer> => await client.call(`${CAS}/FindMissingBlobs`, [message(...fields)]);

  test("gives those that are not stored, each once and with the size it was asked with", async () => {
    await putBlob(HELLO.bytes);
    const [known, one, other] = [casDigest(HELLO.digest, 12), casDigest(blake3(LARGE), LARGE.length), casDigest(blake3(TEXT), TEXT.length)];
    const { status, messages } = await find(UNKNOWN_FIELDS, ...[one, known, other, one].map((digest) => lengthField(2, message(digest, UNKNOWN_FIELDS))), numberField(3, BLAKE3));
    expect(status).toBe(STATUS.OK);
    expect(messages[0]?.toString("hex")).toBe(message(lengthField(2, one), lengthField(2, other)).toString("hex"));
  });

  test.for([
    ["no digests", [], STATUS.OK],
    ["no word of the digest function", [lengthField(2, casDigest(HELLO.digest, 12))], STATUS.OK],
    ["SHA-256", [lengthField(2, casDigest(HELLO.digest, 12)), numberField(3, SHA256)], STATUS.INVALID_ARGUMENT],
    ["a digest function that is not known", [lengthField(2, casDigest(HELLO.digest, 12)), numberField(3, 99)], STATUS.INVALID_ARGUMENT],
    ["an instance name", [lengthField(1, "main"), lengthField(2, casDigest(HELLO.digest, 12))], STATUS.INVALID_ARGUMENT],
    ["a hash in upper case", [lengthField(2, casDigest(hex(HELLO.digest).toUpperCase(), 12))], STATUS.INVALID_ARGUMENT],
    ["a hash that is too short", [lengthField(2, casDigest(hex(HELLO.digest).slice(2), 12))], STATUS.INVALID_ARGUMENT],
    ["a hash that is none", [lengthField(2, casDigest("../../etc/passwd", 12))], STATUS.INVALID_ARGUMENT],
    ["a digest without a hash", [lengthField(2, "", true)], STATUS.INVALID_ARGUMENT],
    ["a negative size", [lengthField(2, message(lengthField(1, hex(HELLO.digest)), numberField(2, -1)))], STATUS.INVALID_ARGUMENT],
    ["what is no message", [fromHex("12ffff")], STATUS.INVALID_ARGUMENT],
  ] as const)("ends as it must with %s", async ([, fields, expected]) => {
    expect((await find(...fields)).status).toBe(expected);
  });
});

describe("BatchUpdateBlobs()", () => {
  const request = (digest: Uint8Array | undefined, data: Uint8Array, compressor = 0): Buffer =>
    lengthField(2, message(...(digest === undefined ? [] : [lengthField(1, digest)]), lengthField(2, data), numberField(3, compressor)), true);
  /** The status of each blob. */
  const update = async (...fields: Uint8Array[]): Promise<number[]> => {
    const answer = await client.ask(`${CAS}/BatchUpdateBlobs`, message(...fields));
    return bytesOf(answer, 1).map((response) => numberOf(bytesOf(response, 2)[0] ?? Buffer.alloc(0), 1));
  };

  test("stores every blob and answers each with its digest and a status", async () => {
    const fields = message(UNKNOWN_FIELDS, request(casDigest(HELLO.digest, 12), HELLO.bytes), request(casDigest(EMPTY.digest, 0), EMPTY.bytes), numberField(5, BLAKE3));
    const answer = await client.ask(`${CAS}/BatchUpdateBlobs`, fields);
    const expected = [casDigest(HELLO.digest, 12), casDigest(EMPTY.digest, 0)].map((digest) => lengthField(1, message(lengthField(1, digest), lengthField(2, "", true))));
    expect(answer.toString("hex")).toBe(message(...expected).toString("hex"));
    expect([await isStored(HELLO.bytes), await isStored(EMPTY.bytes)]).toEqual([true, true]);
  });

  test("stores blobs of more than 1 MiB, and a whole batch of 3 MiB", async () => {
    const blobs = [sampleBytes(2 * MIB, 5), sampleBytes(MIB, 6)];
    expect(await update(...blobs.map((bytes) => request(casDigest(blake3(bytes), bytes.length), bytes)))).toEqual([0, 0]);
    for (const bytes of blobs) expect(await isStored(bytes)).toBe(true);
  });

  test("refuses what is wrong by itself, and stores the others", async () => {
    const good = casDigest(HELLO.digest, 12);
    const statuses = await update(
      request(casDigest(HELLO.digest, 11), HELLO.bytes),
      request(casDigest(blake3(TEXT), 12), HELLO.bytes),
      request(casDigest(hex(blake3(TEXT)).toUpperCase(), TEXT.length), TEXT),
      request(undefined, TEXT),
      request(good, HELLO.bytes),
      request(good, await zstd(TEXT), ZSTD),
      request(good, HELLO.bytes, ZSTD),
      request(good, HELLO.bytes, 2),
      request(good, HELLO.bytes, 77),
    );
    expect(statuses).toEqual([3, 3, 3, 3, 0, 3, 3, 3, 3]);
    expect([await isStored(HELLO.bytes), await isStored(TEXT)]).toEqual([true, false]);
  });

  test("takes blobs that are compressed by zstd, the empty one too", async () => {
    expect(await update(request(casDigest(blake3(TEXT), TEXT.length), await zstd(TEXT), ZSTD), request(casDigest(EMPTY.digest, 0), await zstd(EMPTY.bytes), ZSTD))).toEqual([0, 0]);
    expect([await isStored(TEXT), await isStored(EMPTY.bytes)]).toEqual([true, true]);
  });

  test("takes and gives hundreds of compressed blobs in one call without a warning", async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on("warning", listen);
    onTestFinished(() => void process.off("warning", listen));
    const blobs = Array.from({ length: 200 }, (_, index) => Buffer.from(`${index}: ${TEXT.toString("latin1", 0, 2000)}`));
    const updates = await Promise.all(blobs.map(async (bytes) => request(casDigest(blake3(bytes), bytes.length), await zstd(bytes), ZSTD)));
    expect(await update(...updates)).toEqual(blobs.map(() => 0));
    const { status } = await client.call(`${CAS}/BatchReadBlobs`, [message(...blobs.map((bytes) => lengthField(2, casDigest(blake3(bytes), bytes.length))), lengthField(3, Buffer.of(ZSTD)))]);
    expect(status).toBe(STATUS.OK);
    // A warning comes a turn later.
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).toEqual([]);
  });

  test("counts what compressed blobs say they are, so that a bomb is refused before it is unpacked", async () => {
    const zeros = await zstd(new Uint8Array(5 * MIB));
    const { status } = await client.call(`${CAS}/BatchUpdateBlobs`, [request(casDigest(blake3(new Uint8Array(5 * MIB)), 5 * MIB), zeros, ZSTD)]);
    expect(status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await update(request(casDigest(blake3(new Uint8Array(5 * MIB)), 1000), zeros, ZSTD))).not.toContain(0);
  });

  test("gives others their turn while it looks at a hundred thousand blobs", async () => {
    let [last, longest] = [performance.now(), 0];
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 1);
    onTestFinished(() => clearInterval(timer));
    const started = performance.now();
    // Fields with nothing in them: blobs without a digest.
    const { status } = await client.call(`${CAS}/BatchUpdateBlobs`, [Buffer.alloc(2 * 100_000, Buffer.of((2 << 3) | 2, 0))]);
    expect(status).toBe(STATUS.OK);
    // Reading the request and writing the answer are done at once each, whatever the machine.
    expect(longest).toBeLessThan((performance.now() - started) / 2);
  });

  test("takes zstd with a window of 8 MiB, and refuses a larger one", async () => {
    const requests = [WINDOW.eightMiB, WINDOW.nineMiB, WINDOW.of128MiB].map((window) => request(casDigest(HELLO.digest, 12), frameWithWindow(window, HELLO.bytes), ZSTD));
    expect(await update(...requests)).toEqual([STATUS.OK, STATUS.INVALID_ARGUMENT, STATUS.INVALID_ARGUMENT]);
  });

  test("counts every size that is right, whatever wrong ones stand beside it, before anything is unpacked", async () => {
    const bomb = await zstd(new Uint8Array(5 * MIB));
    const sizeOf = (size: bigint): Buffer => message(lengthField(1, hex(blake3(new Uint8Array(5 * MIB)))), numberField(2, size));
    const wrong = request(sizeOf(-(2n ** 60n)), bomb, ZSTD);
    const { status, message: text } = await client.call(`${CAS}/BatchUpdateBlobs`, [message(wrong, request(sizeOf(BigInt(5 * MIB)), bomb, ZSTD))]);
    expect({ status, text: decodeURIComponent(text) }).toEqual({ status: STATUS.INVALID_ARGUMENT, text: `Cannot take the batch: its blobs have ${5 * MIB} bytes, at most ${3 * MIB} may go together` });
    expect(await update(wrong, request(casDigest(HELLO.digest, 12), HELLO.bytes))).toEqual([STATUS.INVALID_ARGUMENT, STATUS.OK]);
    expect([await isStored(new Uint8Array(5 * MIB)), await isStored(HELLO.bytes)]).toEqual([false, true]);
  });

  test.for([
    ["more than 3 MiB", [request(casDigest(blake3(new Uint8Array(3 * MIB + 1)), 3 * MIB + 1), new Uint8Array(3 * MIB + 1))]],
    ["SHA-256", [request(casDigest(createHash("sha256").update(HELLO.bytes).digest(), 12), HELLO.bytes), numberField(5, SHA256)]],
    ["an instance name", [lengthField(1, "main"), request(casDigest(HELLO.digest, 12), HELLO.bytes)]],
    ["what is no message", [fromHex("12ffff")]],
  ] as const)("is INVALID_ARGUMENT as a whole for %s", async ([, fields]) => {
    expect((await client.call(`${CAS}/BatchUpdateBlobs`, [message(...fields)])).status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await isStored(HELLO.bytes)).toBe(false);
  });

  test("of nothing answers nothing", async () => {
    expect(await update()).toEqual([]);
  });
});

describe("BatchReadBlobs()", () => {
  const read = async (digests: readonly Uint8Array[], ...fields: Uint8Array[]): Promise<Map<string, { status: number; data: Buffer; compressor: number }>> => {
    const answer = await client.ask(`${CAS}/BatchReadBlobs`, message(...digests.map((digest) => lengthField(2, digest)), ...fields));
    return new Map(
      bytesOf(answer, 1).map((response) => {
        const status = numberOf(bytesOf(response, 3)[0] ?? Buffer.alloc(0), 1);
        return [hex(bytesOf(response, 1)[0] as Buffer), { status, data: bytesOf(response, 2)[0] ?? Buffer.alloc(0), compressor: numberOf(response, 4) }];
      }),
    );
  };

  test("gives each blob, and a status for one that is not there or of another size", async () => {
    await putBlob(HELLO.bytes);
    await putBlob(LARGE);
    const [hello, wrongSize, missing, large, empty, notEmpty] = [
      casDigest(HELLO.digest, 12),
      casDigest(HELLO.digest, 13),
      casDigest(blake3(TEXT), TEXT.length),
      casDigest(blake3(LARGE), LARGE.length),
      casDigest(EMPTY.digest, 0),
      casDigest(HELLO.digest, 0),
    ];
    const answers = await read([hello, wrongSize, missing, large, empty, notEmpty, hello], UNKNOWN_FIELDS, numberField(4, BLAKE3));
    expect(answers.size).toBe(6);
    expect(answers.get(hex(hello))).toEqual({ status: 0, data: HELLO.bytes, compressor: 0 });
    expect(answers.get(hex(wrongSize))?.status).toBe(STATUS.NOT_FOUND);
    expect(answers.get(hex(missing))?.status).toBe(STATUS.NOT_FOUND);
    expectBytes(answers.get(hex(large))?.data, LARGE);
    expect(answers.get(hex(empty))).toEqual({ status: 0, data: Buffer.alloc(0), compressor: 0 });
    expect(answers.get(hex(notEmpty))?.status).toBe(STATUS.NOT_FOUND);
  });

  test("gives the others beside a blob that has more bytes than it was asked for with, and than a batch may have", async () => {
    const bytes = sampleBytes(5_000_000, 7);
    await putBlob(bytes);
    await putBlob(HELLO.bytes);
    const [tooSmall, hello] = [casDigest(blake3(bytes), 2_000_000), casDigest(HELLO.digest, 12)];
    const answers = await read([tooSmall, hello]);
    expect(answers.get(hex(tooSmall))).toEqual({ status: STATUS.NOT_FOUND, data: Buffer.alloc(0), compressor: 0 });
    expect(answers.get(hex(hello))).toEqual({ status: STATUS.OK, data: HELLO.bytes, compressor: 0 });
  });

  test("gives blobs compressed only to those who take zstd", async () => {
    await putBlob(TEXT);
    await putBlob(HELLO.bytes);
    const [text, hello] = [casDigest(blake3(TEXT), TEXT.length), casDigest(HELLO.digest, 12)];
    const compressed = await read([text, hello], lengthField(3, Buffer.of(0, ZSTD)));
    expect(compressed.get(hex(text))?.compressor).toBe(ZSTD);
    expectBytes(await collect(decompress(sourceOf(compressed.get(hex(text))?.data as Buffer), { codec: "zstd" })), TEXT);
    expect(compressed.get(hex(hello))).toEqual({ status: 0, data: HELLO.bytes, compressor: 0 });
    const plain = await read([text], lengthField(3, Buffer.of(0, 2)));
    expect(plain.get(hex(text))?.compressor).toBe(0);
    expectBytes(plain.get(hex(text))?.data, TEXT);
  });

  test.for([
    ["more than 3 MiB", [lengthField(2, casDigest(HELLO.digest, 3 * MIB + 1))]],
    ["SHA-256", [lengthField(2, casDigest(HELLO.digest, 12)), numberField(4, SHA256)]],
    ["an instance name", [lengthField(1, "main"), lengthField(2, casDigest(HELLO.digest, 12))]],
    ["a hash in upper case", [lengthField(2, casDigest(hex(HELLO.digest).toUpperCase(), 12))]],
    ["a digest without a hash", [lengthField(2, "", true)]],
    ["what is no message", [fromHex("12ffff")]],
  ] as const)("is INVALID_ARGUMENT as a whole for %s", async ([, fields]) => {
    expect((await client.call(`${CAS}/BatchReadBlobs`, [message(...fields)])).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

describe("ByteStream Read()", () => {
  const name = `blobs/blake3/${hex(blake3(LARGE))}/${LARGE.length}`;
  const read = async (resource: string, offset: number | bigint = 0, limit: number | bigint = 0): Promise<RawAnswer & { readonly data: Buffer; readonly sizes: number[] }> => {
    const answer = await client.call(`${BYTE_STREAM}/Read`, [message(UNKNOWN_FIELDS, lengthField(1, resource), numberField(2, offset), numberField(3, limit))]);
    const pieces = answer.messages.map((chunk) => bytesOf(chunk, 10)[0] ?? Buffer.alloc(0));
    return { ...answer, data: Buffer.concat(pieces), sizes: pieces.map(({ length }) => length) };
  };

  test.for([
    [0, 0],
    [0, 1],
    [1, 0],
    [1_000_000, 500_000],
    [2_999_999, 0],
    [2_999_999, 1000],
    [3_000_000, 0],
    [3_000_000, 10],
    [0, 3_000_000],
    [0, 9_000_000],
  ] as const)("gives the bytes from %i, at most %i of them", async ([offset, limit]) => {
    await putBlob(LARGE);
    const { status, data, sizes } = await read(name, offset, limit);
    expect(status).toBe(STATUS.OK);
    expectBytes(data, LARGE.subarray(offset, limit === 0 ? undefined : offset + limit));
    expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(MIB);
  });

  test("takes the name without its digest function, and the compressed name from any byte on", async () => {
    await putBlob(TEXT);
    expectBytes((await read(`blobs/${hex(blake3(TEXT))}/${TEXT.length}`)).data, TEXT);
    for (const offset of [0, 100, TEXT.length]) {
      const { status, data } = await read(`compressed-blobs/zstd/blake3/${hex(blake3(TEXT))}/${TEXT.length}`, offset);
      expect(status).toBe(STATUS.OK);
      expectBytes(await collect(decompress(sourceOf(data), { codec: "zstd" })), TEXT.subarray(offset));
    }
  });

  test("gives the empty blob, stored or not, and no other one under its size", async () => {
    await putBlob(HELLO.bytes);
    expect(await read(`blobs/blake3/${hex(EMPTY.digest)}/0`)).toMatchObject({ status: STATUS.OK, sizes: [] });
    expect((await read(`blobs/blake3/${hex(HELLO.digest)}/0`)).status).toBe(STATUS.NOT_FOUND);
    const compressed = await read(`compressed-blobs/zstd/blake3/${hex(EMPTY.digest)}/0`);
    expect(compressed.status).toBe(STATUS.OK);
    // Nothing at all is no zstd.
    expect(await collect(decompress(sourceOf(compressed.data), { codec: "zstd" }))).toHaveLength(0);
    expect((await read(`compressed-blobs/zstd/blake3/${hex(HELLO.digest)}/0`)).status).toBe(STATUS.NOT_FOUND);
  });

  test.for([
    ["an offset beyond the end", name, 3_000_001, 0, STATUS.OUT_OF_RANGE],
    ["a negative offset", name, -1, 0, STATUS.OUT_OF_RANGE],
    ["a negative limit", name, 0, -1, STATUS.OUT_OF_RANGE],
    ["an offset of 2^62", name, 2n ** 62n, 0, STATUS.OUT_OF_RANGE],
    ["a blob that is not stored", `blobs/blake3/${hex(HELLO.digest)}/12`, 0, 0, STATUS.NOT_FOUND],
    ["a size that is too small", `blobs/blake3/${hex(blake3(LARGE))}/2999999`, 0, 0, STATUS.NOT_FOUND],
    ["a size that is too large", `blobs/blake3/${hex(blake3(LARGE))}/3000001`, 0, 0, STATUS.NOT_FOUND],
    ["a limit on a compressed blob", `compressed-blobs/zstd/blake3/${hex(blake3(LARGE))}/3000000`, 0, 10, STATUS.INVALID_ARGUMENT],
    ["a compressor that is not known", `compressed-blobs/brotli/blake3/${hex(blake3(LARGE))}/3000000`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["an instance name", `main/${name}`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["a digest function that is not known", `blobs/sha256/${hex(blake3(LARGE))}/3000000`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["a hash in upper case", `blobs/blake3/${hex(blake3(LARGE)).toUpperCase()}/3000000`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["something behind the name", `${name}/more`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["a negative size", `blobs/blake3/${hex(blake3(LARGE))}/-1`, 0, 0, STATUS.INVALID_ARGUMENT],
    ["no name", "", 0, 0, STATUS.INVALID_ARGUMENT],
  ] as const)("ends as it must with %s", async ([, resource, offset, limit, expected]) => {
    await putBlob(LARGE);
    expect((await read(resource, offset, limit)).status).toBe(expected);
  });
});

describe("ByteStream Write()", () => {
  const UUID = "6f1c2a3e-0b1d-4a5e-9c3f-2d7e8a9b0c1d";
  const nameOf = (bytes: Uint8Array, uuid = UUID): string => `uploads/${uuid}/blobs/blake3/${hex(blake3(bytes))}/${bytes.length}`;
  const compressedNameOf = (bytes: Uint8Array, uuid = UUID): string => `uploads/${uuid}/compressed-blobs/zstd/blake3/${hex(blake3(bytes))}/${bytes.length}`;
  const part = (name: string, offset: number, data: Uint8Array, finish = false): Buffer => message(lengthField(1, name), numberField(2, offset), numberField(3, finish), lengthField(10, data));
  const write = async (...parts: Uint8Array[]): Promise<{ status: number; committed: number }> => {
    const { status, messages } = await within(client.call(`${BYTE_STREAM}/Write`, parts));
    return { status, committed: messages[0] === undefined ? 0 : numberOf(messages[0], 1) };
  };
  const begin = (...parts: Uint8Array[]): RawCall => {
    const call = client.begin(`${BYTE_STREAM}/Write`);
    for (const each of parts) call.send(each);
    return call;
  };
  const query = async (name: string): Promise<{ status: number; committed: number; complete: number }> => {
    const { status, messages } = await client.call(`${BYTE_STREAM}/QueryWriteStatus`, [message(lengthField(1, name), UNKNOWN_FIELDS)]);
    const answer = messages[0] ?? Buffer.alloc(0);
    return { status, committed: numberOf(answer, 1), complete: numberOf(answer, 2) };
  };
  const half = LARGE.subarray(0, 1_500_000);
  const rest = LARGE.subarray(1_500_000);

  test("stores a blob that comes in one message", async () => {
    expect(await write(message(part(nameOf(HELLO.bytes), 0, HELLO.bytes, true), UNKNOWN_FIELDS))).toEqual({ status: 0, committed: 12 });
    expect(await isStored(HELLO.bytes)).toBe(true);
    expect(await query(nameOf(HELLO.bytes))).toEqual({ status: 0, committed: 12, complete: 1 });
  });

  test("stores a blob that comes in pieces, the name only in the first, the last one empty", async () => {
    const pieces = [0, 1, 2].map((index) => part(index === 0 ? nameOf(LARGE) : "", index * 1_000_000, LARGE.subarray(index * 1_000_000, (index + 1) * 1_000_000)));
    expect(await write(...pieces, part("", LARGE.length, new Uint8Array(0), true))).toEqual({ status: 0, committed: LARGE.length });
    expect(await isStored(LARGE)).toBe(true);
  });

  test("stores the empty blob, and a blob whose name has something behind it", async () => {
    expect(await write(part(nameOf(EMPTY.bytes), 0, EMPTY.bytes, true))).toEqual({ status: 0, committed: 0 });
    expect(await write(part(`${nameOf(HELLO.bytes)}/path/to/file.txt`, 0, HELLO.bytes, true))).toEqual({ status: 0, committed: 12 });
    expect([await isStored(EMPTY.bytes), await isStored(HELLO.bytes)]).toEqual([true, true]);
  });

  test("that ends without finish_write says how much has come, and a second call goes on from there", async () => {
    const name = nameOf(LARGE);
    expect(await write(part(name, 0, half))).toEqual({ status: 0, committed: half.length });
    expect(await isStored(LARGE)).toBe(false);
    expect(await query(name)).toEqual({ status: 0, committed: half.length, complete: 0 });
    expect(await write(part(name, half.length, rest, true))).toEqual({ status: 0, committed: LARGE.length });
    expect(await isStored(LARGE)).toBe(true);
  });

  test("that is cut off can be gone on with from where QueryWriteStatus says, over another connection", async () => {
    const name = nameOf(LARGE);
    const first = new RawGrpcClient(server.port);
    const call = first.begin(`${BYTE_STREAM}/Write`);
    call.send(part(name, 0, half));
    await expect.poll(async () => (await query(name)).committed).toBe(half.length);
    first.session.destroy();
    await call.answer;
    const { committed, complete } = await query(name);
    expect({ committed, complete }).toEqual({ committed: half.length, complete: 0 });
    expect(await write(part(name, committed, LARGE.subarray(committed), true))).toEqual({ status: 0, committed: LARGE.length });
    expect(await isStored(LARGE)).toBe(true);
  });

  test("is taken over by a second call while the first is still open, and the first is told", async () => {
    const name = nameOf(LARGE);
    const first = begin(part(name, 0, half));
    await expect.poll(async () => (await query(name)).committed).toBe(half.length);
    expect(await write(part(name, half.length, rest, true))).toEqual({ status: 0, committed: LARGE.length });
    first.send(part("", half.length, rest, true));
    first.stream.end();
    expect((await first.answer).status).toBe(STATUS.UNAVAILABLE);
    expect(await isStored(LARGE)).toBe(true);
  });

  test("with a wrong offset is refused, and does no harm to the call that the upload belongs to", async () => {
    const name = nameOf(LARGE);
    const first = begin(part(name, 0, half));
    await expect.poll(async () => (await query(name)).committed).toBe(half.length);
    expect((await write(part(name, 0, half))).status).toBe(STATUS.INVALID_ARGUMENT);
    first.send(part("", half.length, rest, true));
    first.stream.end();
    expect(await first.answer).toMatchObject({ status: STATUS.OK });
    expect(await isStored(LARGE)).toBe(true);
  });

  test("that begins with a wrong offset leaves nothing behind that waits to be gone on with", async () => {
    const name = nameOf(LARGE);
    expect((await write(part(name, 7, half))).status).toBe(STATUS.INVALID_ARGUMENT);
    expect((await query(name)).status).toBe(STATUS.NOT_FOUND);
  });

  test.for([
    ["an offset that skips some", () => [part(nameOf(LARGE), 0, half), part("", half.length + 1, rest, true)], STATUS.INVALID_ARGUMENT],
    ["an offset that goes back", () => [part(nameOf(LARGE), 0, half), part("", 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["a negative offset", () => [part(nameOf(LARGE), -1, LARGE, true)], STATUS.OUT_OF_RANGE],
    ["another blob", () => [part(nameOf(LARGE), 0, sampleBytes(LARGE.length, 9), true)], STATUS.INVALID_ARGUMENT],
    ["a blob that is too short", () => [part(nameOf(LARGE), 0, half, true)], STATUS.INVALID_ARGUMENT],
    ["a blob that is too long", () => [part(nameOf(LARGE), 0, LARGE), part("", LARGE.length, Buffer.from("more"), true)], STATUS.INVALID_ARGUMENT],
    ["a name that changes", () => [part(nameOf(LARGE), 0, half), part(nameOf(LARGE, "another-uuid"), half.length, rest, true)], STATUS.INVALID_ARGUMENT],
    ["no message at all", () => [], STATUS.INVALID_ARGUMENT],
    ["no name", () => [part("", 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["the name of a read", () => [part(`blobs/blake3/${hex(blake3(LARGE))}/${LARGE.length}`, 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["an instance name", () => [part(`main/${nameOf(LARGE)}`, 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["a hash in upper case", () => [part(`uploads/${UUID}/blobs/${hex(blake3(LARGE)).toUpperCase()}/${LARGE.length}`, 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["a compressor that is not known", () => [part(nameOf(LARGE).replace("blobs", "compressed-blobs/deflate"), 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["a compressed name and a blob that is not", () => [part(compressedNameOf(LARGE), 0, LARGE, true)], STATUS.INVALID_ARGUMENT],
    ["what is no message", () => [part(nameOf(LARGE), 0, half), fromHex("52ff")], STATUS.INVALID_ARGUMENT],
  ] as const)("refuses %s and stores nothing", async ([, parts, expected]) => {
    expect((await write(...parts())).status).toBe(expected);
    expect(await isStored(LARGE)).toBe(false);
    expect(await isStored(half)).toBe(false);
  });

  test("can begin again after an upload of the same name has failed", async () => {
    expect((await write(part(nameOf(LARGE), 0, half, true))).status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await write(part(nameOf(LARGE), 0, half), part("", half.length, rest, true))).toEqual({ status: 0, committed: LARGE.length });
  });

  test("stores a compressed upload under the digest of what is in it, and counts the bytes that came", async () => {
    const compressed = await zstd(TEXT);
    expect(await write(part(compressedNameOf(TEXT), 0, compressed.subarray(0, 50)), part("", 50, compressed.subarray(50), true))).toEqual({ status: 0, committed: compressed.length });
    expect(await isStored(TEXT)).toBe(true);
  });

  test("refuses a compressed upload that is cut short, followed by something, or larger than it says", async () => {
    const compressed = await zstd(TEXT);
    expect((await write(part(compressedNameOf(TEXT), 0, compressed.subarray(0, -5), true))).status).toBe(STATUS.INVALID_ARGUMENT);
    expect((await write(part(compressedNameOf(TEXT), 0, Buffer.concat([compressed, Buffer.from("trailing")]), true))).status).toBe(STATUS.INVALID_ARGUMENT);
    const bomb = await zstd(new Uint8Array(100 * MIB));
    const { status } = await write(part(`uploads/${UUID}/compressed-blobs/zstd/blake3/${hex(blake3(TEXT))}/1000`, 0, bomb, true));
    expect(status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await isStored(TEXT)).toBe(false);
  });

  test("takes a compressed upload with a window of 8 MiB, and refuses a larger one, which each upload that is not ended would hold", async () => {
    for (const window of [WINDOW.nineMiB, WINDOW.of128MiB]) {
      const frame = frameWithWindow(window, TEXT);
      const call = begin(part(compressedNameOf(TEXT), 0, frame.subarray(0, 1000)), part("", 1000, frame.subarray(1000, 2000)));
      const { status, message: text } = await within(call.answer, 5000);
      expect({ status, text: decodeURIComponent(text) }).toMatchObject({ status: STATUS.INVALID_ARGUMENT, text: expect.stringMatching(/window of \d+ bytes, at most 8388608 are allowed/) as string });
    }
    expect(await isStored(TEXT)).toBe(false);
    expect((await write(part(compressedNameOf(TEXT), 0, frameWithWindow(WINDOW.eightMiB, TEXT), true))).status).toBe(STATUS.OK);
    expect(await isStored(TEXT)).toBe(true);
  });

  test("of what is there already is answered with its whole size before it has come, and a compressed one with -1", async () => {
    await putBlob(LARGE);
    const call = begin(part(nameOf(LARGE), 0, half));
    const { status, messages } = await within(call.answer);
    expect({ status, committed: numberOf(messages[0] as Buffer, 1) }).toEqual({ status: 0, committed: LARGE.length });
    expect(await write(part(compressedNameOf(LARGE), 0, Buffer.from("whatever")))).toEqual({ status: 0, committed: -1 });
  });

  test("takes two uploads of one blob under two names at once", async () => {
    const calls = ["first", "second"].map((uuid) => begin(part(nameOf(LARGE, uuid), 0, half)));
    for (const uuid of ["first", "second"]) await expect.poll(async () => (await query(nameOf(LARGE, uuid))).committed).toBe(half.length);
    for (const call of calls) {
      call.send(part("", half.length, rest, true));
      call.stream.end();
    }
    for (const call of calls) expect((await call.answer).status).toBe(STATUS.OK);
  });

  test("is over at finish_write, whatever comes after it", async () => {
    const call = begin(part(nameOf(HELLO.bytes), 0, HELLO.bytes, true), part("", 12, Buffer.from("more")));
    call.stream.end();
    const { status, messages } = await within(call.answer);
    expect({ status, committed: numberOf(messages[0] as Buffer, 1) }).toEqual({ status: 0, committed: 12 });
    expect(await isStored(HELLO.bytes)).toBe(true);
  });

  test("ends with the store's own error when the store fails before it has read anything", async () => {
    const blobs: BlobService = new Proxy(store.blobs, {
      get: (target, property) => {
        if (property === "put") return async () => Promise.reject(new NarborError("ERR_NO_SPACE", "The disk is full"));
        const value = Reflect.get(target, property) as unknown;
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    await using full = await serveGrpc({ blobs, directories: store.directories, pathInfos: store.pathInfos, nars: store.nars, documents: store.documents } as never);
    await using other = new RawGrpcClient(full.port);
    const { status, message: text } = await within(other.call(`${BYTE_STREAM}/Write`, [part(nameOf(LARGE), 0, half), part("", half.length, rest, true)]), 5000);
    expect({ status, text: decodeURIComponent(text) }).toEqual({ status: STATUS.RESOURCE_EXHAUSTED, text: "The disk is full" });
  });

  test("keeps 256 uploads that no one goes on with: one more takes the place of the one that was left first", async () => {
    for (let index = 0; index < 256; index++) expect((await write(part(nameOf(LARGE, `uuid-${index}`), 0, LARGE.subarray(0, 1)))).status).toBe(STATUS.OK);
    expect(await write(part(nameOf(LARGE, "uuid-0"), 1, LARGE.subarray(1, 2)))).toEqual({ status: 0, committed: 2 });
    expect((await write(part(nameOf(LARGE, "one-more"), 0, LARGE.subarray(0, 1)))).status).toBe(STATUS.OK);
    expect((await query(nameOf(LARGE, "uuid-1"))).status).toBe(STATUS.NOT_FOUND);
    expect(await write(part(nameOf(LARGE, "uuid-0"), 2, LARGE.subarray(2), true))).toEqual({ status: 0, committed: LARGE.length });
    expect(await isStored(LARGE)).toBe(true);
  });

  test("refuses one more upload while calls are busy with 256", async () => {
    const busy = Array.from({ length: 256 }, (_, index) => {
      const call = client.begin(`${BYTE_STREAM}/Write`);
      call.send(part(nameOf(LARGE, `uuid-${index}`), 0, LARGE.subarray(0, 1)));
      return call;
    });
    await using other = new RawGrpcClient(server.port);
    // When the last of them is known, so are the others.
    const isKnown = async (): Promise<boolean> => (await other.call(`${BYTE_STREAM}/QueryWriteStatus`, [lengthField(1, nameOf(LARGE, "uuid-255"))])).status === STATUS.OK;
    while (!(await isKnown()));
    expect((await other.call(`${BYTE_STREAM}/Write`, [part(nameOf(LARGE, "one-more"), 0, LARGE.subarray(0, 1))])).status).toBe(STATUS.RESOURCE_EXHAUSTED);
    for (const call of busy) call.stream.close();
  });

  test.for([-1, 1])("refuses a blob that is stored when its name says %i byte more", async (difference) => {
    expect((await write(part(nameOf(LARGE), 0, LARGE, true))).status).toBe(STATUS.OK);
    const name = `uploads/uuid/blobs/blake3/${hex(blake3(LARGE))}/${LARGE.length + difference}`;
    expect((await write(part(name, 0, LARGE, true))).status).toBe(STATUS.INVALID_ARGUMENT);
    expect((await query(name)).status).toBe(STATUS.INVALID_ARGUMENT);
    expect(await write(part(nameOf(LARGE), 0, LARGE, true))).toEqual({ status: 0, committed: LARGE.length });
  });

  test.for([
    ["an upload that was never begun", nameOf(LARGE), STATUS.NOT_FOUND],
    ["the name of a read", `blobs/blake3/${hex(blake3(LARGE))}/1`, STATUS.INVALID_ARGUMENT],
    ["no name", "", STATUS.INVALID_ARGUMENT],
  ] as const)("has QueryWriteStatus() refuse %s", async ([, name, expected]) => {
    expect((await query(name)).status).toBe(expected);
  });
});

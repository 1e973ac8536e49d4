import { spawn, spawnSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliDecompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";

import type { StreamPiece } from "../../src/bytes/framed-bytes.ts";
import { bytesOf } from "../../src/bytes/framed-bytes.ts";
import { LentMemory } from "../../src/bytes/lent-memory.ts";
import { BZIP2_BLOCK_BYTES, compressBzip2Sync } from "../../src/compression/bzip2-encoder.ts";
import { type Codec, CODECS, detectCodec } from "../../src/compression/codec.ts";
import { compress } from "../../src/compression/compress.ts";
import { rawFrame } from "../../src/compression/zstd-frame.ts";
import { compressZstd } from "../../src/compression/zstd.ts";
import { crc32, crc32ByTable } from "../../src/compression/crc32.ts";
import { sortRotations } from "../../src/compression/sort-rotations.ts";
import { workerPoolState } from "../../src/compression/worker-pool.ts";
import { collect, expectBytes, sampleBytes as randomBytes } from "../helpers/bytes.ts";
import { eventually, expectReason, within } from "../helpers/promises.ts";
import { sourceOf, streamOf, TrackedSource } from "../helpers/tracked-source.ts";
import { narVector } from "../helpers/vectors.ts";
import { chunked, COMPRESSED_CODECS, type CompressedCodec, decompressed, LARGE } from "./helpers.ts";

const MiB = 1024 * 1024;

const INPUTS: readonly (readonly [name: string, bytes: Uint8Array, pieceBytes: number])[] = [
  ["nothing", new Uint8Array(0), 1],
  ["one byte", Buffer.from("x"), 1],
  ...["complicated", "emptydirectory", "helloworld", "net-tools", "onebyteexecutable", "onebyteregular", "popdirectories", "symlink"].map(
    (name) => [`${name}.nar`, narVector(`${name}.nar`), 61] as const,
  ),
  ["400 kB of text", LARGE, 997],
  ["3 MiB without order", randomBytes(3 * MiB), 65_521],
  ["3 MiB of zeros", new Uint8Array(3 * MiB), 1_000_003],
  ["1 MiB of abab", Buffer.alloc(MiB, "ab"), 12_345],
  ["abab with something at the end", Buffer.concat([Buffer.alloc(200_001, "ab"), Buffer.from("c")]), 200_002],
  ["runs of every length", Buffer.concat(Array.from({ length: 520 }, (_, length) => Buffer.alloc(length, length))), 4_096],
  ["exactly one block of bzip2", randomBytes(BZIP2_BLOCK_BYTES, 2), BZIP2_BLOCK_BYTES],
  ["a block of bzip2 that its runs make longer", Buffer.from(Array.from({ length: BZIP2_BLOCK_BYTES }, (_, index) => index >> 2)), 999],
  ["exactly one frame of zstd", randomBytes(MiB, 3), MiB],
];

/** The programs that everyone else reads these with. Brotli's comes with Node.js. */
const PROGRAMS: Partial<Record<Codec, string>> = { xz: "xz", zstd: "zstd", bzip2: "bzip2", gzip: "gzip" };

describe.for(COMPRESSED_CODECS)("compress() to %s", (codec) => {
  const program = PROGRAMS[codec];
  const isProgramMissing = program !== undefined && spawnSync(program, ["--version"], { input: "" }).error !== undefined;
  if (isProgramMissing) console.log(`not covered: ${codec} read by the program ${program}, which is not installed`);
  if (isProgramMissing && process.env["CI"] === "true") throw new Error(`The program ${program} is not installed`);

  test.for(INPUTS)("gives back %s", async ([, bytes, pieceBytes]) => {
    const compressed = await collect(compress(sourceOf(...chunked(bytes, pieceBytes)), codec));
    expectBytes(await decompressed([compressed], { codec }), bytes);
    if (codec !== "br") expect(detectCodec(compressed)).toBe(codec);
    if (!isProgramMissing) expectBytes(await decompressedByProgram(codec, compressed), bytes);
  });

  test("takes pieces without bytes for nothing", async () => {
    const empty = new Uint8Array(0);
    const pieces = chunked(LARGE, 99_991).flatMap((piece) => [empty, piece]);
    expectBytes(await decompressed([await collect(compress(sourceOf(...pieces, empty), codec))], { codec }), LARGE);
    expectBytes(await decompressed([await collect(compress(sourceOf(empty, empty), codec))], { codec }), empty);
  });

  test("leaves the source's pieces as they are", async () => {
    const bytes = Buffer.from(LARGE);
    await collect(compress(sourceOf(bytes), codec));
    expectBytes(bytes, LARGE);
  });

  test.for([0, 1, 3])("gives no whole stream when the source fails after %d MiB", async (mebibytes) => {
    const failure = new Error("the disk is gone");
    const output: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const bytes of compress(new TrackedSource(chunked(randomBytes(mebibytes * MiB), 65_536), { fail: failure }), codec)) output.push(bytes);
    };
    await expectReason(read(), failure);
    await expect(decompressed(output, { codec })).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
  });

  test("reads no more than some MiB ahead of its reader", async () => {
    const source = endlessSource();
    const output = compress(source, codec);
    let size = 0;
    while (size < 300_000) size += (await within(output.next())).value?.length ?? 0;
    await sleep(300);
    expect(source.taken).toBeLessThanOrEqual(6 * MiB);
    await output.return();
  });
});

describe("compress() of pieces that are frames of their own", () => {
  const chunk = randomBytes(200_000, 8);
  const frame = rawFrame(chunk);
  const pieces: readonly StreamPiece[] = [LARGE, { bytes: chunk, frame }, { bytes: LARGE, frame: undefined }, LARGE.subarray(0, 100), { bytes: chunk, frame: undefined }, { bytes: chunk, frame }];

  test.for(CODECS)("gives back all of them, compressed to %s", async (codec) => {
    const compressed = await collect(compress(streamOf(pieces), codec));
    expectBytes(codec === "none" ? compressed : await decompressed([compressed], { codec }), Buffer.concat(pieces.map(bytesOf)));
  });

  test("puts frames where they are, and makes what is missing, each for itself", async () => {
    const made = await Promise.all([LARGE, LARGE.subarray(0, 100)].map((bytes) => compressZstd(LentMemory.copyOf(bytes), 1)));
    const expected = [made[0], frame, made[0], made[1], frame, frame] as Uint8Array[];
    expectBytes(await collect(compress(streamOf(pieces), "zstd", { level: 1 })), Buffer.concat(expected));
    const without = pieces.map((piece) => (piece instanceof Uint8Array ? piece : { ...piece, frame: undefined }));
    expectBytes(await collect(compress(streamOf(without), "zstd", { level: 1 })), Buffer.concat(expected));
  });

  test("gives no whole stream when the source fails after one", async () => {
    const failure = new Error("the disk is gone");
    const output: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      for await (const bytes of compress(new TrackedSource<StreamPiece>(pieces, { fail: failure }), "zstd")) output.push(bytes);
    };
    await expectReason(read(), failure);
    await expect(decompressed(output, { codec: "zstd" })).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
  });
});

describe.for(CODECS)("compress() to %s", (codec) => {
  test("closes the source when its reader stops early", async () => {
    const source = new TrackedSource(chunked(randomBytes(8 * MiB), 65_536));
    for await (const bytes of compress(source, codec)) if (bytes.length > 0) break;
    expect(source.returned).toBe(true);
    expect(source.taken).toBeLessThan(128);
    await eventually(() => workerPoolState().jobs === 0);
  });

  test("closes the source when it is aborted while that is stuck", async () => {
    const source = new TrackedSource([Buffer.from("x")], "stuck");
    const controller = new AbortController();
    const reading = collect(compress(source, codec, { signal: controller.signal }));
    await source.atEnd;
    const reason = new Error("enough");
    controller.abort(reason);
    await expectReason(reading, reason);
    expect(source.returned).toBe(true);
  });

  test("closes the source when it is aborted while no one reads", async () => {
    const source = new TrackedSource(chunked(randomBytes(8 * MiB), 65_536));
    const controller = new AbortController();
    const output = compress(source, codec, { signal: controller.signal });
    await output.next();
    const reason = new Error("enough");
    controller.abort(reason);
    await eventually(() => source.returned);
    await expectReason(collect(output), reason);
  });

  test("does not open the source when it was aborted before", async () => {
    const source = new TrackedSource([Buffer.from("x")]);
    const reason = new Error("enough");
    await expectReason(collect(compress(source, codec, { signal: AbortSignal.abort(reason) })), reason);
    expect(source.opened).toBe(0);
  });

  test("listens to its signal once, and not at all when it has ended", async () => {
    const { signal } = new AbortController();
    const listeners = new Set<number>();
    for await (const _ of compress(sourceOf(...chunked(LARGE, 997)), codec, { signal })) listeners.add(getEventListeners(signal, "abort").length);
    expect([...listeners]).toEqual([1]);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("rejects with the source's error", async () => {
    const failure = new Error("the disk is gone");
    await expectReason(collect(compress(new TrackedSource([Buffer.from("x")], { fail: failure }), codec)), failure);
  });

  test("does not hold up the main thread", async () => {
    await collect(compress(sourceOf(Buffer.from("the code is loaded")), codec));
    let longest = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 1);
    async function* source(): AsyncGenerator<Uint8Array, void, undefined> {
      for (const piece of chunked(LARGE, 65_536)) {
        yield piece;
        // As from a disk, which a promise that is already resolved is not.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await collect(compress(source(), codec));
    clearInterval(timer);
    // 20 ms, and the noise of a busy machine.
    expect(longest).toBeLessThan(60);
  });
});

test("compress() to none passes the pieces through", async () => {
  const pieces = chunked(LARGE, 99_991);
  const output: Uint8Array[] = [];
  for await (const bytes of compress(sourceOf(...pieces), "none")) output.push(bytes);
  expect(output).toHaveLength(pieces.length);
  expectBytes(Buffer.concat(output), LARGE);
});

test("compressBzip2Sync() refuses more than a block", () => {
  expect(() => compressBzip2Sync(new Uint8Array(BZIP2_BLOCK_BYTES + 1))).toThrow(RangeError);
});

test("compressBzip2Sync() takes repetitive blocks as others, give or take", () => {
  const blocks = {
    text: LARGE.subarray(0, BZIP2_BLOCK_BYTES),
    abab: Buffer.alloc(BZIP2_BLOCK_BYTES, "ab"),
    ababc: Buffer.concat([Buffer.alloc(BZIP2_BLOCK_BYTES - 1, "ab"), Buffer.from("c")]),
    fibonacci: fibonacciText(BZIP2_BLOCK_BYTES),
    longPeriod: Buffer.concat([randomBytes(BZIP2_BLOCK_BYTES / 2), randomBytes(BZIP2_BLOCK_BYTES / 2)]),
  };
  const slow = Object.entries(blocks).filter(([, block]) => {
    const start = performance.now();
    compressBzip2Sync(block);
    // Comparing rotations byte by byte takes minutes here.
    return performance.now() - start > 2_000;
  });
  expect(slow.map(([name]) => name)).toEqual([]);
});

test.for([
  ["banana", "banana"],
  ["one byte", "x"],
  ["two bytes", "yx"],
  ["three bytes", "aaa"],
  ["a period", "abcabcabc"],
  ["a long period", "abcdefghijklmnop".repeat(20)],
  ["almost a period", `${"ab".repeat(200)}c`],
  ["bytes over 127", "\u00ff\u0000\u00ff\u00ff\u007f\u0080".repeat(9)],
  ["text", LARGE.toString("latin1", 0, 2_000)],
] as const)("sortRotations() sorts the rotations of %s", ([, text]) => {
  const rotation = (start: number): string => text.slice(start) + text.slice(0, start);
  const expected = Array.from(text, (_, start) => rotation(start)).sort();
  expect(Array.from(sortRotations(Buffer.from(text, "latin1")), rotation)).toEqual(expected);
});

test("crc32() is the checksum of gzip, in pieces too, with and without Node's own", () => {
  expect(crc32(Buffer.from("123456789"))).toBe(0xcbf43926);
  expect(crc32ByTable(Buffer.from("123456789"), 0)).toBe(0xcbf43926);
  expect(crc32(Buffer.from("6789"), crc32(Buffer.from("12345")))).toBe(0xcbf43926);
  expect(crc32ByTable(LARGE, 0)).toBe(crc32(LARGE));
});

/** Random bytes without an end, which counts what it gave. */
function endlessSource(): AsyncIterable<Uint8Array> & { readonly taken: number } {
  let taken = 0;
  return {
    get taken() {
      return taken;
    },
    async *[Symbol.asyncIterator]() {
      for (let seed = 1; ; seed++) {
        const piece = randomBytes(65_536, seed);
        taken += piece.length;
        yield piece;
      }
    },
  };
}

function fibonacciText(size: number): Buffer {
  let [previous, text] = ["b", "a"];
  while (text.length < size) [previous, text] = [text, text + previous];
  return Buffer.from(text.slice(0, size));
}

/** What the program of a codec, or node:zlib for brotli, makes of `compressed`; it must not complain. */
async function decompressedByProgram(codec: CompressedCodec, compressed: Uint8Array): Promise<Buffer> {
  const program = PROGRAMS[codec];
  if (program === undefined) return brotliDecompressSync(compressed);
  const child = spawn(program, ["-dc"], { stdio: "pipe" });
  child.stdin.end(compressed);
  const complaints = collect(child.stderr);
  const output = await collect(child.stdout);
  expect(Buffer.from(await complaints).toString()).toBe("");
  const status = child.exitCode ?? (await new Promise((resolve) => child.on("exit", resolve)));
  expect(status).toBe(0);
  return Buffer.from(output);
}

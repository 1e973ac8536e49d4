import { randomBytes } from "node:crypto";
import { getEventListeners } from "node:events";
import { availableParallelism } from "node:os";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";

import { LentMemory } from "../../src/bytes/lent-memory.ts";
import type { Codec } from "../../src/compression/codec.ts";
import { compress } from "../../src/compression/compress.ts";
import { decompress } from "../../src/compression/decompress.ts";
import { workerPoolState } from "../../src/compression/worker-pool.ts";
import { compressZstdSync } from "../../src/compression/zstd.ts";
import {
  bomb,
  BOMB_BYTES,
  chunked,
  COMPRESSED_CODECS,
  type CompressedCodec,
  CONCATENABLE_CODECS,
  decompressed,
  eventually,
  fixture,
  LARGE,
  largeCompressed,
  SMALL,
  smallCompressed,
  sourceOf,
} from "./helpers.ts";

const NAR = Buffer.concat([Buffer.from("\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0"), SMALL]);
const MiB = 1024 * 1024;

function expectBytes(actual: Buffer, expected: Buffer): void {
  expect(actual.length).toBe(expected.length);
  expect(actual.equals(expected)).toBe(true);
}

function invalid(message: RegExp): unknown {
  return expect.objectContaining({ code: "ERR_COMPRESSION_INVALID", message: expect.stringMatching(message) });
}

describe.for(COMPRESSED_CODECS)("decompress() of %s", (codec) => {
  test("decodes it, told by its first bytes", async () => {
    const codecs: Codec[] = [];
    expectBytes(await decompressed([smallCompressed(codec)], { onCodec: (found) => codecs.push(found) }), SMALL);
    expect(codecs).toEqual([codec]);
  });

  test("decodes it, told by the caller", async () => {
    expectBytes(await decompressed([largeCompressed(codec)], { codec }), LARGE);
  });

  test.for([1, 7, 100])("decodes it in pieces of %d bytes", async (size) => {
    expectBytes(await decompressed(chunked(smallCompressed(codec), size)), SMALL);
  });

  test.for([997, 65_536])("decodes several blocks in pieces of %d bytes", async (size) => {
    expectBytes(await decompressed(chunked(largeCompressed(codec), size)), LARGE);
  });

  test("decodes it with empty chunks between", async () => {
    const empty = new Uint8Array(0);
    const chunks = chunked(smallCompressed(codec), 50).flatMap((chunk) => [empty, chunk, empty]);
    expectBytes(await decompressed([empty, ...chunks]), SMALL);
  });

  test("gives out what is there until the next but one is asked for", async () => {
    const many = randomBytes(3_000_000);
    const pieces: Buffer[] = [];
    let before: Uint8Array | undefined;
    for await (const piece of decompress(compress(sourceOf(many), codec))) {
      // Others take what was given back meanwhile.
      for (let count = 0; count < 4; count++) LentMemory.lend(512 * 1024).bytes.fill(0);
      if (before !== undefined) pieces.push(Buffer.from(before));
      before = piece;
    }
    expectBytes(Buffer.concat([...pieces, before ?? Buffer.alloc(0)]), many);
    expect(pieces.length).toBeGreaterThan(4);
  });

  test("leaves the source's chunks as they are", async () => {
    const compressed = smallCompressed(codec);
    const given = Buffer.from(compressed);
    await decompressed([given]);
    expectBytes(given, compressed);
  });

  test("rejects every truncation", async () => {
    const compressed = smallCompressed(codec);
    const lengths = Array.from({ length: compressed.length - 1 }, (_, index) => index + 1);
    await Promise.all(
      lengths.map((length) =>
        expect(decompressed([compressed.subarray(0, length)], { codec }), `${length} bytes`).rejects.toEqual(invalid(/Cannot decompress \w+: /)),
      ),
    );
    await expect(decompressed([compressed.subarray(0, -1)])).rejects.toEqual(invalid(/ends early/));
  });

  test("rejects truncations of several blocks", async () => {
    const compressed = largeCompressed(codec);
    for (let length = 1; length < compressed.length; length += 4_999) {
      await expect(decompressed([compressed.subarray(0, length)], { codec }), `${length} bytes`).rejects.toEqual(invalid(/ends early/));
    }
  });

  test.for([
    ["a zero byte", Buffer.alloc(1)],
    ["zeros", Buffer.alloc(61)],
    ["a line", Buffer.from("\n")],
    ["text", Buffer.from("this is no compressed stream at all")],
    ["the beginning of another stream", undefined],
  ] as const)("rejects %s behind it", async ([, garbage]) => {
    const compressed = smallCompressed(codec);
    const after = garbage ?? compressed.subarray(0, 9);
    await expect(decompressed([Buffer.concat([compressed, after])])).rejects.toEqual(invalid(/./));
    await expect(decompressed([compressed, after])).rejects.toEqual(invalid(/./));
    await expect(decompressed([...chunked(compressed, 10), ...chunked(after, 1)])).rejects.toEqual(invalid(/./));
  });

  test("gives no other bytes than it should, wherever a byte is damaged", async () => {
    const compressed = smallCompressed(codec);
    let rejected = 0;
    for (let index = 0; index < compressed.length; index++) {
      const damaged = Buffer.from(compressed);
      damaged[index] = (damaged[index] ?? 0) ^ 0xff;
      const result = await decompressed([damaged], { codec }).catch((error: unknown) => error);
      if (result instanceof Error) rejected++;
      // Brotli has no checksum. The others may ignore a byte (a flag, a time) but not change the content.
      else if (codec !== "br") expectBytes(result as Buffer, SMALL);
    }
    expect(rejected).toBeGreaterThan(compressed.length * (codec === "br" ? 0.3 : 0.9));
  });

  test("rejects an empty input", async () => {
    await expect(decompressed([], { codec })).rejects.toEqual(invalid(/input is empty/));
  });

  test("rejects another compression than the caller said", async () => {
    const other = codec === "xz" ? "zstd" : "xz";
    await expect(decompressed([smallCompressed(other)], { codec })).rejects.toEqual(invalid(/Cannot decompress \w+: input is/));
  });

  test("stops at maxOutputBytes", async () => {
    let size = 0;
    const read = async (): Promise<void> => {
      for await (const bytes of decompress(sourceOf(bomb(codec)), { maxOutputBytes: 10 * MiB })) size += bytes.length;
    };
    await expect(read()).rejects.toMatchObject({ code: "ERR_LIMIT", message: `Cannot decompress ${codec}: more than ${10 * MiB} bytes` });
    expect(size).toBeLessThanOrEqual(10 * MiB);
    expect(await decompressed([smallCompressed(codec)], { maxOutputBytes: SMALL.length })).toHaveLength(SMALL.length);
  });

  test("gives a bomb in pieces of less than 1 MiB, and all of it", async () => {
    let size = 0;
    for await (const bytes of decompress(sourceOf(bomb(codec)))) {
      expect(bytes.buffer.byteLength).toBeLessThanOrEqual(MiB);
      size += bytes.length;
    }
    expect(size).toBe(BOMB_BYTES);
  });

  test("does not read on when its reader stops", async () => {
    const source = endless(codec);
    const output = decompress(source.bytes, { codec });
    await output.next();
    await new Promise((resolve) => setTimeout(resolve, 150));
    const pulled = source.pulled();
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(source.pulled()).toBe(pulled);
    expect(pulled * source.ratio).toBeLessThan(6 * MiB);
    await output.return();
  });

  test("lets go of source and worker when its reader stops early", async () => {
    const source = endless(codec);
    for await (const bytes of decompress(source.bytes)) if (bytes.length > 0) break;
    expect(source.isClosed()).toBe(true);
    expect(workerPoolState().jobs).toBe(0);
  });

  test("lets go of source and worker when aborted, though no one reads on", async () => {
    const source = endless(codec);
    const controller = new AbortController();
    const reason = new Error("Enough");
    const output = decompress(source.bytes, { signal: controller.signal });
    await output.next();
    controller.abort(reason);
    await eventually(() => source.isClosed() && workerPoolState().jobs === 0);
    const rest = async (): Promise<void> => {
      for await (const _ of output);
    };
    await expect(rest()).rejects.toBe(reason);
  });

  test("is aborted though its source is stuck", async () => {
    let isClosed = false;
    const beginning = smallCompressed(codec).subarray(0, 100);
    const stuck: AsyncIterable<Uint8Array> = {
      [Symbol.asyncIterator]: () => {
        let reads = 0;
        return {
          next: () => (reads++ === 0 ? Promise.resolve({ done: false, value: beginning }) : new Promise(() => undefined)),
          return: () => {
            isClosed = true;
            return new Promise(() => undefined);
          },
        };
      },
    };
    const controller = new AbortController();
    const reason = "a reason that is no error";
    const read = async (): Promise<void> => {
      for await (const _ of decompress(stuck, { signal: controller.signal }));
    };
    setTimeout(() => controller.abort(reason), 20);
    await expect(read()).rejects.toBe(reason);
    expect(isClosed).toBe(true);
    await eventually(() => workerPoolState().jobs === 0);
  });

  test("listens to its signal once, and not at all when it has ended", async () => {
    const { signal } = new AbortController();
    const listeners = new Set<number>();
    for await (const _ of decompress(sourceOf(...chunked(largeCompressed(codec), 997)), { signal })) listeners.add(getEventListeners(signal, "abort").length);
    expect([...listeners]).toEqual([1]);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("passes the source's error through", async () => {
    const failure = new Error("The connection broke");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield smallCompressed(codec).subarray(0, 100);
      throw failure;
    }
    const read = async (): Promise<void> => {
      for await (const _ of decompress(failing()));
    };
    await expect(read()).rejects.toBe(failure);
    expect(workerPoolState().jobs).toBe(0);
  });
});

describe.for(CONCATENABLE_CODECS)("decompress() of concatenated %s", (codec) => {
  const twice = Buffer.concat([smallCompressed(codec), largeCompressed(codec)]);

  test.for([1_000_000, 65_536, 501, 13])("decodes it in pieces of %d bytes", async (size) => {
    expectBytes(await decompressed(chunked(twice, size)), Buffer.concat([SMALL, LARGE]));
  });

  test("decodes it with the cut between the streams", async () => {
    expectBytes(await decompressed([smallCompressed(codec), smallCompressed(codec)]), Buffer.concat([SMALL, SMALL]));
  });

  test("rejects every truncation of the second stream", async () => {
    const small = smallCompressed(codec);
    for (let length = 1; length < small.length; length += codec === "gzip" ? 1 : 5) {
      await expect(decompressed([small, small.subarray(0, length)]), `${length} bytes`).rejects.toEqual(invalid(/./));
    }
  });
});

describe("decompress()", () => {
  test("gives a NAR as it is", async () => {
    const codecs: Codec[] = [];
    expectBytes(await decompressed(chunked(NAR, 5), { onCodec: (codec) => codecs.push(codec) }), NAR);
    expect(codecs).toEqual(["none"]);
  });

  test("gives anything as it is when told that it is not compressed", async () => {
    expectBytes(await decompressed([Buffer.from("x")], { codec: "none" }), Buffer.from("x"));
  });

  test("bounds, closes and aborts what is not compressed, too", async () => {
    await expect(decompressed([NAR], { maxOutputBytes: NAR.length - 1 })).rejects.toMatchObject({ code: "ERR_LIMIT" });
    const reason = new Error("Too late");
    await expect(decompressed([NAR], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const source = sourceOf(NAR, NAR);
    for await (const _ of decompress(source)) break;
    expect(await source.next()).toEqual({ done: true, value: undefined });
  });

  test("says of what it does not know that it is neither a NAR nor compressed", async () => {
    await expect(decompressed([Buffer.from("<html>Not found</html>")])).rejects.toEqual(
      invalid(/input begins with 3c68746d6c.*neither a NAR nor a compression we know, and it is not br/),
    );
  });

  test.for(["", "\0", "\x0d\0\0"])("rejects %j", async (text) => {
    await expect(decompressed([Buffer.from(text, "latin1")])).rejects.toEqual(invalid(/./));
  });

  test("rejects a second brotli stream, which brotli does not allow", async () => {
    await expect(decompressed([smallCompressed("br"), smallCompressed("br")])).rejects.toEqual(invalid(/followed by something/));
  });

  test("decodes streams of nothing", async () => {
    for (const empty of [gzipSync(""), brotliCompressSync(""), compressZstdSync(new Uint8Array(0), 3)]) {
      expect(await decompressed([empty])).toHaveLength(0);
    }
  });

  test("decodes xz with padding, and without a check", async () => {
    const padded = Buffer.concat([smallCompressed("xz"), Buffer.alloc(8), fixture("check-none.xz"), Buffer.alloc(4)]);
    expectBytes(await decompressed(chunked(padded, 11)), Buffer.concat([SMALL, SMALL]));
  });

  test("decodes zstd with skippable frames anywhere", async () => {
    const skippable = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5]);
    const none = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    const input = Buffer.concat([none, skippable, smallCompressed("zstd"), skippable, none, largeCompressed("zstd"), none]);
    for (const size of [7, 100, input.length]) {
      expectBytes(await decompressed(chunked(input, size)), Buffer.concat([SMALL, LARGE]));
    }
    await expect(decompressed([skippable.subarray(0, -1)])).rejects.toEqual(invalid(/ends early/));
  });

  test.for([
    ["window-too-large.zst", "ERR_LIMIT", /window of \d+ bytes/],
    ["dictionary-too-large.xz", "ERR_LIMIT", /dictionary of more than 64 MiB/],
    ["check-sha256.xz", "ERR_COMPRESSION_UNSUPPORTED", /only LZMA2 with CRC32 or CRC64/],
    ["filter-x86.xz", "ERR_COMPRESSION_UNSUPPORTED", /only LZMA2 with CRC32 or CRC64/],
  ] as const)("refuses %s", async ([name, code, message]) => {
    await expect(decompressed([fixture(name)])).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test("refuses lz4 and says what to use", async () => {
    await expect(decompressed([Buffer.from("04224d186440a7", "hex")])).rejects.toMatchObject({
      code: "ERR_COMPRESSION_UNSUPPORTED",
      message: expect.stringContaining("use xz or zstd"),
    });
  });

  test("decodes many inputs at once, in no more threads than processors", async () => {
    const codecs = Array.from({ length: 60 }, (_, index) => COMPRESSED_CODECS[index % COMPRESSED_CODECS.length] as CompressedCodec);
    const outputs = await Promise.all(codecs.map((codec) => decompressed(chunked(largeCompressed(codec), 8_000))));
    for (const output of outputs) expectBytes(output, LARGE);
    expect(workerPoolState().workers).toBeLessThanOrEqual(availableParallelism());
    expect(workerPoolState().jobs).toBe(0);
  });

  test("survives zstd streams with large windows that are left in the middle", async () => {
    // 128 MiB of window, and blocks that are runs: 128 KiB from four bytes.
    const run = Buffer.from([(131_072 << 3) | 2, (131_072 >> 5) & 0xff, (131_072 >> 13) & 0xff, 0x61]);
    const input = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3]), ...Array.from({ length: 100 }, () => run)]);
    for (let turn = 0; turn < 5; turn++) await expect(decompressed([input])).rejects.toEqual(invalid(/ends early/));
    expectBytes(await decompressed([smallCompressed("zstd")]), SMALL);
    await eventually(() => workerPoolState().jobs === 0);
  });
});

/** A source without end whose pulled bytes are counted. `ratio` is how many bytes one of them becomes. */
function endless(codec: CompressedCodec): {
  readonly bytes: AsyncIterable<Uint8Array>;
  readonly ratio: number;
  pulled(): number;
  isClosed(): boolean;
} {
  // Brotli has one stream only: a long one of random bytes.
  const brotli = codec === "br" ? brotliCompressSync(randomBytes(32 * MiB), { params: { [constants.BROTLI_PARAM_QUALITY]: 0 } }) : undefined;
  const pieces = chunked(brotli ?? largeCompressed(codec), 32 * 1024);
  let pulled = 0;
  let isClosed = false;
  async function* bytes(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        for (const piece of pieces) {
          pulled += piece.length;
          yield piece;
        }
      }
    } finally {
      isClosed = true;
    }
  }
  return { bytes: bytes(), ratio: brotli === undefined ? LARGE.length / largeCompressed(codec).length : 1, pulled: () => pulled, isClosed: () => isClosed };
}

import { describe, expect, test } from "vitest";

import { LentMemory } from "../../src/bytes/lent-memory.ts";
import { compressZstd, compressZstdSync, decompressZstd, decompressZstdSync, frameZstd, openZstd, ZSTD_ENCODER } from "../../src/compression/zstd.ts";
import { rawFrame } from "../../src/compression/zstd-frame.ts";
import { parseZstdFrameHeader } from "../../src/compression/zstd-frames.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { hexes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { bomb, BOMB_BYTES, chunked, decompressed, fixture, LARGE, SMALL, smallCompressed } from "./helpers.ts";

describe.for([
  ["in a thread", async (bytes: Uint8Array, level: number) => await compressZstd(LentMemory.copyOf(bytes), level), async (bytes: Uint8Array, size: number) => (await decompressZstd(LentMemory.copyOf(bytes), size)).bytes],
  ["on this thread", async (bytes: Uint8Array, level: number) => compressZstdSync(bytes, level), async (bytes: Uint8Array, size: number) => decompressZstdSync(bytes, size)],
] as const)("zstd of blocks %s", ([, compress, decompress]) => {
  test.for([-5, 1, 3, 19])("decompresses what was compressed at level %d", async (level) => {
    for (const bytes of [new Uint8Array(0), Buffer.from("x"), SMALL, LARGE]) {
      const compressed = await compress(bytes, level);
      expect(Buffer.from(await decompress(compressed, bytes.length)).equals(bytes)).toBe(true);
    }
  });

  test("compresses alike each time, whatever came between", async () => {
    const first = await compress(SMALL, 3);
    await compress(LARGE, 3);
    await compress(LARGE, 1);
    expect(await compress(SMALL, 3)).toEqual(first);
  });

  test("leaves the caller's bytes as they are, part of a larger buffer or not", async () => {
    const slab = Buffer.from(LARGE);
    const part = slab.subarray(1_000, 3_000);
    const compressed = await compress(part, 3);
    await decompress(compressed, 2_000);
    expect(slab.equals(LARGE)).toBe(true);
    expect(compressed.length).toBeGreaterThan(0);
  });

  test("writes the size into the frame, and frames that stand in a row", async () => {
    const frames = await Promise.all(chunked(LARGE, 100_000).map((part) => compress(part, 1)));
    expect(frames.map((frame) => parseZstdFrameHeader(frame).contentBytes)).toEqual([100_000, 100_000, 100_000, 100_000]);
    expect((await decompressed(frames)).equals(LARGE)).toBe(true);
  });

  test.for([0, 1, 399_999, 400_001])("rejects a frame of another size than %d", async (size) => {
    await expect(decompress(await compress(LARGE, 1), size)).rejects.toMatchObject({ code: "ERR_MISMATCH" });
    // Here the header does not tell.
    await expect(decompress(fixture("large.zst"), size)).rejects.toMatchObject({ code: "ERR_MISMATCH" });
  });

  test("decompresses a frame that does not tell its size", async () => {
    expect(Buffer.from(await decompress(fixture("large.zst"), LARGE.length)).equals(LARGE)).toBe(true);
  });

  test("rejects a frame that lies about its size", async () => {
    const lying = Buffer.from(await compress(LARGE, 1));
    lying.writeUInt32LE(LARGE.length - 1, 6);
    await expect(decompress(lying, LARGE.length - 1)).rejects.toMatchObject({ message: expect.stringMatching(/Cannot decompress zstd/) });
    lying.writeUInt32LE(LARGE.length + 1, 6);
    await expect(decompress(lying, LARGE.length + 1)).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
  });

  test("takes no memory for what a frame becomes beyond the expected size", async () => {
    const input = bomb("zstd");
    expect(input.length).toBeLessThan(BOMB_BYTES / 1_000);
    await expect(decompress(input, 1_000)).rejects.toMatchObject({ code: "ERR_MISMATCH" });
    await expect(decompress(fixture("window-too-large.zst"), 1_000)).rejects.toMatchObject({ code: "ERR_LIMIT" });
  });

  test("rejects every truncation", async () => {
    const compressed = smallCompressed("zstd");
    for (let length = 0; length < compressed.length; length++) {
      await expect(decompress(compressed.subarray(0, length), SMALL.length), `${length} bytes`).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
    }
  });

  test("rejects what follows the frame", async () => {
    const compressed = smallCompressed("zstd");
    for (const garbage of ["\0", "garbage", "a little more than the longest header"]) {
      await expect(decompress(Buffer.concat([compressed, Buffer.from(garbage)]), SMALL.length)).rejects.toMatchObject({
        code: "ERR_COMPRESSION_INVALID",
      });
    }
    await expect(decompress(Buffer.concat([compressed, compressed]), SMALL.length)).rejects.toMatchObject({ code: "ERR_MISMATCH" });
  });

  test("rejects what is not zstd, and damage", async () => {
    await expect(decompress(SMALL, SMALL.length)).rejects.toMatchObject({ message: "Cannot decompress zstd: input is not zstd" });
    const damaged = Buffer.from(smallCompressed("zstd"));
    damaged[200] = (damaged[200] ?? 0) ^ 0xff;
    await expect(decompress(damaged, SMALL.length)).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
  });

  test("rejects a level that there is not", async () => {
    await expect(compress(SMALL, 23)).rejects.toThrow(/23 is not a level/);
    await expect(compress(SMALL, 1.5)).rejects.toThrow(/1.5 is not a level/);
  });
});

test("compressZstd() leaves the event loop free", async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  await Promise.all(Array.from({ length: 8 }, () => compressZstd(LentMemory.copyOf(LARGE), 15)));
  clearInterval(timer);
  expect(turns).toBeGreaterThan(5);
});

test("frames are those that ZSTD_ENCODER stands for: with other ones, it is to be increased", () => {
  const frames = [-5, 1, 3, 19].map((level) => blake3(compressZstdSync(textBytes(700_000, 1), level)));
  expect([ZSTD_ENCODER, ...hexes(frames)]).toEqual([
    1,
    "4149ddb9986c80810dc6b19ed729f2bd3ca972328f75e13128b2544efd98485c",
    "675266da2c8094e35e0440ca22c7ab8455cb50b4e742ed5e849717974b8266d8",
    "55d0db2af235041a142061e9acb6cbd6c2b75880f16c4d4aa9b1c0cbced3e757",
    "1d6d274fa0fc4b6005d7bc8319bc07a5ddfb06efa596d30913770e3fcf116836",
  ]);
});

test("frameZstd() gives a frame of any bytes, no longer than one that holds them as they are, and leaves them alone", async () => {
  for (const bytes of [Buffer.from("x"), SMALL, LARGE, sampleBytes(300_000)]) {
    const before = Buffer.from(bytes);
    const frame = await frameZstd(bytes, 1);
    expect(frame.length).toBeLessThanOrEqual(rawFrame(bytes).length);
    expect(parseZstdFrameHeader(frame).contentBytes).toBe(bytes.length);
    expect(Buffer.from(decompressZstdSync(frame, bytes.length)).equals(before)).toBe(true);
    expect(before.equals(bytes)).toBe(true);
  }
});

test("openZstd() leaves its input as it was, in the memory that was lent", async () => {
  const frame = compressZstdSync(LARGE, 1);
  const memory = LentMemory.lend(frame.length + 100);
  memory.bytes.set(frame, 64);
  memory.narrow(64, 64 + frame.length);
  expect(Buffer.from((await openZstd(memory, LARGE.length)).bytes).equals(LARGE)).toBe(true);
  expect(Buffer.from(memory.bytes).equals(frame)).toBe(true);
  memory.release();
});

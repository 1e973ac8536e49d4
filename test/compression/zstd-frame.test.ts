import { expect, test } from "vitest";
import { decompress } from "../../src/compression/decompress.ts";
import { decompressZstdSync } from "../../src/compression/zstd.ts";
import { MAX_SHORT_FRAME_LENGTH, rawFrame, rawFrameHead, rawFrameLength, SHORT_FRAME_HEAD_LENGTH } from "../../src/compression/zstd-frame.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { streamOf } from "../helpers/tracked-source.ts";

const SIZES = [1, 2, 255, 256, 65_536, 131_071, 131_072, 131_073, 262_144, 1_000_000];

test.for(SIZES)("rawFrame() makes %i bytes a frame that tells its size", (size) => {
  const bytes = sampleBytes(size);
  const frame = rawFrame(bytes);
  expect(frame.length).toBe(rawFrameLength(size));
  expectBytes(decompressZstdSync(frame, size), bytes);
});

test.for(SIZES.filter((size) => size <= MAX_SHORT_FRAME_LENGTH))("rawFrameHead() before %i bytes is rawFrame()", (size) => {
  const bytes = sampleBytes(size);
  const head = rawFrameHead(size);
  expect(head.length).toBe(SHORT_FRAME_HEAD_LENGTH);
  expectBytes(Buffer.concat([head, bytes]), rawFrame(bytes));
});

test("frames behind each other are one stream", async () => {
  const pieces = SIZES.map((size) => sampleBytes(size, size));
  expectBytes(await collect(decompress(streamOf(pieces.map((piece) => rawFrame(piece))), { codec: "zstd" })), Buffer.concat(pieces));
});

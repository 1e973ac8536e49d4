/**
 * zstd of whole blocks, off the main thread. A block is a frame that tells its size.
 *
 * What is to be worked on goes to the thread and comes back: in memory that is lent. The synchronous forms take about as long as
 * sending to a thread does when blocks are of a few KiB.
 */
import { LentMemory } from "../bytes/lent-memory.ts";
import { runBlock, runInPlace } from "./worker-pool.ts";
import type { FrameInFile } from "./worker-protocol.ts";
import { rawFrame } from "./zstd-frame.ts";

export { compressZstdSync, decompressZstdSync, ZSTD_ENCODER } from "./zstd-block.ts";

/**
 * Compress bytes to one frame that tells their size.
 *
 * @param input is given back
 * @param level -131072 to 22; 1 and 3 are sensible
 */
export function compressZstd(input: LentMemory, level: number): Promise<Uint8Array> {
  return runBlock({ type: "compressZstd", level }, input);
}

/** Compress bytes in place to one frame that tells their size, unless it would not be shorter: then they stay as they are. No one may look at the memory until that is done. */
export async function shrinkZstd(memory: LentMemory, level: number): Promise<void> {
  await runInPlace({ type: "shrinkZstd", level }, memory);
}

/** Compress bytes to one frame that tells their size: where that would not be shorter, one that holds them as they are. */
export async function frameZstd(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  const memory = LentMemory.copyOf(bytes);
  await shrinkZstd(memory, level);
  if (memory.bytes.length < bytes.length) return memory.bytes;
  memory.release();
  return rawFrame(bytes);
}

/**
 * Decompress frames and forget what they held, but for the BLAKE3 of each of the pieces that it is to be cut into.
 *
 * @param input is given back
 * @returns 32 bytes for each of `lengths`
 * @throws as `decompressZstd`
 */
export function hashZstd(input: LentMemory, lengths: readonly number[]): Promise<Uint8Array> {
  return runBlock({ type: "hashZstd", lengths }, input);
}

/**
 * As `decompressZstd`, of input that is needed afterwards: it is as it was then, and not given back.
 */
export function openZstd(input: LentMemory, expectedSize: number): Promise<LentMemory> {
  return decompressFrom(input, expectedSize, "keep");
}

/**
 * Decompress frames that must become exactly `expectedSize` bytes. No more memory than that (and a constant) is taken,
 * whatever they turn out to be.
 *
 * @param input is given back
 * @throws NarborError `ERR_COMPRESSION_INVALID` when the input is damaged, cut short or followed by something else,
 *   `ERR_MISMATCH` when it is of another size, `ERR_LIMIT` when it asks for a larger window than such a block needs
 */
export function decompressZstd(input: LentMemory, expectedSize: number): Promise<LentMemory> {
  return decompressFrom(input, expectedSize, "release");
}

/**
 * Read a frame where it lies in a file, verify it, and decompress it to exactly `expectedSize` bytes: all of that in a thread, which waits for the file.
 *
 * @throws NarborError ERR_DATA_LOSS when the file is too short, or holds other bytes there; as `decompressZstd`; any other error when the file cannot be read
 */
export async function readZstd(frame: FrameInFile, expectedSize: number): Promise<LentMemory> {
  const memory = LentMemory.lend(expectedSize);
  await runInPlace({ type: "readZstd", frame }, memory);
  return memory;
}

async function decompressFrom(input: LentMemory, expectedSize: number, then: "release" | "keep"): Promise<LentMemory> {
  const output = LentMemory.lend(expectedSize);
  const content = await runBlock({ type: "decompressZstd", output: output.bytes }, input, then);
  output.restore(content.buffer, expectedSize);
  return output;
}

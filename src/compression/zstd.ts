/**
 * zstd of whole blocks, off the main thread. A block is a frame that tells its size.
 *
 * The bytes given are copied to the thread and stay the caller's, unless it gives them away. The synchronous forms take about as long as
 * sending to a thread does when blocks are of a few KiB.
 */
import { runBlock } from "./worker-pool.ts";

export { compressZstdSync, decompressZstdSync } from "./zstd-block.ts";

/**
 * Compress `bytes` to one frame that tells their size.
 *
 * @param level -131072 to 22; 1 and 3 are sensible
 * @param isOurs whether the bytes are given away, with all of their buffer, which is empty then; others are copied
 */
export function compressZstd(bytes: Uint8Array, level: number, isOurs = false): Promise<Uint8Array> {
  return runBlock({ type: "compressZstd", level }, bytes, isOurs);
}

/**
 * Compress bytes that no one else uses: their buffer goes to the thread, and is empty here from now on.
 *
 * @returns one frame that tells their size, or, where it would not be shorter, the bytes themselves
 */
export function shrinkZstd(bytes: Uint8Array, level: number): Promise<Uint8Array> {
  return runBlock({ type: "shrinkZstd", level }, bytes, true);
}

/**
 * Decompress frames and forget what they held, but for the BLAKE3 of each of the pieces that it is to be cut into.
 *
 * @returns 32 bytes for each length
 * @throws as `decompressZstd`
 */
export function hashZstd(bytes: Uint8Array, lengths: readonly number[]): Promise<Uint8Array> {
  return runBlock({ type: "hashZstd", lengths }, bytes);
}

/**
 * Decompress frames that must become exactly `expectedSize` bytes. No more memory than that (and a constant) is taken,
 * whatever they turn out to be.
 *
 * @throws NarborError `ERR_COMPRESSION_INVALID` when the input is damaged, cut short or followed by something else,
 *   `ERR_MISMATCH` when it is of another size, `ERR_LIMIT` when it asks for a larger window than such a block needs
 * @param isOurs as for `compressZstd`
 */
export function decompressZstd(bytes: Uint8Array, expectedSize: number, isOurs = false): Promise<Uint8Array> {
  return runBlock({ type: "decompressZstd", size: expectedSize }, bytes, isOurs);
}

/** Blobs that come compressed by zstd. */
import type { DecompressOptions } from "../compression/decompress.ts";
import { decompress } from "../compression/decompress.ts";
import { NarborError, isNarborError } from "../errors.ts";

/**
 * What level 19 asks for. An upload that no one ends holds its window until it is given up, and hundreds may be under way: what `--long` asks
 * for is too much for each of them.
 */
const MAX_WINDOW_BYTES = 8 * 1024 * 1024;

/** @throws NarborError ERR_COMPRESSION_INVALID; ERR_MISMATCH for more than `maxOutputBytes`, and for a window that is too large */
export async function* decompressBlob(
  content: AsyncIterable<Uint8Array>,
  options: Pick<DecompressOptions, "maxOutputBytes" | "signal"> = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* decompress(content, { ...options, codec: "zstd", maxWindowBytes: MAX_WINDOW_BYTES });
  } catch (error) {
    // It is wrong, however often it is sent; RESOURCE_EXHAUSTED would have clients try again.
    if (isNarborError(error, "ERR_LIMIT")) throw new NarborError("ERR_MISMATCH", error.message, { cause: error });
    throw error;
  }
}

import type { ChunkEntry } from "./blob-block.ts";
import type { CallOptions } from "./call-options.ts";
import type { B3Digest } from "./digest.ts";

/** A block that comes from far away, to be stored as it is. */
export interface WrittenBlock {
  /** What is in it, one behind the other. */
  readonly chunks: readonly ChunkEntry[];
  /** Left out for a piece of a blob that is stored already. */
  readonly content?: BlockContent | undefined;
  /**
   * Given where the block is a piece of a blob that was cut: `more` when others follow, or the blob that all of them are, this one the last. It is one chunk then;
   * all but the last of them are of `MIN_CHUNK_LENGTH` at least.
   */
  readonly piece?: "more" | B3Digest | undefined;
}

export interface BlockContent {
  /** A zstd block is one frame that tells its size, and shorter than what it holds. */
  readonly codec: "stored" | "zstd";
  readonly bytes: Uint8Array;
  /** Bytes after decompression, `MAX_WRITTEN_BYTES` at most: those of all chunks. */
  readonly size: number;
}

/** No block that is written is larger, decompressed, or of more chunks, or has a larger chunk than a blob is cut into. */
export const MAX_WRITTEN_BYTES = 1024 * 1024;
export const MAX_BLOCK_CHUNKS = 16_384;

/** How blocks are compressed: a zstd level, or not at all. */
export type BlockCompression = number | "none";

/** Stores blobs in blocks that someone else has made. */
export interface BlockWriter {
  /** How it would have them compressed. */
  readonly compression: BlockCompression;

  /**
   * Store what is in the blocks, in as many blocks or in others. Must resolve only when all of it is durable and can be read back.
   * Whatever is not what its digest says is ERR_MISMATCH, what cannot be decompressed ERR_COMPRESSION_INVALID, and nothing of that block is stored.
   * `blocks` must be closed on every way out.
   */
  write(blocks: AsyncIterable<WrittenBlock>, options?: CallOptions): Promise<void>;
}

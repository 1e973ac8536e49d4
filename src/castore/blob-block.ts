import type { B3Digest } from "./digest.ts";

/** A blob that is asked for. */
export interface WantedBlob {
  readonly digest: B3Digest;
  /** Bytes, when they are known: one of another size is not the blob that is wanted. */
  readonly size: number | undefined;
}

/** Where a piece of a blob is in a block. */
export interface BlockPart {
  /** Which of the blobs that were asked for. */
  readonly blob: number;
  /** Where in the blob it begins, in bytes. */
  readonly blobOffset: number;
  /** Where in the block it begins, in bytes after decompression. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** Some bytes as they lie in storage, and what in them was asked for. */
export interface BlobBlock {
  /** A zstd block is one frame that tells its size. */
  readonly codec: "stored" | "zstd";
  readonly bytes: Uint8Array;
  /** Bytes after decompression, `MAX_BLOCK_BYTES` at most. */
  readonly size: number;
  readonly parts: readonly BlockPart[];
}

/** One chunk in a block; its bytes follow those of the one before it. */
export interface ChunkEntry {
  readonly digest: B3Digest;
  readonly length: number;
  /** Whether it is what stands between two chunks in an archive: no one looks for it. */
  readonly isFraming?: boolean;
}

/** No block is larger, decompressed. */
export const MAX_BLOCK_BYTES = 4 * 1024 * 1024;
/** Blobs that may be asked for in blocks together, and their bytes: then their sizes must be known. One alone may be of any size. */
export const MAX_WANTED_BLOBS = 2048;
export const MAX_WANTED_BYTES = 16 * 1024 * 1024;

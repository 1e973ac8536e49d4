/** Most bytes of blobs in one call of many; said in the server's Capabilities. */
export const MAX_BATCH_BYTES = 4 * 1024 * 1024;

/** What a compressed blob may be called by. */
export const COMPRESSOR_NAMES = ["zstd"] as const;

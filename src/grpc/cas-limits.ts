/** Most bytes of blobs in one call of many, said in Capabilities: with what stands around them, an answer stays below the 4 MiB that gRPC clients take by default. */
export const MAX_BATCH_BYTES = 3 * 1024 * 1024;


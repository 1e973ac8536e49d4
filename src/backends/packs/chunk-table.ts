/** Chunks in a row: a digest and a length each, little-endian. */
import { copyBytes } from "../../bytes/collect.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import { DIGEST_LENGTH, toB3Digest } from "../../castore/digest.ts";

/** Bytes of one row. */
export const CHUNK_ROW_LENGTH = DIGEST_LENGTH + 4;
/** In a length: see `ChunkEntry.isFraming`. */
const FRAMING_BIT = 0x8000_0000;

export function encodeChunkTable(chunks: readonly ChunkEntry[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.length * CHUNK_ROW_LENGTH);
  const view = new DataView(bytes.buffer);
  let offset = 0;
  for (const { digest, length, isFraming } of chunks) {
    bytes.set(digest, offset);
    view.setUint32(offset + DIGEST_LENGTH, isFraming === true ? length + FRAMING_BIT : length, true);
    offset += CHUNK_ROW_LENGTH;
  }
  return bytes;
}

/** @param bytes whole rows; they are copied */
export function decodeChunkTable(bytes: Uint8Array): ChunkEntry[] {
  // One array for all digests: of a NAR of many files, an array each would be collected for longer than it takes to read them.
  const table = copyBytes(bytes);
  const view = new DataView(table.buffer);
  const chunks: ChunkEntry[] = [];
  for (let offset = 0; offset < table.length; offset += CHUNK_ROW_LENGTH) {
    const digest = toB3Digest(table.subarray(offset, offset + DIGEST_LENGTH));
    const length = view.getUint32(offset + DIGEST_LENGTH, true);
    chunks.push(length >= FRAMING_BIT ? { digest, length: length - FRAMING_BIT, isFraming: true } : { digest, length });
  }
  return chunks;
}

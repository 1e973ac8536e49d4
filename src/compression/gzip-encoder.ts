/** gzip of pieces on the calling thread, each of them members of their own, which any decoder reads in a row. */
import { gzipSync } from "node:zlib";

import { concatBytes, copyBytes } from "../bytes/collect.ts";
import { looksRandom } from "./random-bytes.ts";

/** Bytes that are looked at, and then compressed or not, together. */
const SPAN_BYTES = 64 * 1024;
/** Of the output, at a time. */
const OUTPUT_BYTES = 256 * 1024;
/** Of zlib, which looks for nothing then. */
const STORED = 0;

/**
 * Compress `bytes` to one or more members. What looks random, as pictures and archives do, is stored: zlib would try as long as with anything else, and
 * make a hundredth less of it at most.
 *
 * @param level 1 to 9
 */
export function compressGzipSync(bytes: Uint8Array, level: number): Uint8Array<ArrayBuffer> {
  const members: Uint8Array[] = [];
  for (let start = 0; start < bytes.length || members.length === 0; ) {
    const isStored = looksRandom(bytes.subarray(start, start + SPAN_BYTES));
    let end = start + SPAN_BYTES;
    while (end < bytes.length && looksRandom(bytes.subarray(end, end + SPAN_BYTES)) === isStored) end += SPAN_BYTES;
    members.push(gzipSync(bytes.subarray(start, end), { level: isStored ? STORED : level, chunkSize: OUTPUT_BYTES }));
    start = end;
  }
  // A Buffer may share its memory with others, and what is sent to another thread may not.
  return copyBytes(concatBytes(members));
}

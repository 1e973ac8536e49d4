/** zstd of whole blocks on the calling thread. Off the main thread, use zstd.ts. */
import { _NapiBindings as bindings } from "@cloudpss/zstd/napi";

import { asBuffer } from "../bytes/as-buffer.ts";
import { NarborError } from "../errors.ts";
import { countGarbage } from "../concurrency/thread-garbage.ts";
import { ZstdDecoder } from "./zstd-decoder.ts";
import { parseZstdFrameHeader, USUAL_WINDOW_BYTES } from "./zstd-frames.ts";

/**
 * The number of what zstd makes here of the same bytes at the same level. To be increased with anything that changes that, as another version of the library may:
 * frames that were made before go into archives that are made now, whose bytes are always the same. Less than 128.
 */
export const ZSTD_ENCODER = 1;

const MIN_LEVEL = -131_072;
const MAX_LEVEL = 22;

let kept: { readonly level: number; readonly context: InstanceType<typeof bindings.Compressor> } | undefined;

/**
 * Compress `bytes` to one frame that tells their size.
 *
 * @param level -131072 to 22; 1 and 3 are sensible
 */
export function compressZstdSync(bytes: Uint8Array, level: number): Uint8Array<ArrayBuffer> {
  const parts = compressToParts(bytes, level);
  const frame = new Uint8Array(sumOfLengths(parts));
  copyParts(parts, frame);
  return frame;
}

/**
 * Compress bytes in place.
 *
 * @returns bytes of the frame that stands where they stood, or, where it would not be shorter, of them: then they are as they were
 */
export function shrinkZstdSync(bytes: Uint8Array, level: number): number {
  const parts = compressToParts(bytes, level);
  const length = sumOfLengths(parts);
  if (length >= bytes.length) return bytes.length;
  copyParts(parts, bytes);
  return length;
}

/** A frame that tells its size, in pieces of memory of the library's. */
function compressToParts(bytes: Uint8Array, level: number): readonly Uint8Array[] {
  if (!Number.isInteger(level) || level < MIN_LEVEL || level > MAX_LEVEL) throw new RangeError(`${level} is not a level of zstd`);
  const context = kept?.level === level ? kept.context : new bindings.Compressor(level);
  // A context that throws is not to be used again.
  kept = undefined;
  const parts: Uint8Array[] = [];
  context.data(asBuffer(bytes), (part) => parts.push(part));
  context.end((part) => parts.push(part));
  kept = { level, context };
  countGarbage(sumOfLengths(parts));
  return withContentSize(parts, bytes.length);
}

/**
 * A stream's context does not know the size when it writes the header (unless there is nothing to compress). Put it
 * there, so that a decoder knows how much memory to take, and takes no window larger than the block.
 */
function withContentSize([first, ...others]: readonly Uint8Array[], size: number): readonly Uint8Array[] {
  if (first === undefined) throw new TypeError("zstd made no frame");
  if (parseZstdFrameHeader(first).contentBytes !== undefined) return [first, ...others];
  // Magic, descriptor and window are six bytes; 2 in the descriptor's upper bits adds a size of four.
  const head = new Uint8Array(10);
  head.set(first.subarray(0, 6));
  head[4] = (first[4] ?? 0) | 0x80;
  new DataView(head.buffer).setUint32(6, size, true);
  return [head, first.subarray(6), ...others];
}

function sumOfLengths(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

function copyParts(parts: readonly Uint8Array[], target: Uint8Array): void {
  let offset = 0;
  for (const part of parts) {
    target.set(part, offset);
    offset += part.length;
  }
}

/**
 * Decompress frames that must become exactly `expectedSize` bytes. No more memory than that (and a constant) is taken,
 * whatever they turn out to be.
 *
 * @throws as `decompressZstdInto`
 */
export function decompressZstdSync(bytes: Uint8Array, expectedSize: number): Uint8Array<ArrayBuffer> {
  // Not zeroed: all of it is written, or none of it is given out.
  const content = new Uint8Array(Buffer.allocUnsafeSlow(expectedSize).buffer);
  decompressZstdInto(bytes, content);
  return content;
}

/**
 * Decompress frames that must become as many bytes as there is room for.
 *
 * @throws NarborError `ERR_COMPRESSION_INVALID` when the input is damaged, cut short or followed by something else,
 *   `ERR_MISMATCH` when it is of another size, `ERR_LIMIT` when it asks for a larger window than such a block needs
 */
export function decompressZstdInto(bytes: Uint8Array, content: Uint8Array): void {
  const expectedSize = content.length;
  const { contentBytes, windowBytes } = parseZstdFrameHeader(bytes);
  if (contentBytes !== undefined && contentBytes !== expectedSize) throw otherSize(`${contentBytes}`, expectedSize);
  if (contentBytes === undefined && windowBytes > Math.max(expectedSize, USUAL_WINDOW_BYTES)) {
    throw new NarborError("ERR_LIMIT", `Cannot decompress zstd: the frame asks for a window of ${windowBytes} bytes to give ${expectedSize}`);
  }
  const decoder = new ZstdDecoder();
  try {
    decoder.push(bytes);
    decoder.end();
    let size = 0;
    for (let part = decoder.next(); part !== undefined; part = decoder.next()) {
      if (size + part.length > expectedSize) throw otherSize("more", expectedSize);
      content.set(part, size);
      size += part.length;
    }
    if (size !== expectedSize) throw otherSize(`${size}`, expectedSize);
  } finally {
    decoder.close();
  }
}

function otherSize(found: string, expected: number): NarborError {
  return new NarborError("ERR_MISMATCH", `Cannot decompress zstd: the block is ${found} bytes, expected ${expected}`);
}

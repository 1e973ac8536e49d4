/** zstd of whole blocks on the calling thread. Off the main thread, use zstd.ts. */
import { _NapiBindings as bindings } from "@cloudpss/zstd/napi";

import { asBuffer } from "../bytes/as-buffer.ts";
import { concatBytes } from "../bytes/collect.ts";
import { NarborError } from "../errors.ts";
import { ZstdDecoder } from "./zstd-decoder.ts";
import { parseZstdFrameHeader } from "./zstd-frames.ts";

const MIN_LEVEL = -131_072;
const MAX_LEVEL = 22;
/** A frame that does not tell its size may look back this far: what level 19 writes. */
const MAX_UNSIZED_WINDOW_BYTES = 8 * 1024 * 1024;

let kept: { readonly level: number; readonly context: InstanceType<typeof bindings.Compressor> } | undefined;

/**
 * Compress `bytes` to one frame that tells their size.
 *
 * @param level -131072 to 22; 1 and 3 are sensible
 */
export function compressZstdSync(bytes: Uint8Array, level: number): Uint8Array<ArrayBuffer> {
  if (!Number.isInteger(level) || level < MIN_LEVEL || level > MAX_LEVEL) throw new RangeError(`${level} is not a level of zstd`);
  const context = kept?.level === level ? kept.context : new bindings.Compressor(level);
  // A context that throws is not to be used again.
  kept = undefined;
  const parts: Uint8Array[] = [];
  context.data(asBuffer(bytes), (part) => parts.push(part));
  context.end((part) => parts.push(part));
  kept = { level, context };
  return withContentSize(concatBytes(parts), bytes.length);
}

/**
 * A stream's context does not know the size when it writes the header (unless there is nothing to compress). Put it
 * there, so that a decoder knows how much memory to take, and takes no window larger than the block.
 */
function withContentSize(frame: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  if (parseZstdFrameHeader(frame).contentBytes !== undefined) return new Uint8Array(frame);
  // Magic, descriptor and window are six bytes; 2 in the descriptor's upper bits adds a size of four.
  const sized = new Uint8Array(frame.length + 4);
  sized.set(frame.subarray(0, 6));
  sized[4] = (frame[4] ?? 0) | 0x80;
  new DataView(sized.buffer).setUint32(6, size, true);
  sized.set(frame.subarray(6), 10);
  return sized;
}

/**
 * Decompress frames that must become exactly `expectedSize` bytes. No more memory than that (and a constant) is taken,
 * whatever they turn out to be.
 *
 * @throws NarborError `ERR_COMPRESSION_INVALID` when the input is damaged, cut short or followed by something else,
 *   `ERR_MISMATCH` when it is of another size, `ERR_LIMIT` when it asks for a larger window than such a block needs
 */
export function decompressZstdSync(bytes: Uint8Array, expectedSize: number): Uint8Array<ArrayBuffer> {
  const { contentBytes, windowBytes } = parseZstdFrameHeader(bytes);
  if (contentBytes !== undefined && contentBytes !== expectedSize) throw otherSize(`${contentBytes}`, expectedSize);
  if (contentBytes === undefined && windowBytes > Math.max(expectedSize, MAX_UNSIZED_WINDOW_BYTES)) {
    throw new NarborError("ERR_LIMIT", `Cannot decompress zstd: the frame asks for a window of ${windowBytes} bytes to give ${expectedSize}`);
  }
  const content = new Uint8Array(expectedSize);
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
    return content;
  } finally {
    decoder.close();
  }
}

function otherSize(found: string, expected: number): NarborError {
  return new NarborError("ERR_MISMATCH", `Cannot decompress zstd: the block is ${found} bytes, expected ${expected}`);
}

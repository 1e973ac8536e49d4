/**
 * FastCDC, version of 2020, normalization level 1, seed 0: the cutter that tvix and snix use, so that chunks are shared with them.
 * Minimum 128 KiB, average 256 KiB, maximum 512 KiB.
 *
 * The rolling hash is 64 bits wide but the masks look at bits 12 to 48 only. It is kept as a low half of 24 bits and a high half
 * that may overflow its 32: integer arithmetic all the way, and no BigInt.
 */
import { createHash } from "node:crypto";

export const MIN_CHUNK_LENGTH = 128 * 1024;
const AVERAGE_CHUNK_LENGTH = 256 * 1024;
export const MAX_CHUNK_LENGTH = 512 * 1024;
/** Memory that chunks of a stream are cut in: the larger, the less is moved to the next. A short stream needs little. */
const FIRST_SLAB_BYTES = 64 * 1024;
const SLAB_BYTES = 4 * 1024 * 1024;

/** Used before the average length is reached: 19 bits, so a cut is rarer. */
const MASK_BEFORE = 0x0000_d917_0753_7000n;
/** Used after it: 17 bits. */
const MASK_AFTER = 0x0000_d907_0353_7000n;

const HALF_BITS = 24n;
const HALF_MASK = 0xff_ffff;

const lowHalf = (value: bigint): number => Number(value & BigInt(HALF_MASK));
const highHalf = (value: bigint): number => Number((value >> HALF_BITS) & 0xffff_ffffn) | 0;

const GEAR_LOW = new Int32Array(256);
const GEAR_HIGH = new Int32Array(256);
/** The gear shifted left by one, for the first of every two bytes. */
const GEAR_SHIFTED_LOW = new Int32Array(256);
const GEAR_SHIFTED_HIGH = new Int32Array(256);
for (let value = 0; value < 256; value++) {
  const gear = createHash("md5").update(Buffer.alloc(64, value)).digest().readBigUInt64BE(0);
  GEAR_LOW[value] = lowHalf(gear);
  GEAR_HIGH[value] = highHalf(gear);
  GEAR_SHIFTED_LOW[value] = lowHalf(gear << 1n);
  GEAR_SHIFTED_HIGH[value] = highHalf(gear << 1n);
}

/**
 * Length of the first chunk of `bytes`, which must hold `MAX_CHUNK_LENGTH` bytes or end where the blob ends.
 */
export function cutChunk(bytes: Uint8Array): number {
  if (bytes.length <= MIN_CHUNK_LENGTH) return bytes.length;
  const end = Math.min(bytes.length, MAX_CHUNK_LENGTH);
  const center = Math.min(end, AVERAGE_CHUNK_LENGTH);
  const rolling = { low: 0, high: 0 };
  return (
    findCut(bytes, MIN_CHUNK_LENGTH, center, MASK_BEFORE, rolling) ??
    findCut(bytes, center - (center % 2), end, MASK_AFTER, rolling) ??
    end
  );
}

function findCut(bytes: Uint8Array, from: number, to: number, mask: bigint, rolling: { low: number; high: number }): number | undefined {
  const maskLow = lowHalf(mask);
  const maskHigh = highHalf(mask);
  const maskShiftedLow = lowHalf(mask << 1n);
  const maskShiftedHigh = highHalf(mask << 1n);
  let { low, high } = rolling;
  const last = to - (to % 2);
  for (let index = from; index < last; index += 2) {
    const first = bytes[index] as number;
    low = (low << 2) + (GEAR_SHIFTED_LOW[first] as number);
    high = ((high << 2) + (GEAR_SHIFTED_HIGH[first] as number) + (low >>> 24)) | 0;
    low &= HALF_MASK;
    if ((low & maskShiftedLow) === 0 && (high & maskShiftedHigh) === 0) return index;
    const second = bytes[index + 1] as number;
    low += GEAR_LOW[second] as number;
    high = (high + (GEAR_HIGH[second] as number) + (low >>> 24)) | 0;
    low &= HALF_MASK;
    if ((low & maskLow) === 0 && (high & maskHigh) === 0) return index + 1;
  }
  rolling.low = low;
  rolling.high = high;
  return undefined;
}

/** The chunks of a whole blob in memory, as views. An empty blob has none. */
export function* cutBlob(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let offset = 0; offset < bytes.length; ) {
    const length = cutChunk(bytes.subarray(offset, offset + MAX_CHUNK_LENGTH));
    yield bytes.subarray(offset, offset + length);
    offset += length;
  }
}

/** Cut a stream into chunks, which stay as they are. Holds a slab of memory that several of them are views of. */
export async function* cutStream(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  let slab = new Uint8Array(FIRST_SLAB_BYTES);
  /** What is not cut yet. */
  let start = 0;
  let end = 0;
  /** A chunk, when there are so many bytes. */
  const cut = (needed: number): Uint8Array | undefined => {
    if (end - start < needed) return undefined;
    const length = cutChunk(slab.subarray(start, Math.min(end, start + MAX_CHUNK_LENGTH)));
    start += length;
    return slab.subarray(start - length, start);
  };
  for await (const piece of source) {
    for (let offset = 0; offset < piece.length; ) {
      if (end === slab.length) {
        const rest = slab.subarray(start, end);
        slab = new Uint8Array(Math.min(SLAB_BYTES, 4 * slab.length));
        slab.set(rest);
        [start, end] = [0, rest.length];
      }
      const part = piece.subarray(offset, offset + slab.length - end);
      slab.set(part, end);
      end += part.length;
      offset += part.length;
      // A chunk may be cut where a whole one of the longest kind is at hand, or at the end.
      for (let chunk = cut(MAX_CHUNK_LENGTH); chunk !== undefined; chunk = cut(MAX_CHUNK_LENGTH)) yield chunk;
    }
  }
  for (let chunk = cut(1); chunk !== undefined; chunk = cut(1)) yield chunk;
}

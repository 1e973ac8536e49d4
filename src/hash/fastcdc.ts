/**
 * FastCDC, version of 2020, normalization level 1, seed 0: the cutter that tvix and snix use, so that chunks are shared with them.
 * Minimum 128 KiB, average 256 KiB, maximum 512 KiB.
 *
 * What looks at every byte is WebAssembly, which has the integers of 64 bits that the rolling hash is made of: three times as fast as with two
 * halves in JavaScript (docs/decisions/0016).
 */
import { createHash } from "node:crypto";
import { FASTCDC_WASM } from "./fastcdc-wasm.ts";

export const MIN_CHUNK_LENGTH = 128 * 1024;
const AVERAGE_CHUNK_LENGTH = 256 * 1024;
export const MAX_CHUNK_LENGTH = 512 * 1024;
/** Memory that chunks of a stream are cut in: the larger, the less is moved to its beginning. A short stream needs little. */
const FIRST_SLAB_BYTES = 64 * 1024;
const SLAB_BYTES = 2 * MAX_CHUNK_LENGTH;

/** Bytes that are looked at together: an even number. */
const STEP_BYTES = 32 * 1024;

/** Used before the average length is reached: 19 bits, so a cut is rarer. */
const MASK_BEFORE = 0x0000_d917_0753_7000n;
/** Used after it: 17 bits. */
const MASK_AFTER = 0x0000_d907_0353_7000n;

/** Bytes that the rolling hash depends on, an even number. */
const WINDOW_BYTES = 64;
/** Bits that are hardly ever all zero. */
const NO_CUT = 0xffff_ffff_ffff_ffffn;

/** Of the WebAssembly's memory. */
const SHIFTED_GEAR_OFFSET = 2048;
const BYTES_OFFSET = 4096;

/** What TypeScript's library has of it only together with a browser's. */
interface WebAssemblyGlobal {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}

interface Cutter {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly hash: { readonly value: bigint };
  find(from: number, to: number, mask: bigint, hashBefore: bigint): number;
}

const cutter = loadCutter();
/** Where a chunk's bytes go to be looked at, from its shortest length on: there is no cut before. */
const looked = new Uint8Array(cutter.memory.buffer, BYTES_OFFSET, MAX_CHUNK_LENGTH - MIN_CHUNK_LENGTH);

function loadCutter(): Cutter {
  const { Module, Instance } = (globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal }).WebAssembly;
  const loaded = new Instance(new Module(Buffer.from(FASTCDC_WASM, "base64"))).exports as Cutter;
  const view = new DataView(loaded.memory.buffer);
  for (let value = 0; value < 256; value++) {
    const gear = createHash("md5").update(Buffer.alloc(64, value)).digest().readBigUInt64BE(0);
    view.setBigUint64(value * 8, gear, true);
    view.setBigUint64(SHIFTED_GEAR_OFFSET + value * 8, BigInt.asUintN(64, gear << 1n), true);
  }
  return loaded;
}

/**
 * Length of the first chunk of `bytes`, which must hold `MAX_CHUNK_LENGTH` bytes or end where the blob ends.
 */
export function cutChunk(bytes: Uint8Array): number {
  if (bytes.length <= MIN_CHUNK_LENGTH) return bytes.length;
  const end = Math.min(bytes.length, MAX_CHUNK_LENGTH);
  const center = Math.min(end, AVERAGE_CHUNK_LENGTH) - MIN_CHUNK_LENGTH;
  const possible = bytes.subarray(MIN_CHUNK_LENGTH, end);
  const found = findCut(possible.subarray(0, center), 0, MASK_BEFORE, 0n) ?? findCut(possible, center - (center % 2), MASK_AFTER, cutter.hash.value);
  return found === undefined ? end : MIN_CHUNK_LENGTH + found;
}

/** Most cuts come long before the longest chunk's end, so no more is copied than is looked at. */
function findCut(bytes: Uint8Array, from: number, mask: bigint, hashBefore: bigint): number | undefined {
  let hash = hashBefore;
  for (let start = from; start < bytes.length; start += STEP_BYTES) {
    const end = Math.min(bytes.length, start + STEP_BYTES);
    looked.set(bytes.subarray(start, end), start);
    const found = cutter.find(start, end, mask, hash);
    if (found >= 0) return found;
    hash = cutter.hash.value;
  }
  return undefined;
}

/**
 * Whether a blob is cut behind a chunk when it goes on with the byte `next`, and not before: a cut is found by looking at the byte behind it.
 *
 * @param chunk as `cutBlob` gives it, of this blob or any other
 */
export function isCutBefore(chunk: Uint8Array, next: number): boolean {
  if (chunk.length === MAX_CHUNK_LENGTH) return true;
  const at = chunk.length - MIN_CHUNK_LENGTH;
  if (at < 0 || chunk.length > MAX_CHUNK_LENGTH) return false;
  // Two are looked at together. The last two of the chunk once more: at the end of a blob, the last byte is not looked at when it is alone.
  const last = at - (at % 2);
  const start = Math.max(0, last - 2);
  const from = Math.max(0, start - WINDOW_BYTES);
  looked.set(chunk.subarray(MIN_CHUNK_LENGTH + from), from);
  looked[at] = next;
  looked[at + 1] = 0;
  if (cutter.find(from, start, NO_CUT, 0n) >= 0 || cutter.find(start, last, maskAt(start), cutter.hash.value) >= 0) return false;
  return cutter.find(last, last + 2, maskAt(last), cutter.hash.value) === at;
}

/** @param at where in what is looked at: an even number */
function maskAt(at: number): bigint {
  return at < AVERAGE_CHUNK_LENGTH - MIN_CHUNK_LENGTH ? MASK_BEFORE : MASK_AFTER;
}

/** The chunks of a whole blob in memory, as views. An empty blob has none. */
export function* cutBlob(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let offset = 0; offset < bytes.length; ) {
    const length = cutChunk(bytes.subarray(offset, offset + MAX_CHUNK_LENGTH));
    yield bytes.subarray(offset, offset + length);
    offset += length;
  }
}

/** Cut a stream into chunks, each of which is valid until the next is asked for: all are cut in the same memory. */
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
        if (slab.length < SLAB_BYTES) slab = new Uint8Array(4 * slab.length);
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

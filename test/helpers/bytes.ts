import { expect } from "vitest";
export { sampleBytes, textBytes } from "./sample-bytes.ts";

/** `bytes` in pieces of `size`; the last may be shorter. */
export function chunked(bytes: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += size) pieces.push(bytes.subarray(offset, offset + size));
  return pieces;
}

/** `pieces` with an empty one before, between and after. */
export function withEmptyPieces(pieces: readonly Uint8Array[]): Uint8Array[] {
  return [new Uint8Array(0), ...pieces.flatMap((piece) => [piece, new Uint8Array(0)])];
}

/** Every way to cut that a decoder must not notice: whole, halves, odd sizes, empty pieces between. */
export function cuts(bytes: Uint8Array): (readonly [name: string, pieces: Uint8Array[]])[] {
  const half = Math.ceil(bytes.length / 2);
  return [
    ["whole", [bytes]],
    ["in halves", [bytes.subarray(0, half), bytes.subarray(half)]],
    ["one byte at a time", chunked(bytes, 1)],
    ["in sevens", chunked(bytes, 7)],
    ["in pieces of 61", chunked(bytes, 61)],
    ["with empty pieces between", withEmptyPieces(chunked(bytes, 13))],
  ];
}

/** All of a stream, in one. */
export async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  // Many a source uses its memory again.
  for await (const piece of source) pieces.push(new Uint8Array(piece));
  return Buffer.concat(pieces);
}

/** All items of a stream. */
export async function collectItems<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}

/** That two byte strings are the same. `toEqual` takes seconds for what this does at once, and prints megabytes. */
export function expectBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  if (actual === undefined) return expect(actual).toBeDefined();
  if (Buffer.compare(actual, expected) === 0) return;
  const at = expected.findIndex((byte, index) => actual[index] !== byte);
  expect(`${actual.length} bytes, differing at ${at}`).toBe(`${expected.length} bytes`);
}

/** Digests and other short byte strings, to be compared with `toEqual`. */
export function hexes(list: Iterable<Uint8Array>): string[] {
  return Array.from(list, (bytes) => Buffer.from(bytes).toString("hex"));
}

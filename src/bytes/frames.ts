import { concatBytes } from "./collect.ts";

/** Bytes in a message of a stream: fewer cost a call's overhead too often, more sit in memory for every slow client. */
const MIN_FRAME = 256 * 1024;

/** The same bytes in pieces of 256 to 512 KiB; the last may be smaller. */
export async function* frames(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of content) {
    if (bytes.length === 0) continue;
    held.push(bytes);
    size += bytes.length;
    if (size < MIN_FRAME) continue;
    yield* split(concatBytes(held));
    held = [];
    size = 0;
  }
  if (size > 0) yield concatBytes(held);
}

function* split(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  const count = Math.floor(bytes.length / MIN_FRAME);
  const length = Math.ceil(bytes.length / count);
  for (let start = 0; start < bytes.length; start += length) yield bytes.subarray(start, start + length);
}

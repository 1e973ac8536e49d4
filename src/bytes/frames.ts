import { concatBytes, copyBytes } from "./collect.ts";

/** Bytes in a message of a stream: fewer cost a call's overhead too often, more sit in memory for every slow client. */
const MIN_FRAME = 256 * 1024;

/** The same bytes in pieces of 256 to 512 KiB; the last may be smaller. `content` may use the memory of what it gave again when the next is asked for. */
export async function* frames(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of content) {
    if (bytes.length === 0) continue;
    size += bytes.length;
    if (size < MIN_FRAME) {
      held.push(copyBytes(bytes));
      continue;
    }
    held.push(bytes);
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

import { NarborError } from "../errors.ts";

/**
 * A copy. `slice` is not always one: a Buffer is a Uint8Array whose `slice` shares its memory, and a Buffer may come from anywhere.
 */
export function copyBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

/** One array of all of `chunks`. */
export function concatBytes(chunks: readonly Uint8Array[]): Uint8Array {
  const [first] = chunks;
  if (chunks.length === 1 && first !== undefined) return first;
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}

/**
 * Read `source` to its end into memory. It may use the memory of what it gave again when the next is asked for.
 *
 * @param limit the most bytes to accept; one more is `ERR_LIMIT`, and the source is closed
 * @param what named in the error
 */
export async function collectBytes(source: AsyncIterable<Uint8Array>, limit: number, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (size > limit) throw new NarborError("ERR_LIMIT", `Cannot read ${what}: more than ${limit} bytes`);
    chunks.push(copyBytes(chunk));
  }
  return concatBytes(chunks);
}

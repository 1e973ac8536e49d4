import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { BlobRef, ReadOptions } from "../../castore/blob-service.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest } from "../../castore/digest.ts";
import { NarborError } from "../../errors.ts";
import { blake3, createBlake3 } from "../../hash/blake3.ts";

/**
 * A range of a blob that someone else sends. All of it is read and hashed, whatever the range, and the range's last
 * piece is held back until the blob has shown to be the one that was asked for.
 *
 * @throws NarborError ERR_DATA_LOSS when it is another
 */
export async function* verifiedRange(
  content: AsyncIterable<Uint8Array>,
  digest: B3Digest,
  { start = 0, end = Infinity, size = Infinity }: Pick<ReadOptions, "start" | "end" | "size"> = {},
  from: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hasher = createBlake3();
  let held: Uint8Array | undefined;
  let position = 0;
  try {
    for await (const bytes of content) {
      hasher.update(bytes);
      const wanted = bytes.subarray(Math.max(0, start - position), Math.max(0, end - position));
      position += bytes.length;
      if (position > size) throw notTheBlob(digest, from);
      if (wanted.length === 0) continue;
      if (held !== undefined) yield held;
      held = wanted;
    }
    if (!equalBytes(hasher.digest(), digest)) throw notTheBlob(digest, from);
    if (held !== undefined) yield held;
  } finally {
    hasher.discard();
  }
}

/** A whole blob that someone else sent, or what is wrong with it. */
export function checkBlob(blob: BlobRef, bytes: Uint8Array, from: string): Uint8Array | NarborError {
  if (!equalBytes(blake3(bytes), blob.digest)) return notTheBlob(blob.digest, from);
  return bytes.length === blob.size ? bytes : notStored(blob, from, bytes.length);
}

export function notStored({ digest, size }: BlobRef, from: string, found?: number): NarborError {
  const what = found === undefined ? `${from} does not have it` : `it has ${found} bytes, not ${size}`;
  return new NarborError("ERR_NOT_FOUND", `Cannot read blob ${formatDigest(digest)}: ${what}`);
}

function notTheBlob(digest: B3Digest, from: string): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read blob ${formatDigest(digest)}: ${from} sent other bytes`);
}

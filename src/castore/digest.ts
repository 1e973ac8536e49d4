import { toHex } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";

declare const b3Digest: unique symbol;

/** A BLAKE3 digest, 32 bytes: the name of a blob, a chunk or a directory. */
export type B3Digest = Uint8Array & { readonly [b3Digest]: true };

/** Bytes in a digest. */
export const DIGEST_LENGTH = 32;

/** Check the length, which is all there is to check. @throws NarborError ERR_CASTORE_INVALID */
export function toB3Digest(bytes: Uint8Array): B3Digest {
  if (bytes.length !== DIGEST_LENGTH) {
    throw new NarborError("ERR_CASTORE_INVALID", `Cannot read a BLAKE3 digest: found ${bytes.length} bytes, expected 32`);
  }
  return bytes as B3Digest;
}

/** The digest as a key for Map and Set: one UTF-16 unit a byte. */
export function digestKey(digest: Uint8Array): string {
  keyBytes.set(digest);
  return keyBytes.toString("latin1", 0, digest.length);
}

/** Text is made of these: a Buffer over each digest takes longer than that. */
const keyBytes = Buffer.alloc(DIGEST_LENGTH);

/** The digest as people read it: `b3:` and base16. */
export function formatDigest(digest: B3Digest): string {
  return `b3:${toHex(digest)}`;
}

/** A blob that streams by, and what it is called. */
import { createBlake3, hashThrough } from "../hash/blake3.ts";
import type { B3Digest } from "./digest.ts";
import { toB3Digest } from "./digest.ts";

export class HashedContent implements Disposable {
  /** The blob's bytes, to be read once. */
  readonly bytes: AsyncIterable<Uint8Array>;
  readonly #hasher: ReturnType<typeof createBlake3> | undefined;
  readonly #known: (() => B3Digest) | undefined;

  /** @param known gives the digest when all has been read, where someone else computes it on the way */
  constructor(content: AsyncIterable<Uint8Array>, known: (() => B3Digest) | undefined) {
    this.#known = known;
    this.#hasher = known === undefined ? createBlake3() : undefined;
    this.bytes = this.#hasher === undefined ? content : hashThrough(content, this.#hasher);
  }

  /** Of all the bytes. To be called once, when they have been read. */
  digest(): B3Digest {
    return this.#hasher === undefined ? (this.#known as () => B3Digest)() : toB3Digest(this.#hasher.digest());
  }

  [Symbol.dispose](): void {
    this.#hasher?.discard();
  }
}

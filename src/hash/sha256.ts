import { createHash } from "node:crypto";

/** The 32-byte SHA-256 digest of `bytes`. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

/** SHA-256 and size of everything that passes. */
export class Sha256Tap {
  readonly #hash = createHash("sha256");
  #size = 0;

  /** Bytes seen so far. */
  get size(): number {
    return this.#size;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#size += bytes.length;
  }

  /** The same chunks as `source` gives, counted and hashed before they are handed on. */
  async *through(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of source) {
      this.update(chunk);
      yield chunk;
    }
  }

  /** The 32-byte digest; call it once, at the end. */
  digest(): Uint8Array {
    return new Uint8Array(this.#hash.digest());
  }
}

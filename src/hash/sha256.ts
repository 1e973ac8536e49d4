import { createHash } from "node:crypto";
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";

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

  /** The same pieces as `source` gives, counted and hashed before they are handed on. */
  async *through<T extends StreamPiece>(source: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    for await (const piece of source) {
      this.update(bytesOf(piece));
      yield piece;
    }
  }

  /** The 32-byte digest; call it once, at the end. */
  digest(): Uint8Array {
    return new Uint8Array(this.#hash.digest());
  }
}

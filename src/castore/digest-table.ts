import { randomBytes } from "node:crypto";
import type { B3Digest } from "./digest.ts";
import { DIGEST_LENGTH, toB3Digest } from "./digest.ts";

/** Digests in one piece of memory: 8 KiB, so that a table of a few costs little. */
const DIGESTS_PER_PAGE = 256;
const FIRST_SLOTS = 256;

/**
 * Random odd factors of this process, one for each four bytes of a digest. Whoever sends digests can choose them (a BLAKE3 of which 32 bits are as one
 * likes takes seconds to find), and must not be able to choose many that fall into one place.
 */
const FACTORS = new Int32Array(Uint8Array.from(randomBytes(DIGEST_LENGTH)).buffer).map((factor) => factor | 1);

/**
 * Numbers digests from 0 in the order in which they are added, each distinct one once. Takes 37 to 43 bytes a digest and, while it grows, a
 * few more: a Map with strings for keys takes about 150.
 */
export class DigestTable {
  readonly #pages: Uint8Array[] = [];
  /** A digest's index + 1 at the place that its hash gives, or at the next free one; 0 where there is none. A power of two in length. */
  #slots = new Int32Array(FIRST_SLOTS);
  #size = 0;

  /** How many digests there are. */
  get size(): number {
    return this.#size;
  }

  /** The digest's index, and whether this is what added it. Its bytes are copied. */
  add(digest: B3Digest): { readonly index: number; readonly isNew: boolean } {
    const slot = this.#findSlot(digest);
    const found = this.#slots[slot] ?? 0;
    if (found !== 0) return { index: found - 1, isNew: false };
    const index = this.#size++;
    if (index % DIGESTS_PER_PAGE === 0) this.#pages.push(new Uint8Array(DIGESTS_PER_PAGE * DIGEST_LENGTH));
    this.#page(index).set(digest, offsetOf(index));
    this.#slots[slot] = index + 1;
    if (this.#size > this.#slots.length * 0.75) this.#grow();
    return { index, isNew: true };
  }

  /** The digest's index, or undefined when it was not added. */
  indexOf(digest: B3Digest): number | undefined {
    const found = this.#slots[this.#findSlot(digest)] ?? 0;
    return found === 0 ? undefined : found - 1;
  }

  /** The digest with that index: a view, not to be written to. @throws RangeError when there is none */
  at(index: number): B3Digest {
    if (!(index >= 0 && index < this.#size)) throw new RangeError(`There is no digest ${index} among ${this.#size}`);
    const offset = offsetOf(index);
    return toB3Digest(this.#page(index).subarray(offset, offset + DIGEST_LENGTH));
  }

  /** Where the digest is, or the free slot where it would be. */
  #findSlot(digest: B3Digest): number {
    const last = this.#slots.length - 1;
    let slot = hash(digest, 0) & last;
    for (;;) {
      const found = this.#slots[slot] ?? 0;
      if (found === 0 || this.#holds(found - 1, digest)) return slot;
      slot = (slot + 1) & last;
    }
  }

  #holds(index: number, digest: B3Digest): boolean {
    const page = this.#page(index);
    const offset = offsetOf(index);
    for (let position = 0; position < DIGEST_LENGTH; position++) if (page[offset + position] !== digest[position]) return false;
    return true;
  }

  #grow(): void {
    const slots = new Int32Array(this.#slots.length * 2);
    const last = slots.length - 1;
    for (let index = 0; index < this.#size; index++) {
      let slot = hash(this.#page(index), offsetOf(index)) & last;
      while (slots[slot] !== 0) slot = (slot + 1) & last;
      slots[slot] = index + 1;
    }
    this.#slots = slots;
  }

  #page(index: number): Uint8Array {
    return this.#pages[Math.floor(index / DIGESTS_PER_PAGE)] as Uint8Array;
  }
}

/** Where the digest stands in its page. */
function offsetOf(index: number): number {
  return (index % DIGESTS_PER_PAGE) * DIGEST_LENGTH;
}

/** A hash of 32 bits; only who knows the factors can tell which digests have the same. */
function hash(bytes: Uint8Array, offset: number): number {
  let sum = 0;
  for (let part = 0; part < FACTORS.length; part++) sum = (sum + Math.imul(word(bytes, offset + part * 4), FACTORS[part] ?? 1)) | 0;
  // A slot is told by the low bits, and a product's low bits depend on the low bits of what was multiplied only.
  return sum ^ (sum >>> 16);
}

function word(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8) | ((bytes[offset + 2] ?? 0) << 16) | ((bytes[offset + 3] ?? 0) << 24);
}

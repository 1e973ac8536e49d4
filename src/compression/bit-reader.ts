/** Reads bits, the highest of each byte first, from input that comes in pieces. */
export class BitReader {
  #bytes: Uint8Array = new Uint8Array(0);
  #offset = 0;
  /** The low `#count` bits are read from `#bytes` and not yet taken. */
  #bits = 0;
  #count = 0;

  /** Append input, which is copied, as is what was left of the input before: leave little of it. */
  push(bytes: Uint8Array): void {
    const left = this.#bytes.subarray(this.#offset);
    this.#bytes = new Uint8Array(left.length + bytes.length);
    this.#bytes.set(left);
    this.#bytes.set(bytes, left.length);
    this.#offset = 0;
  }

  /** Whether `bytes` whole bytes can be taken. */
  has(bytes: number): boolean {
    return this.#bytes.length - this.#offset + (this.#count >> 3) >= bytes;
  }

  /** Drop the bits up to the next whole byte. */
  align(): void {
    this.#count &= ~7;
  }

  /**
   * Look at the next `length` bits (at most 24) without taking them. Behind the end of the input are zeros:
   * `skip()` tells whether they were there.
   */
  peek(length: number): number {
    while (this.#count < length && this.#offset < this.#bytes.length) {
      this.#bits = (this.#bits << 8) | (this.#bytes[this.#offset++] ?? 0);
      this.#count += 8;
    }
    const mask = (1 << length) - 1;
    return this.#count >= length
      ? (this.#bits >>> (this.#count - length)) & mask
      : (this.#bits << (length - this.#count)) & mask;
  }

  /** Take `length` bits that were looked at. False when the input has not that many. */
  skip(length: number): boolean {
    this.#count -= length;
    return this.#count >= 0;
  }
}

/** A buffer that grows as it is written to, and can be used again. */
export class ByteWriter {
  #buffer: Uint8Array<ArrayBuffer>;
  #length = 0;

  /** @param capacity bytes to begin with */
  constructor(capacity = 256) {
    this.#buffer = new Uint8Array(capacity);
  }

  /** Bytes written. */
  get length(): number {
    return this.#length;
  }

  writeByte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  writeBytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** An unsigned integer up to 2^53 in protobuf's variable-length form. */
  writeVarint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.writeByte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.writeByte(rest);
  }

  writeUint32(value: number): void {
    this.#reserve(4);
    this.#view().setUint32(this.#length, value, true);
    this.#length += 4;
  }

  /** An integer up to 2^53 as 64 bits, little-endian. */
  writeUint64(value: number): void {
    this.#reserve(8);
    this.#view().setBigUint64(this.#length, BigInt(value), true);
    this.#length += 8;
  }

  /** What was written, without a copy; valid until the next write or `clear`. */
  view(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** A copy of what was written. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.slice(0, this.#length);
  }

  /** What was written, in memory that is the caller's now: that which it was written to, unless most of it was not. */
  take(): Uint8Array<ArrayBuffer> {
    if (this.#length < this.#buffer.length / 4) {
      const copy = this.bytes();
      this.clear();
      return copy;
    }
    const taken = this.#buffer.subarray(0, this.#length);
    this.#buffer = new Uint8Array(this.#keptLength());
    this.#length = 0;
    return taken;
  }

  /** Forget what was written and keep the memory, unless there is much of it. */
  clear(): void {
    this.#length = 0;
    if (this.#buffer.length > this.#keptLength()) this.#buffer = new Uint8Array(this.#keptLength());
  }

  #keptLength(): number {
    return this.#buffer.length > 1 << 20 ? 256 : this.#buffer.length;
  }

  #view(): DataView {
    return new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.length);
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    grown.set(this.view());
    this.#buffer = grown;
  }
}

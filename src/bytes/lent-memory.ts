/**
 * Memory that goes to other threads and comes back, lent and given back. Otherwise what is sent to a thread, and what comes back from it, is all garbage, and
 * for every 16 to 64 MB of that V8 collects everything (docs/decisions/0016). It is not shared memory: V8 copies into that a word at a time.
 */

/** Less is not kept: to take it anew costs little, and it comes in every size. */
const MIN_KEPT_BYTES = 64 * 1024;
/** So many sizes between one power of two and the next are kept, so that what is kept fits what is asked for. */
const SIZES_PER_DOUBLING = 2;
/** Most bytes that are kept for whoever asks next. */
const MAX_IDLE_BYTES = 16 * 1024 * 1024;

const idle = new Map<number, ArrayBuffer[]>();
let idleBytes = 0;

export class LentMemory {
  #buffer: ArrayBuffer | undefined;
  #bytes: Uint8Array<ArrayBuffer>;

  private constructor(buffer: ArrayBuffer, size: number) {
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer, 0, size);
  }

  /** So many bytes; what is in them is anything. */
  static lend(size: number): LentMemory {
    if (size < MIN_KEPT_BYTES) return new LentMemory(new ArrayBuffer(size), size);
    const step = 2 ** Math.ceil(Math.log2(size)) / (2 * SIZES_PER_DOUBLING);
    const rounded = Math.ceil(size / step) * step;
    // Not zeroed.
    return new LentMemory(takeIdle(rounded) ?? Buffer.allocUnsafeSlow(rounded).buffer, size);
  }

  static copyOf(bytes: Uint8Array): LentMemory {
    const memory = LentMemory.lend(bytes.length);
    memory.bytes.set(bytes);
    return memory;
  }

  /** While a thread has them, no one else may look at them. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Keep some of the bytes: what is to be worked on, or what came of it. */
  narrow(start: number, end: number): void {
    this.#bytes = this.#bytes.subarray(start, end);
  }

  /** A thread has sent it back, and so many bytes stand at its beginning now. */
  restore(buffer: ArrayBuffer, length: number): void {
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer, 0, length);
  }

  /** Give it back: no one may look at it any more. Whoever cannot know that leaves it to the garbage collector. */
  release(): void {
    const buffer = this.#buffer;
    this.#buffer = undefined;
    // One that a thread has still has no bytes.
    const size = buffer?.byteLength ?? 0;
    if (buffer === undefined || size < MIN_KEPT_BYTES || idleBytes + size > MAX_IDLE_BYTES) return;
    idleBytes += size;
    const kept = idle.get(size);
    if (kept === undefined) idle.set(size, [buffer]);
    else kept.push(buffer);
  }
}

/** Of that size, or of one up to twice as large. */
function takeIdle(size: number): ArrayBuffer | undefined {
  for (const larger of [size, (size * 3) / 2, (size * 4) / 3, size * 2]) {
    const kept = idle.get(larger)?.pop();
    if (kept === undefined) continue;
    idleBytes -= larger;
    return kept;
  }
  return undefined;
}

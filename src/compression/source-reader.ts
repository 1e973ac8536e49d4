/** Reads a source by hand: looks ahead, stops waiting when aborted, and closes it on every way out. */
import { copyBytes } from "../bytes/collect.ts";
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";

/** The source may use the memory of what it gave again when the next is asked for. */
export class SourceReader<T extends StreamPiece = Uint8Array> {
  readonly #source: AsyncIterator<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.close();
  #ahead: T[] = [];
  #isReading = false;
  #isDone = false;

  constructor(source: AsyncIterable<T>, signal: AbortSignal | undefined) {
    this.#source = source[Symbol.asyncIterator]();
    this.#signal = signal;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  /** The next piece, never one without bytes, or undefined at the end. Rejects with the source's error, or the signal's reason. */
  async read(): Promise<T | undefined> {
    return this.#ahead.shift() ?? (await this.#readSource());
  }

  /** The first `length` bytes, or all there are; they will be read again. Only before anything is read. */
  async peek(this: SourceReader, length: number): Promise<Uint8Array> {
    const first = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const chunk = await this.#readSource();
      if (chunk === undefined) break;
      const part = chunk.subarray(0, length - filled);
      first.set(part, filled);
      filled += part.length;
      // The source may use its memory again when it is asked on.
      this.#ahead.push(filled < length ? copyBytes(chunk) : chunk);
    }
    return first.subarray(0, filled);
  }

  /** Close the source, unless it has ended. Waits for that only where the source is not stuck in a read. */
  async close(): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    if (this.#isDone) return;
    this.#isDone = true;
    this.#ahead = [];
    // What the source has to say to that comes too late for anyone.
    const closed = Promise.resolve(this.#source.return?.()).catch(() => undefined);
    if (!this.#isReading && this.#signal?.aborted !== true) await closed;
  }

  async #readSource(): Promise<T | undefined> {
    this.#signal?.throwIfAborted();
    while (!this.#isDone) {
      this.#isReading = true;
      const reading = this.#source.next().then(
        (result) => {
          this.#isReading = false;
          if (result.done === true) this.#isDone = true;
          return result;
        },
        (error: unknown) => {
          this.#isReading = false;
          this.#isDone = true;
          throw error;
        },
      );
      const { done, value } = await abortable(reading, this.#signal);
      if (done === true) break;
      if (bytesOf(value).length > 0) return value;
    }
    return undefined;
  }
}

/** `promise`, or a rejection with the signal's reason as soon as that aborts. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  // Whoever wins, the loser is no one's concern.
  promise.catch(() => undefined);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

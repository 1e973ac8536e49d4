/**
 * SHA-256 of a stream, taken in a codec thread while the main thread does everything else with it (docs/decisions/0019). Where there is little else to do,
 * `Sha256Tap` takes less.
 */
import { LentMemory } from "../bytes/lent-memory.ts";
import { sha256 } from "../hash/sha256.ts";
import { type HashJob, openHashJob } from "./worker-pool.ts";

/** Bytes that go to the thread at once: less of each stream where there are many. A stream of less is hashed where it is. */
const MAX_PIECE_BYTES = 512 * 1024;
const MIN_PIECE_BYTES = 128 * 1024;
/** Bytes that threads may be behind, of all streams together; a piece of each in any case. With less than four pieces, a stream waits while the thread compresses a few blocks. */
const BEHIND_BYTES_IN_ALL = 4 * 1024 * 1024;

/** Streams that are hashed in threads. */
let streams = 0;

/** SHA-256 and size of everything that passes. */
export class StreamedSha256 {
  #size = 0;
  #piece: LentMemory | undefined;
  #filled = 0;
  #job: HashJob | undefined;
  readonly #behind: Promise<void>[] = [];
  #digest: Promise<Uint8Array> | undefined;

  /** Bytes seen so far. */
  get size(): number {
    return this.#size;
  }

  /** The same chunks as `source` gives, counted and copied before they are handed on. To be called once. */
  async *through(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    streams++;
    try {
      for await (const chunk of source) {
        this.#add(chunk);
        while (this.#behind.length > Math.max(1, Math.floor(BEHIND_BYTES_IN_ALL / streams / pieceBytes()))) await this.#behind.shift();
        yield chunk;
      }
      this.#digest = this.#finish();
      // Heard of by whoever asks for it.
      this.#digest.catch(() => undefined);
    } finally {
      streams--;
      // Nothing is under way when no one asks for the digest.
      if (this.#digest === undefined) this.#job?.close();
    }
  }

  /** The 32-byte digest, when all has passed. @throws NarborError ERR_UNAVAILABLE when the thread has stopped */
  async digest(): Promise<Uint8Array> {
    if (this.#digest === undefined) throw new TypeError("The stream has not ended");
    return await this.#digest;
  }

  #add(chunk: Uint8Array): void {
    this.#size += chunk.length;
    for (let offset = 0; offset < chunk.length; ) {
      const piece = (this.#piece ??= LentMemory.lend(pieceBytes()));
      const part = chunk.subarray(offset, offset + piece.bytes.length - this.#filled);
      piece.bytes.set(part, this.#filled);
      this.#filled += part.length;
      offset += part.length;
      if (this.#filled === piece.bytes.length) this.#send(piece);
    }
  }

  #send(piece: LentMemory): void {
    this.#job ??= openHashJob();
    const hashed = this.#job.update(piece);
    // Heard of when it is waited for, or with the digest.
    hashed.catch(() => undefined);
    this.#behind.push(hashed);
    this.#piece = undefined;
    this.#filled = 0;
  }

  async #finish(): Promise<Uint8Array> {
    const rest = this.#piece ?? LentMemory.lend(0);
    rest.narrow(0, this.#filled);
    if (this.#job !== undefined) {
      const digest = this.#job.end(rest);
      // Of a piece that was not hashed, the digest does not tell.
      const [result] = await Promise.all([digest, ...this.#behind]);
      return result;
    }
    const digest = sha256(rest.bytes);
    rest.release();
    return digest;
  }
}

/** A power of two, so that what one stream has used fits another. */
function pieceBytes(): number {
  const share = BEHIND_BYTES_IN_ALL / 2 / streams;
  return Math.max(MIN_PIECE_BYTES, Math.min(MAX_PIECE_BYTES, 2 ** Math.floor(Math.log2(share))));
}

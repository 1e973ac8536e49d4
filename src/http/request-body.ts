/** The body of a request as it comes. */
import type { IncomingMessage } from "node:http";
import { LentMemory } from "../bytes/lent-memory.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError } from "../errors.ts";

/** Bytes that are given in one piece, where so many have come and no other body is read. */
const MAX_PIECE_BYTES = 256 * 1024;
/** About as much as node reads at a time. What is done with a piece keeps others waiting. */
const MIN_PIECE_BYTES = 64 * 1024;
/** A client may send a chunk for each byte, which takes a hundred times as much memory. */
const MAX_CHUNKS = 64;

/** Bodies that are being read. */
let readers = 0;

/**
 * The body of a request, read once, in pieces that may be looked at until the next but one is asked for. An idle client is given up; a slow one is not.
 *
 * By events: a stream's own iterator takes as long for each 64 KiB as everything that is then done with them, and would destroy the socket when its reader stops
 * early, so that no answer could be sent.
 *
 * @throws NarborError ERR_TIMEOUT when nothing comes for so long, ERR_INVALID when it is cut off
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  readonly #request: IncomingMessage;
  readonly #idleMilliseconds: number;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #state: "coming" | "ended" | { readonly failure: NarborError } = "coming";
  #isRead = false;
  #isDropped = false;
  #wake: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(request: IncomingMessage, idleMilliseconds: number) {
    this.#request = request;
    this.#idleMilliseconds = idleMilliseconds;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    this.#open();
    /** Memory of the piece that was given last, and of the one before. */
    const memories: LentMemory[] = [];
    let untilTurn = MIN_PIECE_BYTES;
    try {
      for (let chunks = await this.#next(); chunks !== undefined; chunks = await this.#next()) {
        // The kernel may have megabytes for each of many clients.
        if (untilTurn <= 0) {
          await nextTurn();
          untilTurn = MIN_PIECE_BYTES;
        }
        const [first] = chunks;
        if (first !== undefined && chunks.length === 1) {
          untilTurn -= first.length;
          yield first;
          continue;
        }
        const memory = gather(chunks);
        untilTurn -= memory.bytes.length;
        memories.push(memory);
        if (memories.length > 2) memories.shift()?.release();
        yield memory.bytes;
      }
    } finally {
      this.#close();
    }
  }

  /** The request is answered: what is left of its body goes by unread, so that the client gets to read the answer, and whoever still waits for more fails. */
  drop(): void {
    this.#isDropped = true;
    this.#close();
    this.#fail(cutOff());
    this.#request.resume();
  }

  #open(): void {
    this.#isRead = true;
    readers++;
    this.#request.on("data", this.#onData).on("end", this.#onEnd).on("error", this.#onError).on("close", this.#onEnd);
    // Its client may have left before anyone asked for the body.
    if (this.#request.destroyed) this.#fail(cutOff());
  }

  #close(): void {
    if (!this.#isRead) return;
    this.#isRead = false;
    readers--;
    clearTimeout(this.#timer);
    this.#request.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onEnd);
    // What else comes waits until the request is answered.
    if (!this.#isDropped) this.#request.pause();
  }

  /** What has come since, at least one chunk; undefined at the end. */
  async #next(): Promise<readonly Uint8Array[] | undefined> {
    if (this.#chunks.length === 0 && this.#state === "coming") await this.#more();
    if (typeof this.#state === "object") throw this.#state.failure;
    if (this.#chunks.length === 0) return undefined;
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#bytes = 0;
    this.#request.resume();
    return chunks;
  }

  readonly #onData = (bytes: Uint8Array): void => {
    this.#chunks.push(bytes);
    this.#bytes += bytes.length;
    if (this.#bytes >= (readers === 1 ? MAX_PIECE_BYTES : MIN_PIECE_BYTES) || this.#chunks.length >= MAX_CHUNKS) this.#request.pause();
    this.#wake?.();
  };

  readonly #onEnd = (): void => {
    if (this.#state !== "coming") return;
    if (this.#request.complete) this.#state = "ended";
    else this.#fail(cutOff());
    this.#wake?.();
  };

  readonly #onError = (error: unknown): void => this.#fail(cutOff(error));

  #fail(failure: NarborError): void {
    if (this.#state === "coming") this.#state = { failure };
    this.#wake?.();
  }

  #more(): Promise<void> {
    const idle = (): void => {
      // Not when someone is at work with what came last.
      if (this.#wake !== undefined) this.#fail(new NarborError("ERR_TIMEOUT", `Nothing came of the request's body for ${this.#idleMilliseconds / 1000} s`));
    };
    // What is left of a body that was answered may never come, nor an end of it: no one waits for that any more.
    if (this.#timer === undefined) this.#timer = setTimeout(idle, this.#idleMilliseconds).unref();
    else this.#timer.refresh();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

function gather(chunks: readonly Uint8Array[]): LentMemory {
  const memory = LentMemory.lend(chunks.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    memory.bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return memory;
}

function cutOff(cause?: unknown): NarborError {
  return new NarborError("ERR_INVALID", "The request's body was cut off", { cause });
}

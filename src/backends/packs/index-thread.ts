/**
 * A thread that takes blocks into the index when they are many: thousands of rows take tens of milliseconds, for which whoever asks for something would wait.
 *
 * It has the index open for itself, is started when there is work for it, and ends with the store. What it has added shows here as what another process adds.
 */
import type { Worker } from "node:worker_threads";
import type { Deferred } from "../../concurrency/deferred.ts";
import { deferred } from "../../concurrency/deferred.ts";
import { endWithProcess, startThread } from "../../concurrency/start-thread.ts";
import { NarborError } from "../../errors.ts";
import { encodeChunkTable } from "./chunk-table.ts";
import type { IndexedBlock } from "./index-database.ts";
import type { IndexFile } from "./index-file.ts";
import type { BlocksRequest, IndexAnswer } from "./index-thread-protocol.ts";
import { encodeRecords } from "./record-format.ts";

export class IndexThread implements AsyncDisposable {
  readonly #index: IndexFile;
  #thread: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #answer: Deferred<void> | undefined;

  /** @param index as this thread has it open */
  constructor(index: IndexFile) {
    this.#index = index;
  }

  /** Whether nothing is being added. */
  get isIdle(): boolean {
    return this.#answer === undefined;
  }

  /** Resolves when nothing is being added, in the same turn: whoever writes to the index then need not wait for SQLite's lock, in which the event loop would stand still. */
  async untilIdle(): Promise<void> {
    while (this.#answer !== undefined) await this.#answer.promise.catch(() => undefined);
  }

  /** As `IndexDatabase.addBlocks`, in several transactions. To be awaited before it is called again. @throws NarborError ERR_STORE, ERR_NO_SPACE, ERR_READ_ONLY */
  async add(blocks: readonly IndexedBlock[]): Promise<void> {
    if (this.#answer !== undefined) throw new TypeError("The index is taking in other blocks");
    const thread = (this.#thread ??= this.#start());
    this.#answer = deferred();
    const request: BlocksRequest = {
      blocks: blocks.map(({ pack, offset, length, chunks, records }) => ({ pack, offset, length, chunks: encodeChunkTable(chunks), records: encodeRecords(records) })),
    };
    thread.ref();
    thread.postMessage(request, request.blocks.flatMap(({ chunks, records }) => [chunks.buffer, records.buffer]));
    try {
      await this.#answer.promise;
    } finally {
      thread.unref();
      this.#answer = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#thread?.ref();
    this.#thread?.postMessage("end", []);
    await this.#ended;
  }

  #start(): Worker {
    const thread = startThread("./index-worker", import.meta.url, { workerData: this.#index });
    const { promise, resolve } = deferred<void>();
    this.#ended = promise;
    const forget = endWithProcess(async () => await this[Symbol.asyncDispose]());
    const fail = (cause: unknown): void => this.#answer?.reject(new NarborError("ERR_STORE", "Cannot write the index: its thread has stopped", { cause }));
    thread.on("message", (answer: IndexAnswer) => {
      if (answer.type === "error") this.#answer?.reject(new NarborError(answer.code, answer.message));
      else this.#answer?.resolve();
    });
    thread.on("error", fail);
    thread.on("exit", (code) => {
      // The next who has work starts another.
      this.#thread = undefined;
      fail(new Error(`The thread ended with code ${code}`));
      forget();
      resolve();
    });
    return thread;
  }
}

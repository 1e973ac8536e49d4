import type { BlobService, SmallBlob } from "../../src/castore/blob-service.ts";
import type { CallOptions } from "../../src/castore/call-options.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import type { DirectoryService } from "../../src/castore/directory-service.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";

/** What a `RecordingStore` does before a call goes on to the store: wait, fail, abort something, be stuck. */
export interface Hooks {
  readonly beforePutMany?: (blobs: readonly SmallBlob[], options: CallOptions | undefined) => unknown;
  readonly beforePut?: (options: CallOptions | undefined) => unknown;
  readonly beforePutClosure?: (options: CallOptions | undefined) => unknown;
}

/** A memory store that writes down what was asked of it, and when. */
export class RecordingStore {
  readonly store = new MemoryStore();
  /** Names of calls as they begin and end, such as `putMany` and `putMany done`. */
  readonly log: string[] = [];
  /** Every batch that was put. */
  readonly batches: (readonly SmallBlob[])[] = [];
  /** Digests of blobs that were streamed. */
  readonly streamed: B3Digest[] = [];
  /** Signals that calls were given. */
  readonly signals: (AbortSignal | undefined)[] = [];
  inFlight = 0;
  maxInFlight = 0;
  bytesInFlight = 0;
  maxBytesInFlight = 0;
  readonly #hooks: Hooks;

  constructor(hooks: Hooks = {}) {
    this.#hooks = hooks;
  }

  /** Digests of all blobs that were put in batches, in order. */
  get batched(): B3Digest[] {
    return this.batches.flat().map(({ digest }) => digest);
  }

  readonly blobs: Pick<BlobService, "putMany" | "put"> = {
    putMany: (blobs, options) => {
      this.batches.push([...blobs]);
      const bytes = blobs.reduce((sum, blob) => sum + blob.bytes.length, 0);
      return this.#record("putMany", bytes, options, async () => {
        await this.#hooks.beforePutMany?.(blobs, options);
        await this.store.blobs.putMany(blobs, options);
      });
    },
    put: (content, options) =>
      this.#record("put", 0, options, async () => {
        await this.#hooks.beforePut?.(options);
        const digest = await this.store.blobs.put(content, options);
        this.streamed.push(digest);
        return digest;
      }),
  };

  readonly directories: Pick<DirectoryService, "putClosure"> = {
    putClosure: (directories, options) =>
      this.#record("putClosure", 0, options, async () => {
        await this.#hooks.beforePutClosure?.(options);
        return await this.store.directories.putClosure(directories, options);
      }),
  };

  async #record<T>(name: string, bytes: number, options: CallOptions | undefined, call: () => Promise<T>): Promise<T> {
    this.log.push(name);
    this.signals.push(options?.signal);
    this.maxInFlight = Math.max(this.maxInFlight, ++this.inFlight);
    this.maxBytesInFlight = Math.max(this.maxBytesInFlight, (this.bytesInFlight += bytes));
    try {
      return await call();
    } finally {
      this.inFlight--;
      this.bytesInFlight -= bytes;
      this.log.push(`${name} done`);
    }
  }
}

/** Never resolves; rejects with the signal's reason when it fires, as every service must. */
export function untilAborted(options: CallOptions | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const signal = options?.signal;
    signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    if (signal?.aborted === true) reject(signal.reason as Error);
  });
}

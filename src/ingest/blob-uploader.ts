import pLimit from "p-limit";
import type { BlobRef, BlobService, SmallBlob } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT, toSmallBlob } from "../castore/blob-service.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest, toB3Digest } from "../castore/digest.ts";
import { deferred } from "../concurrency/deferred.ts";
import type { LinkedSignal } from "../concurrency/linked-signal.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { Semaphore } from "../concurrency/semaphore.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { LentMemory } from "../bytes/lent-memory.ts";
import { streamOf } from "../bytes/stream-of.ts";
import { createBlake3 } from "../hash/blake3.ts";
import { NarborError } from "../errors.ts";

export interface BlobUploaderOptions {
  /** Uploads under way at once. @default 128 */
  readonly concurrency?: number | undefined;
  /** Bytes of small files held in memory at once, whether waiting or under way. @default 33554432 (32 MiB) */
  readonly bufferedBytes?: number | undefined;
  /** Bytes of small files of this and other uploaders together, each of which may wait with 2 MiB for what fills them. */
  readonly sharedBytes?: Semaphore | undefined;
  /** Asked, for every batch, which blobs are new, for `BlobUploader.tally`; it should not show what is being written. */
  readonly tallyBy?: Pick<BlobService, "findMissing"> | undefined;
}

/** Bytes of blobs that were stored before, and of those that were not. */
export interface BlobTally {
  newBytes: number;
  sharedBytes: number;
}

const DEFAULT_CONCURRENCY = 128;
const DEFAULT_BUFFERED_BYTES = 32 * 1024 * 1024;
/** A batch goes out when it holds this many bytes (or one larger file) … */
const BATCH_BYTES = 2 * 1024 * 1024;
/** Memory is taken for so much, then for twice as much each time, up to a whole batch: most trees are small. */
const FIRST_MEMORY_BYTES = 64 * 1024;
/** … or this many files. */
const BATCH_COUNT = 4096;
/** Digests remembered as sent, twice over: a repeat from longer ago costs one needless upload, not memory for every file. */
const REMEMBERED_DIGESTS = 65_536;

interface Batch {
  /** Of all the memory that it has. */
  bytes: number;
  readonly releases: (() => void)[];
  readonly memories: LentMemory[];
  /** The bytes of the last of its memories, which is filled now, and how much of it is. */
  memory: Uint8Array;
  used: number;
  /** Where the framing begins of the file that memory was asked for last, and the file; undefined when what comes before it is not known. */
  framingStart: number | undefined;
  fileStart: number;
  readonly blobs: SmallBlob[];
  /** One for each blob. */
  readonly tallies: BlobTally[];
}

/**
 * Sends a tree's files to a blob service: small ones in batches in the background, under a limit of calls and one of bytes; large ones as
 * streams in line. The first failure fires the signal it was given, and what is under way stops.
 */
export class BlobUploader implements Disposable {
  readonly #blobs: Pick<BlobService, "putMany" | "put">;
  readonly #stop: LinkedSignal;
  readonly #limit: ReturnType<typeof pLimit>;
  readonly #memory: Semaphore;
  readonly #sharedMemory: Semaphore | undefined;
  readonly #memoryLimit: number;
  readonly #underway = new Set<Promise<void>>();
  readonly #tallyBy: Pick<BlobService, "findMissing"> | undefined;
  /** Where blobs that are added from now on are counted; complete after `join`. */
  tally: BlobTally = { newBytes: 0, sharedBytes: 0 };
  #sent = new Set<string>();
  #sentBefore = new Set<string>();
  /** Whether the file before was not sent with the small ones, as one that is large, or not at all, since it had been already: then no one can put the next one behind it. */
  #isApart = false;
  #batch: Batch | undefined;
  /** Of memory that is taken next. */
  #memoryBytes = FIRST_MEMORY_BYTES;

  constructor(blobs: Pick<BlobService, "putMany" | "put">, stop: LinkedSignal, options: BlobUploaderOptions = {}) {
    this.#blobs = blobs;
    this.#stop = stop;
    this.#limit = pLimit(options.concurrency ?? DEFAULT_CONCURRENCY);
    this.#memoryLimit = options.bufferedBytes ?? DEFAULT_BUFFERED_BYTES;
    this.#memory = new Semaphore(this.#memoryLimit);
    this.#sharedMemory = options.sharedBytes;
    this.#tallyBy = options.tallyBy;
  }

  /**
   * Memory for a small file's `size` bytes, to be filled and then handed to `addSmall` before the next is asked for.
   * A promise when it must be waited for. The memory is the batch's own, so that a file does not keep the network buffer it came in.
   *
   * @param framing see `SmallBlob`; it must not change until the memory is there
   */
  reserve(size: number, framing?: Uint8Array): Uint8Array | Promise<Uint8Array> {
    const known = this.#isApart ? undefined : framing;
    const length = size + (known?.length ?? 0);
    const batch = this.#batch;
    if (batch !== undefined && batch.memory.length - batch.used >= length) return reserveIn(batch, size, known);
    return this.#reserveInNewMemory(size, known);
  }

  /** Hash a small file and send it with its batch, unless this import sent it already. */
  addSmall(bytes: Uint8Array): B3Digest {
    const batch = this.#batch;
    if (batch === undefined) throw new TypeError("addSmall() without reserve()");
    const blob = toSmallBlob(bytes, batch.framingStart === undefined ? undefined : batch.memory.subarray(batch.framingStart, batch.fileStart));
    const isNew = this.#remember(blob.digest);
    if (bytes.length > 0) this.#isApart = !isNew;
    if (isNew) {
      batch.blobs.push(blob);
      batch.tallies.push(this.tally);
      batch.used = batch.fileStart + bytes.length;
      if (batch.blobs.length >= BATCH_COUNT) this.#send();
    } else this.tally.sharedBytes += bytes.length;
    return blob.digest;
  }

  /**
   * Stream a large file in line and give its digest, when all of it has been read: whether the service has stored it, and calls it the same, is
   * waited for by `join`, and the next file need not wait for the answer. Rejects with the error of `content`, which stops nothing else.
   */
  async addLarge(content: AsyncIterable<Uint8Array>): Promise<B3Digest> {
    this.#isApart = true;
    const { signal } = this.#stop;
    const hasher = createBlake3();
    const { tally } = this;
    const count = async (blob: BlobRef): Promise<void> => await this.#count([blob], [tally]);
    let size = 0;
    let digest: B3Digest | undefined;
    let hasContent = true;
    const whole = (): B3Digest => {
      if (digest === undefined) throw new NarborError("ERR_MISMATCH", "Cannot upload a blob: the service stopped reading before its end");
      return digest;
    };
    const ended = deferred<B3Digest>();
    async function* hashed(): AsyncGenerator<Uint8Array, void, undefined> {
      try {
        for await (const bytes of content) {
          hasher.update(bytes);
          size += bytes.length;
          yield bytes;
        }
      } catch (error) {
        hasContent = false;
        ended.reject(error);
        throw error;
      }
      digest = toB3Digest(hasher.digest());
      ended.resolve(digest);
      await count({ digest, size });
    }
    this.#track(
      this.#limit(async () => {
        signal.throwIfAborted();
        const stored = await this.#blobs.put(hashed(), { signal, digest: whole });
        if (!equalBytes(stored, whole())) {
          throw new NarborError("ERR_MISMATCH", `Cannot upload a blob: the service calls it ${formatDigest(stored)}, which is not its digest`);
        }
      })
        .catch((error: unknown) => {
          if (hasContent) throw error;
        })
        .finally(() => hasher.discard()),
    );
    return await untilAborted(ended.promise, signal);
  }

  /** Send bytes that are at hand, in a batch or as a stream. They must not change before `join`. */
  async addWhole(bytes: Uint8Array): Promise<BlobRef> {
    if (bytes.length > SMALL_BLOB_LIMIT) return { digest: await this.addLarge(streamOf(bytes)), size: bytes.length };
    const memory = this.reserve(bytes.length);
    const place = memory instanceof Uint8Array ? memory : await memory;
    place.set(bytes);
    return { digest: this.addSmall(place), size: bytes.length };
  }

  /** Send what is left and wait for every upload. @throws the first failure */
  async join(): Promise<void> {
    this.#send();
    await untilAborted(Promise.all(this.#underway), this.#stop.signal);
    this.#stop.signal.throwIfAborted();
  }

  /** Give back the memory of what was not sent: where an import fails, others may wait for it. */
  [Symbol.dispose](): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch !== undefined) releaseMemory(batch);
  }

  async #reserveInNewMemory(size: number, framing: Uint8Array | undefined): Promise<Uint8Array> {
    const needed = size + (framing?.length ?? 0);
    const limit = Math.min(BATCH_BYTES, this.#memoryLimit);
    if (this.#batch !== undefined && this.#batch.bytes + needed > limit) {
      this.#send();
      // It goes out only between two turns, and a source that is quick leaves none.
      await nextTurn();
    }
    const length = Math.max(needed, Math.min(this.#memoryBytes, limit - (this.#batch?.bytes ?? 0)));
    this.#memoryBytes = Math.min(2 * this.#memoryBytes, BATCH_BYTES);
    const release = await this.#acquire(length);
    const lent = LentMemory.lend(length);
    const memory = lent.bytes;
    this.#batch ??= { bytes: 0, releases: [], memories: [], memory, used: 0, framingStart: undefined, fileStart: 0, blobs: [], tallies: [] };
    this.#batch.bytes += length;
    this.#batch.releases.push(release);
    this.#batch.memories.push(lent);
    this.#batch.memory = memory;
    this.#batch.used = 0;
    return reserveIn(this.#batch, size, framing);
  }

  async #acquire(bytes: number): Promise<() => void> {
    const release = await this.#memory.acquire(bytes, this.#stop.signal);
    if (this.#sharedMemory === undefined) return release;
    try {
      const releaseShared = await this.#sharedMemory.acquire(bytes, this.#stop.signal);
      return () => {
        release();
        releaseShared();
      };
    } catch (error) {
      release();
      throw error;
    }
  }

  #send(): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch === undefined) return;
    if (batch.blobs.length === 0) {
      releaseMemory(batch);
      return;
    }
    const { signal } = this.#stop;
    this.#track(
      this.#limit(async () => {
        signal.throwIfAborted();
        await this.#count(batch.blobs, batch.tallies);
        await this.#blobs.putMany(batch.blobs, { signal });
        // One that has failed may still be looked at.
        for (const memory of batch.memories) memory.release();
      }).finally(() => releaseMemory(batch)),
    );
  }

  async #count(blobs: readonly BlobRef[], tallies: readonly BlobTally[]): Promise<void> {
    if (this.#tallyBy === undefined) return;
    const missing = new Set((await this.#tallyBy.findMissing(blobs.map(({ digest }) => digest), { signal: this.#stop.signal })).map(digestKey));
    for (const [index, { digest, size }] of blobs.entries()) {
      const tally = tallies[index] as BlobTally;
      if (missing.has(digestKey(digest))) tally.newBytes += size;
      else tally.sharedBytes += size;
    }
  }

  /** An upload goes on in the background until `join`; its failure stops everything. */
  #track(upload: Promise<void>): void {
    const tracked = upload.catch((error: unknown) => this.#stop.abort(error)).finally(() => this.#underway.delete(tracked));
    this.#underway.add(tracked);
  }

  /** False when the digest was sent before. */
  #remember(digest: B3Digest): boolean {
    const key = digestKey(digest);
    if (this.#sent.has(key) || this.#sentBefore.has(key)) return false;
    if (this.#sent.size >= REMEMBERED_DIGESTS) {
      this.#sentBefore = this.#sent;
      this.#sent = new Set();
    }
    this.#sent.add(key);
    return true;
  }
}

function releaseMemory({ releases }: Batch): void {
  for (const release of releases) release();
}

function reserveIn(batch: Batch, size: number, framing: Uint8Array | undefined): Uint8Array {
  if (framing !== undefined) batch.memory.set(framing, batch.used);
  batch.framingStart = framing && batch.used;
  batch.fileStart = batch.used + (framing?.length ?? 0);
  return batch.memory.subarray(batch.fileStart, batch.fileStart + size);
}

import { setMaxListeners } from "node:events";
import { collectBytes } from "../../bytes/collect.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { frames } from "../../bytes/frames.ts";
import { MAX_WANTED_BLOBS } from "../../castore/blob-block.ts";
import type { BlobRef, BlobService, BlobStat, PutOptions, ReadOptions, SmallBlob } from "../../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { HashedContent } from "../../castore/hashed-content.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, formatDigest, toB3Digest } from "../../castore/digest.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { batched } from "../../concurrency/batched.ts";
import { linkSignal } from "../../concurrency/linked-signal.ts";
import { mapConcurrent } from "../../concurrency/map-concurrent.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError, isNarborError } from "../../errors.ts";
import { BlobService as BlobServiceDescriptor } from "../../proto/gen/snix/castore/v1/rpc_blobstore_pb.ts";
import { openInBlocks, readInBlocks } from "./blob-blocks.ts";
import { batchFindMissing, batchRead, batchUpdate } from "./blob-batches.ts";
import type { GrpcCore } from "./grpc-core.ts";
import type { Peer } from "./peer.ts";
import { SINGLE_CALLS_AT_ONCE } from "./grpc-core.ts";
import { resumed } from "./resumed-stream.ts";
import { checkBlob, notStored, verifiedRange } from "./verified-blob.ts";
import { writeBlob, writeSmallBlobs } from "./write-blocks.ts";

const { stat, read, put } = BlobServiceDescriptor.method;

/** Digests in one question of what is missing: about 560 KiB. */
const DIGESTS_PER_CALL = 8192;
/** Bytes of blobs asked for in one call, and blobs. Smaller than the server takes: the first should not wait long for the others. */
const READ_BATCH_BYTES = 1024 * 1024;
const READ_BATCH_COUNT = 2048;
/** Calls that read ahead of what was taken. */
const READ_BATCHES_AHEAD = 6;
/** The same of blobs that come in blocks: in each call, a block at the beginning and one at the end are most likely in another call too. */
const BLOCKS_BATCH_BYTES = 4 * 1024 * 1024;
/** The first batch is small: on a slow line, those behind it share what there is with it. */
const FIRST_BLOCKS_BATCH_BYTES = 128 * 1024;
const BLOCKS_BATCHES_AHEAD = 4;
/** The same when there are so many readers that those who read slowly would take gigabytes. */
const SCARCE_BLOCKS_BATCH_BYTES = 1024 * 1024;
const SCARCE_BLOCKS_BATCHES_AHEAD = 2;
const SINGLE_READS_AHEAD = 64;

export class GrpcBlobService implements BlobService {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async findMissing(digests: readonly B3Digest[], options?: CallOptions): Promise<readonly B3Digest[]> {
    const { maxBatchBytes } = await this.#core.peer(options);
    const distinct = [...new Map(digests.map((digest) => [digestKey(digest), digest])).values()];
    const missing = maxBatchBytes === undefined ? await this.#statAll(distinct, options) : await this.#findInBatches(distinct, options);
    return distinct.filter((digest) => missing.has(digestKey(digest)));
  }

  async findsTogether(options?: CallOptions): Promise<boolean> {
    return (await this.#core.peer(options)).maxBatchBytes !== undefined;
  }

  async stat(digest: B3Digest, options?: CallOptions): Promise<BlobStat | undefined> {
    const { family } = await this.#core.peer(options);
    try {
      const { chunks } = await this.#core.single(options, () => this.#core.channel.unary(stat, { digest, sendChunks: true }, { ...options, family }));
      return { chunks: chunks.map((chunk) => ({ digest: toB3Digest(chunk.digest), size: Number(chunk.size) })) };
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async putMany(blobs: readonly SmallBlob[], options?: CallOptions): Promise<void> {
    const { maxBatchBytes, blockCompression } = await this.#core.peer(options);
    if (blobs.length === 0) return;
    const missing = new Set((await this.findMissing(blobs.map(({ digest }) => digest), options)).map(digestKey));
    if (missing.size === 0) return;
    if (blockCompression !== undefined) {
      await this.#core.batch(options, () => this.#knowing(() => writeSmallBlobs(this.#core, { blobs, missing }, blockCompression, options)));
      return;
    }
    // Each once, should one come twice.
    const wanted = blobs.filter(({ digest }) => missing.delete(digestKey(digest)));
    if (maxBatchBytes === undefined) await each(wanted, options, (blob, callOptions) => this.#putOne(blob, callOptions));
    else await this.#putBatches(wanted, maxBatchBytes, options);
  }

  async #putBatches(blobs: readonly SmallBlob[], maxBytes: number, options: CallOptions | undefined): Promise<void> {
    const calls: Promise<void>[] = [];
    for await (const batch of batched(blobs, maxBytes, blobs.length)) calls.push(this.#core.batch(options, () => batchUpdate(this.#core, batch, options)));
    await Promise.all(calls);
  }

  async put(content: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<B3Digest> {
    using stop = linkSignal(options?.signal);
    using hashed = new HashedContent(abortable(content, stop.signal), options?.digest);
    try {
      const { family, blockCompression } = await this.#core.peer(options);
      if (blockCompression !== undefined) {
        return await this.#core.single(options, () => this.#knowing(() => writeBlob(this.#core, hashed, blockCompression, options)));
      }
      const { digest } = await this.#core.single(options, () => this.#core.channel.clientStream(put, frames(hashed.bytes), { ...options, family }));
      const stored = toB3Digest(digest);
      this.#checkStored(stored, hashed.digest());
      return stored;
    } catch (error) {
      // The content may be stuck when the server fails, and must be closed all the same; it hears of it within this turn.
      stop.abort(error);
      await nextTurn();
      throw error;
    }
  }

  async openRead(digest: B3Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    const open = async (): Promise<AsyncIterable<Uint8Array> | undefined> => await this.#openRaw(digest, options?.size, options);
    const pieces = await open();
    return pieces && verifiedRange(resumed(pieces, open), digest, options, this.#core.name);
  }

  async *readMany(blobs: Iterable<BlobRef> | AsyncIterable<BlobRef>, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const peer = await this.#core.peer(options);
    const wanted = Symbol.asyncIterator in blobs ? abortable(blobs, options?.signal) : blobs;
    for await (const results of this.#answers(wanted, peer, options)) {
      for (const result of results) {
        this.#core.channel.check(options);
        if (result instanceof Error) throw result;
        yield result;
      }
    }
  }

  #answers(
    wanted: Iterable<BlobRef> | AsyncIterable<BlobRef>,
    { maxBatchBytes, readsBlocks }: Peer,
    options: CallOptions | undefined,
  ): AsyncGenerator<readonly (Uint8Array | NarborError)[], void, undefined> {
    if (maxBatchBytes === undefined) return mapConcurrent(wanted, SINGLE_READS_AHEAD, async (blob) => [await this.#readOne(blob, options)]);
    if (readsBlocks) return this.#readAllBlocks(wanted, options);
    return mapConcurrent(batched(wanted, READ_BATCH_BYTES, READ_BATCH_COUNT), READ_BATCHES_AHEAD, async (batch) =>
      // One that is too large for a batch is alone in its own.
      (batch[0]?.size ?? 0) > maxBatchBytes ? await Promise.all(batch.map((blob) => this.#readOne(blob, options))) : await batchRead(this.#core, batch, options),
    );
  }

  async *#readAllBlocks(wanted: Iterable<BlobRef> | AsyncIterable<BlobRef>, options: CallOptions | undefined): AsyncGenerator<readonly (Uint8Array | NarborError)[], void, undefined> {
    const release = this.#core.readAhead.tryAcquire(BLOCKS_BATCH_BYTES * BLOCKS_BATCHES_AHEAD);
    const [bytes, ahead] = release === undefined ? [SCARCE_BLOCKS_BATCH_BYTES, SCARCE_BLOCKS_BATCHES_AHEAD] : [BLOCKS_BATCH_BYTES, BLOCKS_BATCHES_AHEAD];
    try {
      yield* mapConcurrent(batched(wanted, bytes, MAX_WANTED_BLOBS, FIRST_BLOCKS_BATCH_BYTES), ahead, (batch) => this.#readBlocks(batch, options));
    } finally {
      release?.();
    }
  }

  /** Do what only a Narbor does. When the server says that it does not, it is another than was asked, and is asked anew next time. */
  async #knowing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isNarborError(error, "ERR_UNSUPPORTED")) this.#core.forgetPeer();
      throw error;
    }
  }

  async #readBlocks(blobs: readonly BlobRef[], options: CallOptions | undefined): Promise<readonly (Uint8Array | NarborError)[]> {
    try {
      return await readInBlocks(this.#core, blobs, options);
    } catch (error) {
      if (isNarborError(error, "ERR_UNSUPPORTED")) this.#core.forgetPeer();
      else if (!isNarborError(error, "ERR_NOT_FOUND", "ERR_DATA_LOSS")) throw error;
      // One at a time, it shows which of them it is.
      return await each(blobs, options, (blob, callOptions) => this.#readOneOrError(blob, callOptions));
    }
  }

  async #findInBatches(digests: readonly B3Digest[], options: CallOptions | undefined): Promise<ReadonlySet<string>> {
    const calls: Promise<readonly B3Digest[]>[] = [];
    for (let start = 0; start < digests.length; start += DIGESTS_PER_CALL) {
      const part = digests.slice(start, start + DIGESTS_PER_CALL);
      calls.push(this.#core.batch(options, () => batchFindMissing(this.#core, part, options)));
    }
    return new Set((await Promise.all(calls)).flat().map(digestKey));
  }

  async #statAll(digests: readonly B3Digest[], options: CallOptions | undefined): Promise<ReadonlySet<string>> {
    const stats = await each(digests, options, (digest, callOptions) => this.stat(digest, callOptions));
    return new Set(digests.filter((_, index) => stats[index] === undefined).map(digestKey));
  }

  async #putOne({ digest, bytes }: SmallBlob, options: CallOptions | undefined): Promise<void> {
    const { family } = await this.#core.peer(options);
    const answer = await this.#core.single(options, () => this.#core.channel.clientStream(put, [bytes], { ...options, family }));
    this.#checkStored(toB3Digest(answer.digest), digest);
  }

  /** A whole small blob, or why there is none. */
  async #readOne(blob: BlobRef, options: CallOptions | undefined): Promise<Uint8Array | NarborError> {
    return await this.#core.single(options, async () => {
      const pieces = await this.#openRaw(blob.digest, blob.size, options);
      if (pieces === undefined) return notStored(blob, this.#core.name);
      const bytes = await collectBytes(pieces, Math.max(blob.size, SMALL_BLOB_LIMIT), "a blob");
      return checkBlob(blob, bytes, this.#core.name);
    });
  }

  async #readOneOrError(blob: BlobRef, options: CallOptions): Promise<Uint8Array | NarborError> {
    try {
      return await this.#readOne(blob, options);
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND", "ERR_DATA_LOSS")) return error;
      throw error;
    }
  }

  /** What the server sends for a blob, unverified, or undefined when it says that it has none. */
  async #openRaw(digest: B3Digest, size: number | undefined, options: CallOptions | undefined): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { family, readsBlocks } = await this.#core.peer(options);
    if (readsBlocks) {
      try {
        return await openInBlocks(this.#core, digest, size, options);
      } catch (error) {
        if (!isNarborError(error, "ERR_UNSUPPORTED")) throw error;
        this.#core.forgetPeer();
      }
    }
    const pieces = this.#core.channel.serverStream(read, { digest }, { ...options, family });
    try {
      return startingWith(await pieces.next(), pieces);
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  #checkStored(stored: B3Digest, sent: B3Digest): void {
    if (equalBytes(stored, sent)) return;
    throw new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(sent)}: ${this.#core.name} calls it ${formatDigest(stored)}`);
  }
}

/**
 * A call for every item, in order, as many at once as may be. They follow a signal of their own: to find its place, each of thousands that listen to one
 * signal looks at all others.
 */
async function each<T, R>(items: readonly T[], options: CallOptions | undefined, call: (item: T, options: CallOptions) => Promise<R>): Promise<R[]> {
  using own = linkSignal(options?.signal);
  setMaxListeners(0, own.signal);
  const callOrStop = async (item: T): Promise<R> => {
    try {
      return await call(item, { ...options, signal: own.signal });
    } catch (error) {
      own.abort(error);
      throw error;
    }
  };
  const results: R[] = [];
  for await (const result of mapConcurrent(items, SINGLE_CALLS_AT_ONCE, callOrStop)) results.push(result);
  return results;
}

async function* startingWith<T>(first: IteratorResult<T, void>, rest: AsyncGenerator<T, void, undefined>): AsyncGenerator<T, void, undefined> {
  try {
    if (first.done === true) return;
    yield first.value;
    yield* rest;
  } finally {
    await rest.return();
  }
}

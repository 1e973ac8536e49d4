/**
 * Appends blocks to packs of this process, in order: compressed side by side off the main thread, several of them written at a time.
 * A pack that has grown large is closed and another begun. After a fault it is of no more use: `abandon` it.
 */
import { randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { open, unlink } from "node:fs/promises";
import { availableParallelism } from "node:os";
import pLimit from "p-limit";
import type { LentMemory } from "../../bytes/lent-memory.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { BlockCompression } from "../../castore/block-writer.ts";
import { shrinkZstd } from "../../compression/zstd.ts";
import { deferred } from "../../concurrency/deferred.ts";
import type { IndexDatabase, IndexedBlock } from "./index-database.ts";
import type { IndexThread } from "./index-thread.ts";
import type { BlockKind } from "./pack-format.ts";
import { encodeBlockHeader, PACK_HEADER } from "./pack-format.ts";
import type { PackFiles } from "./pack-files.ts";
import type { StoreRecord } from "./record-format.ts";

/** A block to be written. */
export interface NewBlock {
  readonly kind: BlockKind;
  /** Its bytes, to be given back when they are written. */
  readonly raw: LentMemory;
  readonly chunks: readonly ChunkEntry[];
  readonly records: readonly StoreRecord[];
  /** See `ChunkOrigin`. */
  readonly isCut?: boolean;
}

/** A block of chunks as it is to lie in a pack. */
export interface CompressedBlock {
  /** One zstd frame that tells its size; or, where they are as many bytes, what the block has itself. They do not change any more. */
  readonly stored: Uint8Array;
  /** Bytes before compression. */
  readonly rawLength: number;
  readonly chunks: readonly ChunkEntry[];
}

/** Bytes of blocks waiting to be compressed or written, beyond which writers are to wait. */
const BACKLOG_BYTES = 5 * 1024 * 1024;
/** Bytes of blocks, before compression, and blocks that are written at a time: to wake a thread for each takes longer than what it then does. */
const WRITE_BYTES = 2 * 1024 * 1024;
const WRITE_BLOCKS = 64;
/** Blocks under way in threads at once: a thread that has something to go on with need not be woken up, and the last one does not get behind where contents compress slowly. */
const COMPRESSORS = availableParallelism() + 2;
/** Smaller blocks are stored as they are: what a thread takes to compress one is more than a thousand bytes are worth. */
const COMPRESSED_FROM_BYTES = 2048;
/** A pack that has reached this is closed and another begun. */
const PACK_BYTES = 1024 * 1024 * 1024;

interface QueuedBlock extends Omit<NewBlock, "raw"> {
  readonly rawLength: number;
  /** Where its bytes are as they are written, to be given back then. */
  readonly memory?: LentMemory;
  /** Its bytes as they are written. */
  readonly stored: Promise<Uint8Array>;
  readonly resolve: (written: IndexedBlock) => void;
  readonly reject: (error: unknown) => void;
}

interface OpenPack {
  readonly id: number;
  readonly path: string;
  readonly handle: FileHandle;
  /** Where the next block goes. */
  end: number;
}

export class PackAppender {
  readonly #files: PackFiles;
  readonly #index: IndexDatabase;
  readonly #indexThread: IndexThread;
  readonly #compression: BlockCompression;
  readonly #compressors = pLimit(COMPRESSORS);
  #pack: OpenPack | undefined;
  /** Blocks that are not being written yet, in order. */
  readonly #queue: QueuedBlock[] = [];
  #queuedBytes = 0;
  #flushWanted = false;
  #isWriting = false;
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  #backlog = 0;
  #waiting: (() => void)[] = [];

  constructor(files: PackFiles, index: IndexDatabase, indexThread: IndexThread, compression: BlockCompression) {
    this.#files = files;
    this.#index = index;
    this.#indexThread = indexThread;
    this.#compression = compression;
  }

  /** Append a block; resolves when it is written, which is not yet durable, and may take a `flush`. After one has failed, so do all that follow. */
  append({ raw, ...block }: NewBlock): Promise<IndexedBlock> {
    const rawLength = raw.bytes.length;
    const isKept = this.#compression === "none" || rawLength < COMPRESSED_FROM_BYTES;
    const stored = isKept ? Promise.resolve(raw.bytes) : this.#compress(raw, this.#compression);
    // A commit waits for it; until then a rejection must not count as unhandled.
    stored.catch(() => undefined);
    return this.#enqueue({ ...block, rawLength, stored, memory: raw });
  }

  async #compress(raw: LentMemory, level: number): Promise<Uint8Array> {
    await this.#compressors(async () => await shrinkZstd(raw, level));
    return raw.bytes;
  }

  /** The same of a block that someone else has compressed. */
  appendCompressed(block: CompressedBlock): Promise<IndexedBlock> {
    return this.#enqueue({ ...block, stored: Promise.resolve(block.stored), kind: "chunks", records: [] });
  }

  /** Write all that was appended, however little it is. */
  flush(): void {
    this.#flushWanted = true;
    this.#write();
  }

  /** Wait while too much is on its way to the disk. */
  async ready(): Promise<void> {
    while (this.#backlog > BACKLOG_BYTES) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Make every block that was written durable. */
  async sync(): Promise<void> {
    await this.#pack?.handle.datasync();
  }

  /** Close the pack, once what was appended is written or has failed. */
  async abandon(): Promise<void> {
    this.flush();
    await this.#writing;
    const pack = this.#pack;
    this.#pack = undefined;
    if (pack === undefined) return;
    await pack.handle.close();
    // On a full disk every try would otherwise leave a file behind.
    if (pack.end === PACK_HEADER.length) await unlink(pack.path);
  }

  #enqueue(block: Omit<QueuedBlock, "resolve" | "reject">): Promise<IndexedBlock> {
    const { promise, resolve, reject } = deferred<IndexedBlock>();
    promise.catch(() => undefined);
    this.#queue.push({ ...block, resolve, reject });
    this.#backlog += block.rawLength;
    this.#queuedBytes += block.rawLength;
    if (this.#queuedBytes >= WRITE_BYTES) this.#write();
    return promise;
  }

  #write(): void {
    if (this.#isWriting) return;
    this.#isWriting = true;
    this.#writing = this.#writeQueue();
  }

  async #writeQueue(): Promise<void> {
    while (this.#queue.length > 0 && (this.#flushWanted || this.#queuedBytes >= WRITE_BYTES)) {
      const blocks = this.#takeBatch();
      try {
        if (this.#failure !== undefined) throw this.#failure.error;
        const written = await this.#writeBatch(blocks);
        for (const [index, { memory, resolve }] of blocks.entries()) {
          memory?.release();
          resolve(written[index] as IndexedBlock);
        }
      } catch (error) {
        this.#failure ??= { error };
        for (const { reject } of blocks) reject(error);
      }
      this.#backlog -= blocks.reduce((sum, { rawLength }) => sum + rawLength, 0);
      for (const resume of this.#waiting.splice(0)) resume();
    }
    if (this.#queue.length === 0) this.#flushWanted = false;
    // In the same turn as the last look at the queue, so that no block falls between.
    this.#isWriting = false;
  }

  #takeBatch(): readonly QueuedBlock[] {
    let bytes = 0;
    let count = 0;
    for (const { rawLength } of this.#queue) {
      if (count === WRITE_BLOCKS || bytes >= WRITE_BYTES) break;
      bytes += rawLength;
      count++;
    }
    this.#queuedBytes -= bytes;
    return this.#queue.splice(0, count);
  }

  async #writeBatch(blocks: readonly QueuedBlock[]): Promise<readonly IndexedBlock[]> {
    const allStored = await Promise.all(blocks.map(({ stored }) => stored));
    if (this.#pack !== undefined && this.#pack.end >= PACK_BYTES) await this.#finishPack(this.#pack);
    const pack = (this.#pack ??= await this.#beginPack());
    const parts: Uint8Array[] = [];
    const written: IndexedBlock[] = [];
    let offset = pack.end;
    for (const [index, { kind, chunks, records, isCut, rawLength }] of blocks.entries()) {
      const stored = allStored[index] as Uint8Array;
      const codec = stored.length < rawLength ? "zstd" : "stored";
      const level = this.#compression === "none" ? undefined : this.#compression;
      const cut = isCut === true ? { level } : undefined;
      const header = encodeBlockHeader({ kind, codec, count: chunks.length + records.length, cut, rawLength }, chunks, stored);
      const length = header.length + stored.length;
      parts.push(header, stored);
      written.push({ pack: pack.id, offset, length, chunks, records });
      offset += length;
    }
    await writeFully(pack.handle, parts, pack.end);
    pack.end = offset;
    return written;
  }

  async #beginPack(): Promise<OpenPack> {
    // Names sort by time, so that the packs are read again in about the order in which they were written.
    const name = `${Date.now().toString(16).padStart(12, "0")}-${randomBytes(6).toString("hex")}.pack`;
    const path = this.#files.path(name);
    const handle = await open(path, "wx");
    try {
      await writeFully(handle, [PACK_HEADER], 0);
      await syncDirectory(this.#files.path("."));
      await this.#indexThread.untilIdle();
      return { id: this.#index.packId(name), path, handle, end: PACK_HEADER.length };
    } catch (error) {
      await handle.close();
      await unlink(path).catch(() => undefined);
      throw error;
    }
  }

  async #finishPack(pack: OpenPack): Promise<void> {
    // Its last blocks may not have been committed yet, and the next sync goes to another file.
    await pack.handle.datasync();
    this.#pack = undefined;
    await pack.handle.close();
  }
}

async function writeFully(handle: FileHandle, parts: readonly Uint8Array[], at: number): Promise<void> {
  let rest = parts.filter((part) => part.length > 0);
  let offset = at;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, offset);
    offset += bytesWritten;
    let written = bytesWritten;
    // A short write, as on a disk that is nearly full: go on behind it, and let the next one say what is wrong.
    rest = rest.flatMap((part) => {
      const skip = Math.min(written, part.length);
      written -= skip;
      return skip === part.length ? [] : [part.subarray(skip)];
    });
  }
}

/** A new file's name is durable only when its directory is. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

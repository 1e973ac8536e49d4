/**
 * Everything that is written to a store goes through here, in order.
 *
 * Chunks fill an open block, records another; full blocks are appended to a pack. What is written belongs to a *group*, and a commit makes the
 * open group durable: write what is left of it, sync the pack, then one index transaction. While that runs the next group fills, so imports that
 * come together share a commit. After any fault everything that is not yet durable fails together, and the pack is left behind.
 */
import { copyBytes } from "../../bytes/collect.ts";
import { ByteWriter } from "../../bytes/byte-writer.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, toB3Digest } from "../../castore/digest.ts";
import { NarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { IndexDatabase, IndexedBlock } from "./index-database.ts";
import type { PackAppender } from "./pack-appender.ts";
import type { ChunkEntry } from "./pack-format.ts";
import type { StoreRecord } from "./record-format.ts";
import { writeRecord } from "./record-format.ts";
import { toStoreError } from "./system-error.ts";

/** Small chunks share a block of this many bytes before compression. */
const BLOCK_BYTES = 512 * 1024;
/** A chunk from this size on has a block to itself. */
const LARGE_CHUNK_BYTES = 128 * 1024;
/**
 * A block that holds so much ends where the archive that fills it goes on elsewhere: it can be given away as it is only when all of it is one piece of
 * the archive. Smaller ones would not compress as well.
 */
const MIN_RUN_BYTES = 64 * 1024;
/** A group that holds this much is committed though no one asks yet, which bounds its transaction and what it keeps in memory. */
const GROUP_BYTES = 64 * 1024 * 1024;
const GROUP_ROWS = 8192;

/** What becomes durable together. */
export interface Group {
  /** Resolves when everything in the group is durable and in the index. */
  readonly done: Promise<void>;
  /** Why everything in it was lost, from the moment on at which it was. */
  readonly failure: NarborError | undefined;
}

class OpenGroup implements Group {
  readonly done: Promise<void>;
  readonly blocks: Promise<IndexedBlock>[] = [];
  readonly chunkKeys: string[] = [];
  bytes = 0;
  rows = 0;
  failure: NarborError | undefined;
  resolve!: () => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Whoever wrote into the group hears of its failure by waiting for it; that no one does yet is no fault.
    this.done.catch(() => undefined);
  }
}

export class PackWriter implements AsyncDisposable {
  readonly #index: IndexDatabase;
  readonly #openAppender: () => PackAppender;
  #appender: PackAppender;
  #group = new OpenGroup();
  /** Chunks that are written and not yet in the index, by digest, and the group they will come with. */
  readonly #pendingChunks = new Map<string, OpenGroup>();
  readonly #chunkBytes = new ByteWriter(BLOCK_BYTES);
  #chunkEntries: ChunkEntry[] = [];
  /** Whether the open block is a piece of an archive, and whether the archive's last chunk went there. */
  #hasFraming = false;
  #isContinued = false;
  readonly #recordBytes = new ByteWriter();
  #records: StoreRecord[] = [];
  #commitWanted = false;
  #committing: Promise<void> | undefined;
  #closed = false;

  constructor(index: IndexDatabase, openAppender: () => PackAppender) {
    this.#index = index;
    this.#openAppender = openAppender;
    this.#appender = openAppender();
  }

  /**
   * Write a chunk unless it is there or on its way. Undefined when it is durable already. The bytes must not change afterwards.
   *
   * @param framing what stands in an archive between the chunk that came before, of those that are not empty, and this one
   */
  addChunk(digest: B3Digest, bytes: Uint8Array, framing?: Uint8Array): Group | undefined {
    this.#checkOpen();
    const key = digestKey(digest);
    const pending = this.#pendingChunks.get(key);
    if (pending !== undefined || this.#index.hasChunk(digest)) {
      if (bytes.length > 0) this.#isContinued = false;
      return pending;
    }
    const group = this.#group;
    this.#pendingChunks.set(key, group);
    group.chunkKeys.push(key);
    const entry = { digest: toB3Digest(copyBytes(digest)), length: bytes.length };
    if (bytes.length >= LARGE_CHUNK_BYTES) {
      group.blocks.push(this.#appender.append({ kind: "chunks", raw: bytes, isOurs: false, chunks: [entry], records: [] }));
      this.#isContinued = false;
    } else this.#addToBlock(entry, bytes, framing);
    this.#count(group, entry.length);
    return group;
  }

  #addToBlock(entry: ChunkEntry, bytes: Uint8Array, framing: Uint8Array | undefined): void {
    const isContinued = this.#isContinued && framing !== undefined;
    const length = this.#chunkBytes.length;
    if (length + bytes.length + (framing?.length ?? 0) > BLOCK_BYTES || (this.#hasFraming && !isContinued && bytes.length > 0 && length >= MIN_RUN_BYTES)) this.#sealChunks();
    if (framing !== undefined) {
      this.#chunkBytes.writeBytes(framing);
      this.#chunkEntries.push({ digest: toB3Digest(blake3(framing)), length: framing.length, isFraming: true });
      this.#hasFraming = true;
    }
    this.#chunkBytes.writeBytes(bytes);
    this.#chunkEntries.push(entry);
    if (bytes.length > 0) this.#isContinued = true;
  }

  /** Write a record. */
  addRecord(record: StoreRecord): Group {
    this.#checkOpen();
    const group = this.#group;
    const before = this.#recordBytes.length;
    writeRecord(this.#recordBytes, record);
    this.#records.push(record);
    const added = this.#recordBytes.length - before;
    if (this.#recordBytes.length >= BLOCK_BYTES) this.#sealRecords();
    this.#count(group, added);
    return group;
  }

  /** Wait while too much is on its way to the disk. */
  async ready(): Promise<void> {
    await this.#appender.ready();
  }

  /** Make a group durable and wait for it. @throws NarborError when any of it was lost */
  async commit(group: Group): Promise<void> {
    this.#startCommit(group);
    await group.done;
  }

  /** End the commits that are under way; what no one asked to commit is lost. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#committing;
    await this.#fail([this.#group], new NarborError("ERR_CLOSED", "The store is closed"));
  }

  #checkOpen(): void {
    if (this.#closed) throw new NarborError("ERR_CLOSED", "The store is closed");
  }

  #count(group: OpenGroup, bytes: number): void {
    group.bytes += bytes;
    group.rows++;
    if (group.bytes >= GROUP_BYTES || group.rows >= GROUP_ROWS) this.#startCommit(group);
  }

  #startCommit(group: Group): void {
    // One that is not open any more is being committed or was.
    if (group !== this.#group) return;
    this.#commitWanted = true;
    this.#committing ??= this.#commitGroups();
  }

  async #commitGroups(): Promise<void> {
    while (this.#commitWanted) {
      // Whoever is about to write in this turn of the event loop shares the commit.
      await new Promise((resolve) => setImmediate(resolve));
      this.#commitWanted = false;
      this.#sealRecords();
      this.#sealChunks();
      const group = this.#group;
      this.#group = new OpenGroup();
      try {
        this.#appender.flush();
        const blocks = await Promise.all(group.blocks);
        await this.#appender.sync();
        this.#index.addBlocks(blocks);
        for (const key of group.chunkKeys) this.#pendingChunks.delete(key);
        group.resolve();
      } catch (error) {
        await this.#fail([group, this.#group], toStoreError("Cannot write to the store", error));
      }
    }
    // In the same turn as the last look at `#commitWanted`, so that no wish falls between.
    this.#committing = undefined;
  }

  #sealChunks(): void {
    if (this.#chunkEntries.length === 0) return;
    const block = { kind: "chunks", raw: this.#chunkBytes.take(), isOurs: true, chunks: this.#chunkEntries, records: [] } as const;
    this.#group.blocks.push(this.#appender.append(block));
    this.#chunkEntries = [];
    this.#hasFraming = false;
  }

  #sealRecords(): void {
    if (this.#records.length === 0) return;
    // Records speak of chunks written before them: a pack that was cut off anywhere must not hold the one without the other.
    this.#sealChunks();
    const block = { kind: "records", raw: this.#recordBytes.take(), isOurs: true, chunks: [], records: this.#records } as const;
    this.#group.blocks.push(this.#appender.append(block));
    this.#records = [];
  }

  /** Give up what is not durable, in one turn, so that whatever is written next goes to a group and a pack that have seen no fault. */
  async #fail(groups: readonly OpenGroup[], error: NarborError): Promise<void> {
    this.#group = new OpenGroup();
    this.#chunkBytes.clear();
    this.#chunkEntries = [];
    this.#hasFraming = false;
    this.#recordBytes.clear();
    this.#records = [];
    for (const group of groups) {
      for (const key of group.chunkKeys) this.#pendingChunks.delete(key);
      group.failure = error;
      group.reject(error);
    }
    const broken = this.#appender;
    this.#appender = this.#openAppender();
    await broken.abandon().catch(() => undefined);
  }
}

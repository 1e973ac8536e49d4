/**
 * Everything that is written to a store goes through here, in order.
 *
 * Chunks fill an open block, records another; full blocks are appended to a pack. What is written belongs to a *group*, and a commit makes the
 * open group durable: write what is left of it, sync the pack, then take it into the index. While that runs the next group fills, so imports that
 * come together share a commit. After any fault everything that is not yet durable fails together, and the pack is left behind.
 */
import { copyBytes } from "../../bytes/collect.ts";
import { ByteWriter } from "../../bytes/byte-writer.ts";
import { LentMemory } from "../../bytes/lent-memory.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, toB3Digest } from "../../castore/digest.ts";
import { NarborError } from "../../errors.ts";
import { BlockBuilder, LARGE_CHUNK_BYTES } from "../../store/block-builder.ts";
import type { IndexDatabase, IndexedBlock } from "./index-database.ts";
import type { IndexThread } from "./index-thread.ts";
import type { CompressedBlock, PackAppender } from "./pack-appender.ts";
import type { StoreRecord } from "./record-format.ts";
import { writeRecord } from "./record-format.ts";
import { toStoreError } from "./system-error.ts";

/** Records share a block of about this many bytes before compression. */
const RECORD_BLOCK_BYTES = 512 * 1024;
/** A group that holds this much is committed though no one asks yet, which bounds its transaction and what it keeps in memory. */
const GROUP_BYTES = 64 * 1024 * 1024;
const GROUP_ROWS = 4096;
/** What a record counts for each of its bytes: unlike a chunk's, they are kept until the group is in the index, and once more by the thread that takes it in. */
const RECORD_WEIGHT = 16;
/** More rows than so many are taken into the index by a thread of their own: on this one, the event loop would stand still for more than a few milliseconds. */
const ROWS_HERE = 512;

/** Where a chunk comes from. */
export interface ChunkOrigin {
  /** What stands in an archive between the chunk that came before, of those that are not empty, and this one. */
  readonly framing?: Uint8Array | undefined;
  /** Whether it was cut here, and not by someone else who may cut in other places. @default false */
  readonly isCut?: boolean;
}

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

  get isFull(): boolean {
    return this.bytes >= GROUP_BYTES || this.rows >= GROUP_ROWS;
  }

  forgetContents(): void {
    this.blocks.length = 0;
    this.chunkKeys.length = 0;
  }
}

export class PackWriter implements AsyncDisposable {
  readonly #index: IndexDatabase;
  readonly #indexThread: IndexThread;
  readonly #openAppender: () => PackAppender;
  #appender: PackAppender;
  #group = new OpenGroup();
  /** Chunks that are written and not yet in the index, by digest, and the group they will come with. */
  readonly #pendingChunks = new Map<string, OpenGroup>();
  readonly #openBlock = new BlockBuilder();
  readonly #recordBytes = new ByteWriter();
  #records: StoreRecord[] = [];
  #written = 0;
  /** Who waits for a group that is not full. */
  readonly #waiting: (() => void)[] = [];
  #commitWanted = false;
  #committing: Promise<void> | undefined;
  #closed = false;

  constructor(index: IndexDatabase, indexThread: IndexThread, openAppender: () => PackAppender) {
    this.#index = index;
    this.#indexThread = indexThread;
    this.#openAppender = openAppender;
    this.#appender = openAppender();
  }

  /**
   * Write a chunk unless it is there or on its way. Undefined when it is durable already. The bytes are copied.
   */
  addChunk(digest: B3Digest, bytes: Uint8Array, { framing, isCut = false }: ChunkOrigin = {}): Group | undefined {
    this.#checkOpen();
    this.#written++;
    const key = digestKey(digest);
    const pending = this.#pendingChunks.get(key);
    if (pending !== undefined || this.#index.hasChunk(digest)) {
      if (bytes.length > 0) this.#openBlock.skip();
      return pending;
    }
    const group = this.#claim(key);
    const entry = { digest: toB3Digest(copyBytes(digest)), length: bytes.length };
    if (bytes.length >= LARGE_CHUNK_BYTES) {
      group.blocks.push(this.#appender.append({ kind: "chunks", raw: LentMemory.copyOf(bytes), chunks: [entry], records: [], isCut }));
      this.#openBlock.skip();
    } else {
      if (this.#openBlock.isFullFor(bytes.length, framing)) this.#sealChunks();
      this.#openBlock.add(entry, bytes, framing);
    }
    this.#count(group, entry.length, 1);
    return group;
  }

  /** The next small chunk is not what follows the last one in an archive. */
  interrupt(): void {
    this.#written++;
    this.#openBlock.skip();
  }

  /** Another number when anything was written to blocks of chunks meanwhile, or the last archive was interrupted. */
  get written(): number {
    return this.#written;
  }

  /** Write a block that someone else has made of chunks, as it is. Undefined, and not written, when some of them are there or on their way. */
  addBlock(block: CompressedBlock): Group | undefined {
    this.#checkOpen();
    const keys = block.chunks.filter(({ isFraming }) => isFraming !== true).map(({ digest }) => digestKey(digest));
    const isNew = new Set(keys).size === keys.length && block.chunks.every(({ digest, isFraming }) => isFraming === true || !this.#isKnown(digest));
    if (!isNew) return undefined;
    const group = this.#group;
    for (const key of keys) this.#claim(key);
    group.blocks.push(this.#appender.appendCompressed(block));
    this.#count(group, block.rawLength, block.chunks.length);
    return group;
  }

  #isKnown(digest: B3Digest): boolean {
    return this.#pendingChunks.has(digestKey(digest)) || this.#index.hasChunk(digest);
  }

  /**
   * Write those of a block's chunks that are not there or on their way.
   *
   * @param content the chunks' bytes, one behind the other
   */
  addChunks(chunks: readonly ChunkEntry[], content: Uint8Array): readonly (Group | undefined)[] {
    const groups: (Group | undefined)[] = [];
    let offset = 0;
    let framing: Uint8Array | undefined;
    for (const { digest, length, isFraming } of chunks) {
      const bytes = content.subarray(offset, offset + length);
      offset += length;
      if (isFraming !== true) groups.push(this.addChunk(digest, bytes, { framing }));
      framing = isFraming === true ? bytes : undefined;
    }
    return groups;
  }

  /** A chunk that is going to be written with the open group. */
  #claim(key: string): OpenGroup {
    this.#pendingChunks.set(key, this.#group);
    this.#group.chunkKeys.push(key);
    return this.#group;
  }

  /** Write a record. */
  addRecord(record: StoreRecord): Group {
    this.#checkOpen();
    const group = this.#group;
    const before = this.#recordBytes.length;
    writeRecord(this.#recordBytes, record);
    this.#records.push(record);
    const added = this.#recordBytes.length - before;
    if (this.#recordBytes.length >= RECORD_BLOCK_BYTES) this.#sealRecords();
    this.#count(group, RECORD_WEIGHT * added, 1);
    return group;
  }

  /** Wait while too much is on its way to the disk, or to the index: while one group is taken in, the next may be filled, and not more. */
  async ready(): Promise<void> {
    await this.#appender.ready();
    while (this.#committing !== undefined && this.#group.isFull) await new Promise<void>((resolve) => this.#waiting.push(resolve));
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

  #count(group: OpenGroup, bytes: number, rows: number): void {
    group.bytes += bytes;
    group.rows += rows;
    if (group.isFull) this.#startCommit(group);
  }

  #openGroup(): void {
    this.#group = new OpenGroup();
    for (const resume of this.#waiting.splice(0)) resume();
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
      this.#openGroup();
      try {
        this.#appender.flush();
        const blocks = await Promise.all(group.blocks);
        await this.#appender.sync();
        await this.#addToIndex(blocks);
        for (const key of group.chunkKeys) this.#pendingChunks.delete(key);
        group.resolve();
        // Whoever writes for hours keeps its groups until the end, and need not keep what was in them.
        group.forgetContents();
      } catch (error) {
        await this.#fail([group, this.#group], toStoreError("Cannot write to the store", error));
      }
    }
    // In the same turn as the last look at `#commitWanted`, so that no wish falls between.
    this.#committing = undefined;
  }

  /** In order: the index says up to where it has taken a pack in. */
  async #addToIndex(blocks: readonly IndexedBlock[]): Promise<void> {
    const rows = blocks.reduce((sum, { chunks, records }) => sum + chunks.length + records.length, 0);
    if (rows <= ROWS_HERE) {
      this.#index.addBlocks(blocks);
      return;
    }
    await this.#indexThread.add(blocks);
    this.#index.refresh();
  }

  #sealChunks(): void {
    const block = this.#openBlock.take();
    if (block === undefined) return;
    this.#group.blocks.push(this.#appender.append({ ...block, kind: "chunks", records: [] }));
  }

  #sealRecords(): void {
    if (this.#records.length === 0) return;
    // Records speak of chunks written before them: a pack that was cut off anywhere must not hold the one without the other.
    this.#sealChunks();
    const block = { kind: "records", raw: LentMemory.copyOf(this.#recordBytes.view()), chunks: [], records: this.#records } as const;
    this.#recordBytes.clear();
    this.#group.blocks.push(this.#appender.append(block));
    this.#records = [];
  }

  /** Give up what is not durable, in one turn, so that whatever is written next goes to a group and a pack that have seen no fault. */
  async #fail(groups: readonly OpenGroup[], error: NarborError): Promise<void> {
    this.#openGroup();
    this.#openBlock.clear();
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

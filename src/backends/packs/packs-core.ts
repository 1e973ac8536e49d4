import type { BlockCompression } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { Semaphore } from "../../concurrency/semaphore.ts";
import { NarborError } from "../../errors.ts";
import type { IndexDatabase } from "./index-database.ts";
import type { IndexThread } from "./index-thread.ts";
import type { PackFiles } from "./pack-files.ts";
import type { Group, PackWriter } from "./pack-writer.ts";

/** What the services of one open store share. */
export class PacksCore {
  /** The store's. */
  readonly directory: string;
  readonly index: IndexDatabase;
  readonly indexThread: IndexThread;
  readonly files: PackFiles;
  readonly writer: PackWriter;
  readonly compression: BlockCompression;
  readonly #turns = new Semaphore(1);
  readonly #packNames = new Map<number, string>();
  #closed = false;

  constructor(directory: string, { index, indexThread, files, writer, compression }: Pick<PacksCore, "index" | "indexThread" | "files" | "writer" | "compression">) {
    this.directory = directory;
    this.index = index;
    this.indexThread = indexThread;
    this.files = files;
    this.writer = writer;
    this.compression = compression;
  }

  /** To be called first by every method of every service. @throws the signal's reason; NarborError ERR_CLOSED */
  check(options: CallOptions | undefined): void {
    if (this.#closed) throw new NarborError("ERR_CLOSED", "The store is closed");
    options?.signal?.throwIfAborted();
  }

  /** Do synchronous work that takes milliseconds when it is its turn: a thousand who come at once leave the event loop its turns. */
  async inTurn<T>(work: () => T, options: CallOptions | undefined): Promise<T> {
    const release = await this.#turns.acquire(1, options?.signal);
    try {
      this.check(options);
      const result = work();
      await nextTurn();
      return result;
    } finally {
      release();
    }
  }

  close(): void {
    this.#closed = true;
  }

  /** The file name of a pack. @throws NarborError ERR_DATA_LOSS */
  packName(id: number): string {
    const known = this.#packNames.get(id);
    if (known !== undefined) return known;
    // Another process may have begun it since we last looked.
    for (const pack of this.index.packs()) this.#packNames.set(pack.id, pack.name);
    const name = this.#packNames.get(id);
    if (name === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot find pack ${id} in the index`);
    return name;
  }
}

/** What becomes of what was written: it is waited for at once, or with the piece of work that it belongs to. */
export interface WriteSink {
  /**
   * To be called in the same turn in which a record is written that speaks of what was written before.
   *
   * @param groups what this call wrote before it
   * @throws NarborError when that, or an earlier write of this piece of work, was lost
   */
  check(groups?: Iterable<Group | undefined>): void;
  settle(groups: Iterable<Group | undefined>): Promise<void>;
}

/** Every write is durable when its call returns. */
export class DurableSink implements WriteSink {
  readonly #writer: PackWriter;

  constructor(writer: PackWriter) {
    this.#writer = writer;
  }

  check(groups: Iterable<Group | undefined> = []): void {
    checkGroups(groups);
  }

  async settle(groups: Iterable<Group | undefined>): Promise<void> {
    const distinct = [...new Set(groups)].filter((group) => group !== undefined);
    await Promise.all(distinct.map((group) => this.#writer.commit(group)));
  }
}

/** Writes are waited for together, by `commit`. */
export class WorkSink implements WriteSink {
  readonly #writer: PackWriter;
  /** Those that are under way, and those that were lost. */
  readonly #groups = new Set<Group>();

  constructor(writer: PackWriter) {
    this.#writer = writer;
  }

  check(groups: Iterable<Group | undefined> = []): void {
    checkGroups(this.#groups);
    checkGroups(groups);
  }

  async settle(groups: Iterable<Group | undefined>): Promise<void> {
    for (const group of groups) {
      if (group === undefined || this.#groups.has(group)) continue;
      this.#groups.add(group);
      group.done.then(
        () => this.#groups.delete(group),
        () => undefined,
      );
    }
    await this.#writer.ready();
    this.check();
  }

  async commit(): Promise<void> {
    await Promise.all([...this.#groups].map((group) => this.#writer.commit(group)));
    this.check();
  }
}

function checkGroups(groups: Iterable<Group | undefined>): void {
  for (const group of groups) if (group?.failure !== undefined) throw group.failure;
}

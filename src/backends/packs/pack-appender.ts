/**
 * Appends blocks to packs of this process, in order: compressed side by side off the main thread, written one after another.
 * A pack that has grown large is closed and another begun. After a fault it is of no more use: `abandon` it.
 */
import { randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { open, unlink } from "node:fs/promises";
import { availableParallelism } from "node:os";
import pLimit from "p-limit";
import { shrinkZstd } from "../../compression/zstd.ts";
import type { IndexDatabase, IndexedBlock } from "./index-database.ts";
import type { BlockKind, ChunkEntry } from "./pack-format.ts";
import { encodeBlockHeader, PACK_HEADER } from "./pack-format.ts";
import type { PackFiles } from "./pack-files.ts";
import type { StoreRecord } from "./record-format.ts";

/** How blocks are compressed: a zstd level, or not at all. */
export type BlockCompression = number | "none";

/** A block to be written. */
export interface NewBlock {
  readonly kind: BlockKind;
  /** Its bytes, in a buffer of their own that no one else uses any more. */
  readonly raw: Uint8Array<ArrayBuffer>;
  readonly chunks: readonly ChunkEntry[];
  readonly records: readonly StoreRecord[];
}

/** Bytes of blocks waiting to be compressed or written, beyond which writers are to wait. */
const BACKLOG_BYTES = 16 * 1024 * 1024;
/** A pack that has reached this is closed and another begun. */
const PACK_BYTES = 1024 * 1024 * 1024;

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
  readonly #compression: BlockCompression;
  readonly #compressors = pLimit(availableParallelism());
  #pack: OpenPack | undefined;
  /** The block that was appended last; each is written after the one before it. */
  #last: Promise<unknown> = Promise.resolve();
  #backlog = 0;
  #waiting: (() => void)[] = [];

  constructor(files: PackFiles, index: IndexDatabase, compression: BlockCompression) {
    this.#files = files;
    this.#index = index;
    this.#compression = compression;
  }

  /** Append a block; resolves when it is written, which is not yet durable. After one has failed, so do all that follow. */
  append({ raw, ...block }: NewBlock): Promise<IndexedBlock> {
    const { length } = raw;
    this.#backlog += length;
    const compressed = this.#compressors(() => (this.#compression === "none" ? raw : shrinkZstd(raw, this.#compression)));
    const before = this.#last;
    const written = Promise.all([compressed, before])
      .then(([stored]) => this.#write(block, length, stored))
      .finally(() => {
        this.#backlog -= length;
        for (const resume of this.#waiting.splice(0)) resume();
      });
    // A commit waits for it; until then a rejection must not count as unhandled.
    written.catch(() => undefined);
    this.#last = written;
    return written;
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
    await this.#last.catch(() => undefined);
    const pack = this.#pack;
    this.#pack = undefined;
    if (pack === undefined) return;
    await pack.handle.close();
    // On a full disk every try would otherwise leave a file behind.
    if (pack.end === PACK_HEADER.length) await unlink(pack.path);
  }

  async #write({ kind, chunks, records }: Omit<NewBlock, "raw">, rawLength: number, stored: Uint8Array): Promise<IndexedBlock> {
    const codec = stored.length < rawLength ? "zstd" : "stored";
    const header = encodeBlockHeader({ kind, codec, count: chunks.length + records.length, rawLength }, chunks, stored);
    if (this.#pack !== undefined && this.#pack.end >= PACK_BYTES) await this.#finishPack(this.#pack);
    const pack = (this.#pack ??= await this.#beginPack());
    const offset = pack.end;
    const length = header.length + stored.length;
    await writeFully(pack.handle, [header, stored], offset);
    pack.end += length;
    return { pack: pack.id, offset, length, chunks, records };
  }

  async #beginPack(): Promise<OpenPack> {
    // Names sort by time, so that the packs are read again in about the order in which they were written.
    const name = `${Date.now().toString(16).padStart(12, "0")}-${randomBytes(6).toString("hex")}.pack`;
    const path = this.#files.path(name);
    const handle = await open(path, "wx");
    try {
      await writeFully(handle, [PACK_HEADER], 0);
      await syncDirectory(this.#files.path("."));
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

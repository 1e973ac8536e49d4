/**
 * The pack files of a store, for reading: blocks by their place, decompressed and kept for a while, and whole packs from end to end.
 */
import type { FileHandle } from "node:fs/promises";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { LentMemory } from "../../bytes/lent-memory.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import { decompressZstd, openZstd, readZstd } from "../../compression/zstd.ts";
import { isNarborError, NarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { BlockHeader } from "./pack-format.ts";
import {
  BLOCK_HEADER_LENGTH,
  BLOCK_MAGIC,
  blockLength,
  checkBlockHeader,
  chunksOf,
  decodeBlockHeader,
  PACK_HEADER,
  tableLength,
} from "./pack-format.ts";
import { toStoreError } from "./system-error.ts";

/** Bytes of decompressed blocks kept for the next reader. */
const CACHE_BYTES = 64 * 1024 * 1024;
/** A block's header and table are in as many, most likely: 900 chunks. */
const TABLE_READ_BYTES = 32 * 1024;
/** Pack files kept open. */
const MAX_OPEN_FILES = 64;
/** How much is read at once while looking for the next good block after a bad one. */
const SCAN_BYTES = 1024 * 1024;

const PACK_SUFFIX = ".pack";

/** A block as it lies in a pack, found by reading the pack from end to end. */
export type ScannedBlock =
  | { readonly type: "block"; readonly offset: number; readonly end: number; readonly header: BlockHeader; readonly chunks: readonly ChunkEntry[]; readonly stored: Uint8Array }
  /** Bytes that are no good block, up to the next good one or the pack's end. `torn` when nothing good follows: a write that was cut off, most likely. */
  | { readonly type: "damage"; readonly offset: number; readonly end: number; readonly torn: boolean };

/** What a block says that it holds. */
export interface BlockTable {
  readonly header: BlockHeader;
  readonly chunks: readonly ChunkEntry[];
}

/** A block that was read by its place. */
export interface StoredBlock {
  readonly header: BlockHeader;
  /** What is in it, as it lies in the pack. */
  readonly stored: LentMemory;
}

interface OpenFile {
  readonly handle: Promise<FileHandle>;
  /** Reads under way. */
  readers: number;
}

export class PackFiles implements AsyncDisposable {
  readonly #directory: string;
  readonly #open = new Map<string, OpenFile>();
  readonly #cache = new Map<string, { readonly bytes: Promise<Uint8Array>; size: number }>();
  #cachedBytes = 0;

  /** @param directory where the packs are */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Where a pack of that name is. */
  path(name: string): string {
    return join(this.#directory, name);
  }

  /** Names and sizes of all packs, in the order in which they were begun. */
  async list(): Promise<readonly { readonly name: string; readonly size: number }[]> {
    const names = (await readdir(this.#directory)).filter((name) => name.endsWith(PACK_SUFFIX)).sort();
    return await Promise.all(names.map(async (name) => ({ name, size: (await stat(this.path(name))).size })));
  }

  /**
   * The bytes of a block before compression. They are not verified here: whoever takes a chunk out of them checks its digest.
   *
   * @throws NarborError ERR_DATA_LOSS when there is no such block
   */
  readBlock(name: string, offset: number, length: number): Promise<Uint8Array> {
    const key = `${name}:${offset}`;
    const cached = this.#cache.get(key);
    if (cached !== undefined) {
      // Last in the map is last to go.
      this.#cache.delete(key);
      this.#cache.set(key, cached);
      return cached.bytes;
    }
    const bytes = this.#loadBlock(name, offset, length).then((content) => content.bytes);
    const entry = { bytes, size: 0 };
    this.#cache.set(key, entry);
    bytes.then(
      ({ length: size }) => {
        entry.size = size;
        this.#cachedBytes += size;
        this.#evict();
      },
      () => this.#cache.delete(key),
    );
    return bytes;
  }

  /** A block's bytes as they lie in the pack, verified to be those that were written. @throws NarborError ERR_DATA_LOSS */
  async readStored(name: string, offset: number, length: number): Promise<StoredBlock> {
    const block = await this.#readStored(name, offset, length);
    checkDigest(name, offset, block);
    return block;
  }

  /**
   * Blocks that lie one behind the other, with these headers, in one go.
   *
   * @param room bytes to leave free before them in memory
   * @returns what is in each, as it lies in the pack, verified; all of it in `memory`
   * @throws NarborError ERR_DATA_LOSS
   */
  async readRun(name: string, offset: number, headers: readonly BlockHeader[], room: number): Promise<{ readonly memory: LentMemory; readonly stored: readonly Uint8Array[] }> {
    const memory = LentMemory.lend(headers.reduce((sum, header) => sum + blockLength(header), room));
    const bytes = memory.bytes.subarray(room);
    await this.#readInto(bytes, name, offset);
    let end = 0;
    const stored = headers.map((header) => {
      const start = end;
      end += blockLength(header);
      const content = bytes.subarray(end - header.storedLength, end);
      if (!equalBytes(blake3(content), header.storedDigest)) throw damaged(name, offset + start, "its bytes are not those that were stored");
      return content;
    });
    return { memory, stored };
  }

  /** A block's bytes before compression, verified to be those of the block with that header. @throws NarborError ERR_DATA_LOSS */
  async readVerified(name: string, offset: number, header: BlockHeader): Promise<LentMemory> {
    const { codec, rawLength, storedLength, storedDigest } = header;
    const length = blockLength(header);
    if (codec === "stored") {
      const { memory } = await this.readRun(name, offset, [header], 0);
      memory.narrow(length - storedLength, length);
      checkStored(name, offset, header, memory.bytes);
      return memory;
    }
    return await this.#withFile(name, async ({ fd }) => {
      try {
        return await readZstd({ fd, position: offset + length - storedLength, length: storedLength, digest: storedDigest }, rawLength);
      } catch (error) {
        if (!isNarborError(error) || error.code === "ERR_UNAVAILABLE") throw error;
        throw damaged(name, offset, error.code === "ERR_DATA_LOSS" ? error.message : "it cannot be decompressed", error);
      }
    });
  }

  /** A block's bytes before compression, not verified, and what it is: as it lies in the pack, where that is a frame. @throws as `readBlock` */
  async openBlock(name: string, offset: number, length: number): Promise<StoredBlock & { readonly bytes: Uint8Array }> {
    const { header, prefix, stored } = await this.#readStored(name, offset, length);
    if (!checkBlockHeader(prefix)) throw damaged(name, offset, "its header is damaged");
    if (header.codec === "stored") return { header, stored, bytes: checkStored(name, offset, header, stored.bytes) };
    const content = await decompressStored(name, offset, openZstd(stored, header.rawLength));
    return { header, stored, bytes: content.bytes };
  }

  /** A block's table, verified, without what is in the block. @throws NarborError ERR_DATA_LOSS */
  async readTable(name: string, offset: number, length: number): Promise<BlockTable> {
    let bytes = await this.#read(name, offset, Math.min(length, TABLE_READ_BYTES));
    const header = decodeBlockHeader(bytes);
    if (header === undefined || blockLength(header) !== length) throw damaged(name, offset, "its header is damaged");
    const end = BLOCK_HEADER_LENGTH + tableLength(header);
    if (end > bytes.length) bytes = await this.#read(name, offset, end);
    const prefix = bytes.subarray(0, end);
    if (!checkBlockHeader(prefix)) throw damaged(name, offset, "its header is damaged");
    return { header, chunks: chunksOf(header, prefix) };
  }

  async #loadBlock(name: string, offset: number, length: number): Promise<LentMemory> {
    const { header, stored } = await this.#readStored(name, offset, length);
    if (header.codec === "zstd") return await decompressStored(name, offset, decompressZstd(stored, header.rawLength));
    checkStored(name, offset, header, stored.bytes);
    return stored;
  }

  /** A block, and what stands before what is in it, which is in the same memory. */
  async #readStored(name: string, offset: number, length: number): Promise<StoredBlock & { readonly prefix: Uint8Array }> {
    const stored = LentMemory.lend(length);
    const { bytes } = stored;
    await this.#readInto(bytes, name, offset);
    const header = decodeBlockHeader(bytes);
    if (header === undefined || blockLength(header) !== length) throw damaged(name, offset, "its header is damaged");
    stored.narrow(length - header.storedLength, length);
    return { header, prefix: bytes.subarray(0, length - header.storedLength), stored };
  }

  /** Everything in a pack from `start` on, good and bad. Stored bytes are checked; a file that is too short for a header is torn. */
  async *scan(name: string, start: number): AsyncGenerator<ScannedBlock, void, undefined> {
    const { size } = await stat(this.path(name));
    let offset = start;
    if (start < PACK_HEADER.length) {
      const header = await this.#read(name, 0, Math.min(size, PACK_HEADER.length));
      if (!equalBytes(header, PACK_HEADER)) yield { type: "damage", offset: 0, end: header.length, torn: size < PACK_HEADER.length };
      offset = PACK_HEADER.length;
    }
    while (offset < size) {
      const block = await this.#scanBlock(name, offset, size);
      if (block !== undefined) {
        yield block;
        offset = block.end;
        continue;
      }
      const next = await this.#findBlock(name, offset + 1, size);
      yield { type: "damage", offset, end: next ?? size, torn: next === undefined };
      offset = next ?? size;
    }
  }

  /** The bytes of a scanned block before compression. @throws NarborError ERR_DATA_LOSS */
  async decode(name: string, block: ScannedBlock & { type: "block" }): Promise<Uint8Array> {
    const { offset, header, stored } = block;
    if (header.codec === "stored") return checkStored(name, offset, header, stored);
    return (await decompressStored(name, offset, decompressZstd(LentMemory.copyOf(stored), header.rawLength))).bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    this.#cache.clear();
    await Promise.allSettled(files.map(async ({ handle }) => await (await handle).close()));
  }

  async #scanBlock(name: string, offset: number, size: number): Promise<(ScannedBlock & { type: "block" }) | undefined> {
    if (offset + BLOCK_HEADER_LENGTH > size) return undefined;
    const header = decodeBlockHeader(await this.#read(name, offset, BLOCK_HEADER_LENGTH));
    if (header === undefined) return undefined;
    const end = offset + blockLength(header);
    if (end > size) return undefined;
    const bytes = await this.#read(name, offset, end - offset);
    const prefix = bytes.subarray(0, BLOCK_HEADER_LENGTH + tableLength(header));
    const stored = bytes.subarray(prefix.length);
    if (!checkBlockHeader(prefix) || !equalBytes(blake3(stored), header.storedDigest)) return undefined;
    const chunks = header.kind === "chunks" ? chunksOf(header, prefix) : [];
    if (header.kind === "chunks" && chunks.reduce((sum, { length: bytesOfChunk }) => sum + bytesOfChunk, 0) !== header.rawLength) return undefined;
    return { type: "block", offset, end, header, chunks, stored };
  }

  async #findBlock(name: string, from: number, size: number): Promise<number | undefined> {
    for (let start = from; start < size; ) {
      const bytes = Buffer.from(await this.#read(name, start, Math.min(SCAN_BYTES, size - start)));
      for (let at = bytes.indexOf(BLOCK_MAGIC); at >= 0; at = bytes.indexOf(BLOCK_MAGIC, at + 1)) {
        if ((await this.#scanBlock(name, start + at, size)) !== undefined) return start + at;
      }
      // The magic may lie across two reads.
      const step = bytes.length - BLOCK_MAGIC.length + 1;
      if (start + bytes.length >= size) return undefined;
      start += step;
    }
    return undefined;
  }

  async #read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(length);
    await this.#readInto(bytes, name, offset);
    return bytes;
  }

  async #readInto(bytes: Uint8Array, name: string, offset: number): Promise<void> {
    await this.#withFile(name, async (handle) => await readFully(handle, name, offset, bytes));
  }

  /** The file stays open until `read` has ended. */
  async #withFile<T>(name: string, read: (handle: FileHandle) => Promise<T>): Promise<T> {
    const file = this.#acquire(name);
    try {
      return await read(await file.handle);
    } catch (error) {
      if (typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT") {
        throw new NarborError("ERR_DATA_LOSS", `Cannot read pack "${name}": it is not there`, { cause: error });
      }
      throw toStoreError(`Cannot read pack "${name}"`, error);
    } finally {
      file.readers--;
    }
  }

  #acquire(name: string): OpenFile {
    let file = this.#open.get(name);
    if (file === undefined) {
      this.#closeIdle();
      const handle = open(this.path(name), "r");
      handle.catch(() => this.#open.delete(name));
      file = { handle, readers: 0 };
    }
    file.readers++;
    // Last in the map is last to be closed.
    this.#open.delete(name);
    this.#open.set(name, file);
    return file;
  }

  #closeIdle(): void {
    for (const [name, file] of this.#open) {
      if (this.#open.size < MAX_OPEN_FILES) return;
      if (file.readers > 0) continue;
      this.#open.delete(name);
      file.handle.then((handle) => handle.close()).catch(() => undefined);
    }
  }

  #evict(): void {
    for (const [key, entry] of this.#cache) {
      if (this.#cachedBytes <= CACHE_BYTES) break;
      if (entry.size === 0) continue;
      this.#cache.delete(key);
      this.#cachedBytes -= entry.size;
    }
  }
}

async function readFully(handle: FileHandle, name: string, offset: number, bytes: Uint8Array): Promise<void> {
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, offset + filled);
    if (bytesRead === 0) throw damaged(name, offset, "the file is too short");
    filled += bytesRead;
  }
}

function checkDigest(name: string, offset: number, { header, stored }: StoredBlock): void {
  if (!equalBytes(blake3(stored.bytes), header.storedDigest)) throw damaged(name, offset, "its bytes are not those that were stored");
}

function checkStored(name: string, offset: number, header: BlockHeader, stored: Uint8Array): Uint8Array {
  if (stored.length !== header.rawLength) throw damaged(name, offset, "its lengths do not agree");
  return stored;
}

async function decompressStored(name: string, offset: number, decompressing: Promise<LentMemory>): Promise<LentMemory> {
  try {
    return await decompressing;
  } catch (error) {
    throw damaged(name, offset, "it cannot be decompressed", error);
  }
}

function damaged(name: string, offset: number, what: string, cause?: unknown): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read the block at byte ${offset} of pack "${name}": ${what}`, { cause });
}

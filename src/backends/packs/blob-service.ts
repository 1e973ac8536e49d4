import type { BlobBlock, BlockPart, ChunkEntry, WantedBlob } from "../../castore/blob-block.ts";
import type { BlobRef, BlobService, BlobStat, PutOptions, ReadOptions, SmallBlob } from "../../castore/blob-service.ts";
import type { BlockWriter } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { HashedContent } from "../../castore/hashed-content.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, formatDigest, toB3Digest } from "../../castore/digest.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { concatBytes, copyBytes } from "../../bytes/collect.ts";
import type { FramedBytes, StreamPiece } from "../../bytes/framed-bytes.ts";
import { bytesOf } from "../../bytes/framed-bytes.ts";
import { rawFrame } from "../../compression/zstd-frame.ts";
import { isSingleZstdFrame, USUAL_WINDOW_BYTES } from "../../compression/zstd-frames.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { mapConcurrent } from "../../concurrency/map-concurrent.ts";
import { NarborError } from "../../errors.ts";
import { blake3, createBlake3 } from "../../hash/blake3.ts";
import { cutBlob, cutStream, isCutBefore, MAX_CHUNK_LENGTH, MIN_CHUNK_LENGTH } from "../../hash/fastcdc.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { PacksBlockWriter } from "./block-writer.ts";
import type { ChunkLocation } from "./index-database.ts";
import { LARGE_CHUNK_BYTES } from "../../store/block-builder.ts";
import type { BlockCut } from "./pack-format.ts";
import { CHUNK_ROW_LENGTH } from "./chunk-table.ts";
import { BLOCK_HEADER_LENGTH } from "./pack-format.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";
import { addSplitBlob } from "./split-blob.ts";

/** Digests looked up before the event loop gets a turn. */
const LOOKUPS_PER_TURN = 1024;
/** Small blobs that are written before others have their turn: one to two milliseconds. */
const BLOBS_PER_TURN = 256;
/** Blocks of one blob that are read at once. */
const CHUNKS_AHEAD = 4;
/** Small blobs that are looked up and read at once; most of them share a few blocks. */
const BLOBS_AHEAD = 64;

/** Blobs that are looked up together before they are read. */
const BLOBS_PER_LOOKUP = 256;
/** The same of blobs that are given in blocks, of which several hundred may be in one. */
const WANTED_PER_LOOKUP = 1024;

/** A block that some chunks are wanted of. */
interface WantedBlock {
  readonly location: ChunkLocation;
  readonly chunks: WantedChunk[];
  /** Bytes that are wanted. */
  size: number;
}

interface WantedChunk {
  readonly digest: B3Digest;
  readonly location: ChunkLocation;
  /** Which of the blobs that are wanted it belongs to, and where it begins in it. */
  readonly blob: number;
  readonly blobOffset: number;
}

/** A blob that was cut, and which of those that are wanted it is. */
interface WantedSplitBlob {
  readonly blob: number;
  readonly pieces: readonly ChunkEntry[];
}

/** A chunk that was read, and how it lies. */
interface OpenedChunk extends FramedBytes {
  readonly cut: BlockCut | undefined;
}

/** A blob, and where it lies, unless it was cut into chunks or is not here. */
interface LocatedBlob extends BlobRef {
  readonly location: ChunkLocation | undefined;
}

export class PacksBlobService implements BlobService {
  readonly blockWriter: BlockWriter;
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
    this.blockWriter = new PacksBlockWriter(core, sink, this);
  }

  async findMissing(digests: readonly B3Digest[], options?: CallOptions): Promise<readonly B3Digest[]> {
    this.#core.check(options);
    const missing = new Map<string, B3Digest>();
    for (let offset = 0; offset < digests.length; offset += LOOKUPS_PER_TURN) {
      if (offset > 0) {
        await nextTurn();
        this.#core.check(options);
      }
      for (const digest of digests.slice(offset, offset + LOOKUPS_PER_TURN)) if (!this.#core.index.hasBlob(digest)) missing.set(digestKey(digest), digest);
    }
    return [...missing.values()];
  }

  async stat(digest: B3Digest, options?: CallOptions): Promise<BlobStat | undefined> {
    this.#core.check(options);
    if (this.#core.index.hasChunk(digest)) return { chunks: [] };
    const chunks = this.#core.index.splitBlob(digest);
    return chunks === undefined ? undefined : { chunks: chunks.map(({ digest: chunk, length }) => ({ digest: chunk, size: length })) };
  }

  async putMany(blobs: readonly SmallBlob[], options?: CallOptions): Promise<void> {
    this.#core.check(options);
    this.#sink.check();
    const groups = new Set<Group | undefined>();
    let { written } = this.#core.writer;
    // Others may have written since the archive's last blobs came.
    this.#core.writer.interrupt();
    for (const [index, { digest, bytes, framing }] of blobs.entries()) {
      if (index > 0 && index % BLOBS_PER_TURN === 0) {
        await nextTurn();
        this.#core.check(options);
        if (this.#core.writer.written !== written) this.#core.writer.interrupt();
      }
      if (bytes.length <= MIN_CHUNK_LENGTH) groups.add(this.#core.writer.addChunk(digest, bytes, { framing, isCut: true }));
      else this.#core.writer.interrupt();
      ({ written } = this.#core.writer);
    }
    for (const { digest, bytes } of blobs) {
      if (bytes.length <= MIN_CHUNK_LENGTH) continue;
      const cut = [...cutBlob(bytes)];
      // One that is a chunk itself has been hashed.
      if (cut.length === 1) groups.add(this.#core.writer.addChunk(digest, bytes, { isCut: true }));
      else addSplitBlob(this.#core, this.#sink, { digest, chunks: cut.map((chunk) => this.#addChunk(chunk, groups)), groups });
      // Larger ones are what fills the way to the disk.
      await this.#core.writer.ready();
      options?.signal?.throwIfAborted();
    }
    await this.#sink.settle(groups);
  }

  async put(content: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<B3Digest> {
    using hashed = new HashedContent(abortable(content, options?.signal), options?.digest);
    this.#core.check(options);
    this.#sink.check();
    const groups = new Set<Group | undefined>();
    const chunks: ChunkEntry[] = [];
    for await (const chunk of cutStream(hashed.bytes)) {
      chunks.push(this.#addChunk(chunk, groups));
      await this.#core.writer.ready();
    }
    if (chunks.length === 0) chunks.push(this.#addChunk(new Uint8Array(0), groups));
    const digest = hashed.digest();
    addSplitBlob(this.#core, this.#sink, { digest, chunks, groups });
    await this.#sink.settle(groups);
    return digest;
  }

  async openRead(digest: B3Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    this.#core.check(options);
    const chunks = this.#chunksOf(digest);
    if (chunks === undefined) return undefined;
    const isWhole = (options?.start ?? 0) === 0 && options?.end === undefined;
    const bytes = this.#read(chunks, options);
    // Each chunk is verified; that they are the blob's, all of them and in order, only the whole can show.
    return isWhole && chunks.length > 1 ? verified(bytes, digest) : bytes;
  }

  async *readMany(blobs: Iterable<BlobRef> | AsyncIterable<BlobRef>, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    this.#core.check(options);
    // What comes bit by bit is looked up one by one: no one is to wait for those that are still to come.
    const located = Symbol.asyncIterator in blobs ? this.#locateEach(abortable(blobs, options?.signal)) : this.#locateAll(blobs);
    for await (const bytes of mapConcurrent(located, BLOBS_AHEAD, (blob) => this.#readWhole(blob, options))) {
      this.#core.check(options);
      yield bytes;
    }
  }

  async *readChunks({ digest, size }: BlobRef, level: number, options?: CallOptions): AsyncGenerator<FramedBytes, void, undefined> {
    this.#core.check(options);
    const chunks = this.#chunksOf(digest);
    if (chunks === undefined) throw notStored(digest);
    const found = sumOfLengths(chunks);
    if (found !== size) throw otherLength({ digest, size }, found);
    // A client may have sent an empty one behind the last.
    const pieces = chunks.filter(({ length }) => length > 0);
    const cut = asCut(mapConcurrent(pieces, CHUNKS_AHEAD, (chunk) => this.#openChunk(chunk, level, options)));
    yield* pieces.length <= 1 ? cut : verified(cut, digest);
  }

  async *readBlocks(blobs: Iterable<WantedBlob>, options?: CallOptions): AsyncGenerator<BlobBlock, void, undefined> {
    this.#core.check(options);
    const iterator = blobs[Symbol.iterator]();
    for (let count = 0; ; count += WANTED_PER_LOOKUP) {
      const group: WantedBlob[] = [];
      while (group.length < WANTED_PER_LOOKUP) {
        const next = iterator.next();
        if (next.done === true) break;
        group.push(next.value);
      }
      if (group.length === 0) return;
      const places = await this.#core.inTurn(() => this.#findWanted(group, count), options);
      for (const wanted of this.#wantedBlocks(places)) {
        this.#core.check(options);
        yield await this.#readWanted(wanted);
      }
    }
  }

  /**
   * The blocks that they lie in, each once, and the blobs that were cut, in the order of need.
   *
   * @param count of the blobs that were wanted before these
   */
  #findWanted(blobs: readonly WantedBlob[], count: number): readonly (WantedBlock | WantedSplitBlob)[] {
    const blocks = new Map<string, WantedBlock>();
    const places: (WantedBlock | WantedSplitBlob)[] = [];
    for (const [index, { digest, size }] of blobs.entries()) {
      const blob = count + index;
      const location = this.#core.index.chunk(digest);
      const pieces = this.#chunksOf(digest, location);
      if (pieces === undefined) throw notStored(digest);
      const found = sumOfLengths(pieces);
      if (size !== undefined && size !== found) throw otherLength({ digest, size }, found);
      if (location === undefined) {
        places.push({ blob, pieces });
        continue;
      }
      const key = `${location.pack}:${location.blockOffset}`;
      let block = blocks.get(key);
      if (block === undefined) {
        block = { location, chunks: [], size: 0 };
        blocks.set(key, block);
        places.push(block);
      }
      block.chunks.push({ digest, location, blob, blobOffset: 0 });
      block.size += found;
    }
    return places;
  }

  /** A piece of a blob that was cut is looked up when it is its turn: there may be any number of them. */
  *#wantedBlocks(places: readonly (WantedBlock | WantedSplitBlob)[]): Generator<WantedBlock, void, undefined> {
    for (const place of places) {
      if ("chunks" in place) {
        yield place;
        continue;
      }
      let blobOffset = 0;
      for (const { digest, length } of place.pieces) {
        const location = this.#locateChunk(digest);
        yield { location, chunks: [{ digest, location, blob: place.blob, blobOffset }], size: length };
        blobOffset += length;
      }
    }
  }

  /** A block as it is stored or, where they are fewer bytes, the chunks that are wanted of it. */
  async #readWanted({ location: { pack, blockOffset, blockLength }, chunks, size }: WantedBlock): Promise<BlobBlock> {
    // Its table is at least as long as that.
    if (blockLength - BLOCK_HEADER_LENGTH - chunks.length * CHUNK_ROW_LENGTH <= size) {
      const { header, stored } = await this.#core.files.readStored(this.#core.packName(pack), blockOffset, blockLength);
      const parts = chunks.map(({ blob, blobOffset, location: { offset, length } }) => ({ blob, blobOffset, offset, length }));
      return { codec: header.codec, bytes: stored.bytes, size: header.rawLength, parts };
    }
    const pieces: Uint8Array[] = [];
    const parts: BlockPart[] = [];
    let end = 0;
    for (const { digest, location, blob, blobOffset } of chunks) {
      const bytes = await this.#readAt(location, digest);
      pieces.push(bytes);
      parts.push({ blob, blobOffset, offset: end, length: bytes.length });
      end += bytes.length;
    }
    return { codec: "stored", bytes: concatBytes(pieces), size: end, parts };
  }

  async *#locateEach(blobs: AsyncIterable<BlobRef>): AsyncGenerator<LocatedBlob, void, undefined> {
    for await (const blob of blobs) yield this.#locate(blob);
  }

  *#locateAll(blobs: Iterable<BlobRef>): Generator<LocatedBlob, void, undefined> {
    const iterator = blobs[Symbol.iterator]();
    try {
      for (;;) {
        const group: BlobRef[] = [];
        for (let next = iterator.next(); next.done !== true; next = iterator.next()) if (group.push(next.value) === BLOBS_PER_LOOKUP) break;
        if (group.length === 0) return;
        this.#core.check(undefined);
        yield* group.map((blob) => this.#locate(blob));
      }
    } finally {
      iterator.return?.();
    }
  }

  #locate(blob: BlobRef): LocatedBlob {
    return { ...blob, location: this.#core.index.chunk(blob.digest) };
  }

  /** What a blob was cut into, or itself, where it is a chunk; undefined when it is not stored. */
  #chunksOf(digest: B3Digest, location = this.#core.index.chunk(digest)): readonly ChunkEntry[] | undefined {
    return location === undefined ? this.#core.index.splitBlob(digest) : [{ digest, length: location.length }];
  }

  #addChunk(bytes: Uint8Array, groups: Set<Group | undefined>): ChunkEntry {
    const entry = { digest: toB3Digest(blake3(bytes)), length: bytes.length };
    groups.add(this.#core.writer.addChunk(entry.digest, bytes, { isCut: true }));
    return entry;
  }

  async #readWhole({ digest, size, location }: LocatedBlob, options: CallOptions | undefined): Promise<Uint8Array> {
    this.#core.check(options);
    const chunks = this.#chunksOf(digest, location);
    if (chunks === undefined) throw notStored(digest);
    const found = sumOfLengths(chunks);
    if (found !== size) throw otherLength({ digest, size }, found);
    if (location !== undefined) return await this.#readAt(location, digest);
    const bytes = concatBytes(await Promise.all(chunks.map((chunk) => this.#readChunk(chunk.digest, options))));
    if (!equalBytes(blake3(bytes), digest)) throw otherBlob(digest);
    return bytes;
  }

  async *#read(chunks: readonly ChunkEntry[], options: ReadOptions | undefined): AsyncGenerator<Uint8Array, void, undefined> {
    const start = options?.start ?? 0;
    const end = options?.end ?? Number.MAX_SAFE_INTEGER;
    const wanted: { readonly digest: B3Digest; readonly from: number; readonly to: number }[] = [];
    let offset = 0;
    for (const { digest, length } of chunks) {
      if (offset < end && offset + length > start) {
        wanted.push({ digest, from: Math.max(0, start - offset), to: Math.min(length, end - offset) });
      }
      offset += length;
    }
    const readPart = async ({ digest, from, to }: (typeof wanted)[number]): Promise<Uint8Array> => (await this.#readChunk(digest, options)).subarray(from, to);
    for await (const bytes of mapConcurrent(wanted, CHUNKS_AHEAD, readPart)) {
      this.#core.check(options);
      yield bytes;
    }
  }

  /** A chunk's bytes, verified. */
  async #readChunk(digest: B3Digest, options: CallOptions | undefined): Promise<Uint8Array> {
    this.#core.check(options);
    return await this.#readAt(this.#locateChunk(digest), digest);
  }

  /** The same, and the frame that it lies in. */
  async #openChunk({ digest, length }: ChunkEntry, level: number, options: CallOptions | undefined): Promise<OpenedChunk> {
    this.#core.check(options);
    const location = this.#locateChunk(digest);
    // Among others in a block, which is read once for all of them.
    if (length < LARGE_CHUNK_BYTES) return { bytes: await this.#readAt(location, digest), frame: undefined, cut: undefined };
    const { pack, blockOffset, blockLength, offset } = location;
    const { header, stored, bytes: block } = await this.#core.files.openBlock(this.#core.packName(pack), blockOffset, blockLength);
    const bytes = this.#check(block.subarray(offset, offset + length), location, digest);
    // What is no chunk of ours, whatever is said of it, is cut and compressed anew.
    const isChunk = header.cut !== undefined && header.count === 1 && header.rawLength === bytes.length && bytes.length <= MAX_CHUNK_LENGTH;
    if (!isChunk) return { bytes, frame: undefined, cut: undefined };
    const isFrame = header.cut.level === level && (header.codec === "stored" || isSingleZstdFrame(stored.bytes, USUAL_WINDOW_BYTES));
    return { bytes, frame: isFrame ? (header.codec === "zstd" ? stored.bytes : rawFrame(bytes)) : undefined, cut: header.cut };
  }

  #locateChunk(digest: B3Digest): ChunkLocation {
    const location = this.#core.index.chunk(digest);
    if (location === undefined) throw lost(digest, "it is not in the index");
    return location;
  }

  async #readAt(location: ChunkLocation, digest: B3Digest): Promise<Uint8Array> {
    const { pack, blockOffset, blockLength, offset, length } = location;
    const block = await this.#core.files.readBlock(this.#core.packName(pack), blockOffset, blockLength);
    return this.#check(block.subarray(offset, offset + length), location, digest);
  }

  #check(bytes: Uint8Array, { pack }: ChunkLocation, digest: B3Digest): Uint8Array {
    if (!equalBytes(blake3(bytes), digest)) throw lost(digest, `its bytes in pack "${this.#core.packName(pack)}" are not those that were stored`);
    return bytes;
  }
}

/**
 * Chunks of a blob, in its order, as it is cut everywhere: as they lie, up to one of which it is not known that it is one. Whoever sent it may have cut the blob in
 * other places, or put it together from pieces of others.
 */
async function* asCut(chunks: AsyncGenerator<OpenedChunk, void, undefined>): AsyncGenerator<FramedBytes, void, undefined> {
  try {
    let [chunk, next] = [await chunks.next(), await chunks.next()];
    for (; chunk.done !== true; [chunk, next] = [next, await chunks.next()]) {
      const { bytes, frame, cut } = chunk.value;
      const behind = next.done === true ? undefined : next.value.bytes[0];
      const isCut = (cut !== undefined || bytes.length <= MIN_CHUNK_LENGTH) && (behind === undefined || isCutBefore(bytes, behind));
      if (!isCut) return yield* cutAnew([chunk, next].flatMap(({ value }) => value?.bytes ?? []), chunks);
      yield { bytes, frame };
    }
  } finally {
    await chunks.return();
  }
}

async function* cutAnew(first: readonly Uint8Array[], others: AsyncIterable<OpenedChunk>): AsyncGenerator<FramedBytes, void, undefined> {
  async function* all(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* first;
    for await (const { bytes } of others) yield bytes;
  }
  for await (const bytes of cutStream(all())) yield { bytes: copyBytes(bytes), frame: undefined };
}

/** The same pieces, the last of them held back until all together have that digest. */
async function* verified<T extends StreamPiece>(pieces: AsyncIterable<T>, digest: B3Digest): AsyncGenerator<T, void, undefined> {
  const hasher = createBlake3();
  let held: T | undefined;
  try {
    for await (const piece of pieces) {
      if (held !== undefined) yield held;
      hasher.update(bytesOf(piece));
      held = piece;
    }
    if (!equalBytes(hasher.digest(), digest)) throw otherBlob(digest);
    if (held !== undefined) yield held;
  } finally {
    hasher.discard();
  }
}

function sumOfLengths(chunks: readonly ChunkEntry[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}

function notStored(digest: B3Digest): NarborError {
  return new NarborError("ERR_NOT_FOUND", `Cannot read blob ${formatDigest(digest)}: it is not stored`);
}

function otherLength({ digest, size }: BlobRef, found: number): NarborError {
  return new NarborError("ERR_NOT_FOUND", `Cannot read blob ${formatDigest(digest)}: it has ${found} bytes, not ${size}`);
}

function otherBlob(digest: B3Digest): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read blob ${formatDigest(digest)}: the chunks in the index are not its own`);
}

function lost(digest: B3Digest, what: string): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read chunk ${formatDigest(digest)}: ${what}`);
}

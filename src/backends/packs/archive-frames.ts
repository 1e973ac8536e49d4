/** Blocks as frames of archives: a block that holds what an archive holds at some place, and nothing else, is given away as it lies in its pack. */
import { concatBytes, copyBytes } from "../../bytes/collect.ts";
import type { LentMemory } from "../../bytes/lent-memory.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { ArchiveFrames, ArchivePart, StoredFrame } from "../../castore/archive-frames.ts";
import type { BlobRef } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import type { Segment } from "../../castore/recipe.ts";
import { segmentLength } from "../../castore/recipe.ts";
import { rawFrame, rawFrameLength } from "../../compression/zstd-frame.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { ChunkLocation } from "./index-database.ts";
import type { BlockHeader } from "./pack-format.ts";
import { blockLength } from "./pack-format.ts";
import type { BlockTable } from "./pack-files.ts";
import type { PacksCore } from "./packs-core.ts";

/** Files that are looked at before the event loop gets a turn. */
const FILES_PER_TURN = 256;
/** What stands between two files is looked at in one piece up to here; no block holds a longer one. */
const MAX_GAP_BYTES = 64 * 1024;
/** Pieces that are not in stored frames. Each takes some hundred bytes as long as the archive is known. */
const MAX_BETWEEN_PIECES = 65_536;
/** Tables of blocks that are kept for when the archive comes back to them; one may have some thousand rows. */
const MAX_TABLES = 4;
const NO_BYTES = new Uint8Array(0);

export class PacksArchiveFrames implements ArchiveFrames {
  readonly #core: PacksCore;

  constructor(core: PacksCore) {
    this.#core = core;
  }

  async lay(segments: Iterable<Uint8Array | BlobRef>, maxBetween: number, options?: CallOptions): Promise<readonly ArchivePart[] | undefined> {
    this.#core.check(options);
    const layout = new Layout(this.#core);
    let gap: Uint8Array[] = [];
    let gapBytes = 0;
    let untilTurn = FILES_PER_TURN;
    for (const segment of segments) {
      if (untilTurn-- === 0) {
        await nextTurn();
        this.#core.check(options);
        untilTurn = FILES_PER_TURN;
      }
      if (segment instanceof Uint8Array) {
        gap.push(segment);
        gapBytes += segment.length;
        if (gapBytes <= MAX_GAP_BYTES) continue;
        layout.addBytes(concatBytes(gap));
      } else {
        if (segment.size === 0) continue;
        await layout.addBlob(gap.length === 0 ? NO_BYTES : concatBytes(gap), segment);
      }
      gap = [];
      gapBytes = 0;
      if (layout.betweenBytes > maxBetween || layout.betweenPieces > MAX_BETWEEN_PIECES) return undefined;
    }
    layout.addBytes(concatBytes(gap));
    return layout.finish();
  }

  async read(pieces: readonly (StoredFrame | Uint8Array)[], options?: CallOptions): Promise<LentMemory> {
    this.#core.check(options);
    const ours = pieces.map(ourPiece);
    const frames = ours.filter((piece) => piece instanceof PackFrame);
    const [first] = frames;
    if (first === undefined || frames.some((frame, index) => index > 0 && !frame.isBehind(frames[index - 1] as PackFrame))) {
      throw new TypeError("Only frames that lie one behind the other are read in one go");
    }
    const { memory, stored } = await this.#core.files.readRun(this.#core.packName(first.pack), first.offset, frames.map(({ header }) => header), roomBefore(ours));
    const contents = stored.values();
    let end = 0;
    for (const piece of ours) {
      memory.bytes.set(piece instanceof PackFrame ? frameOf(piece, contents.next().value as Uint8Array) : piece, end);
      end += piece.length;
    }
    memory.narrow(0, end);
    return memory;
  }
}

function ourPiece(piece: StoredFrame | Uint8Array): PackFrame | Uint8Array {
  if (piece instanceof Uint8Array || piece instanceof PackFrame) return piece;
  throw new TypeError("The frame is another store's");
}

function frameOf({ header }: PackFrame, stored: Uint8Array): Uint8Array {
  return header.codec === "zstd" ? stored : rawFrame(stored);
}

/** A block, as far as an archive goes along with it. */
interface Run {
  readonly frame: PackFrame;
  readonly rows: readonly ChunkEntry[];
  next: number;
  /** What of the archive it holds up to there. */
  readonly segments: Segment[];
}

interface ReadTable {
  readonly table: BlockTable;
  /** Those that are not empty. */
  readonly rows: readonly ChunkEntry[];
}

class Layout {
  readonly #core: PacksCore;
  readonly #parts: ArchivePart[] = [];
  #between: Segment[] = [];
  #run: Run | undefined;
  #betweenBytes = 0;
  #betweenPieces = 0;
  /** The last ones. */
  readonly #tables = new Map<string, ReadTable>();

  constructor(core: PacksCore) {
    this.#core = core;
  }

  get betweenBytes(): number {
    return this.#betweenBytes;
  }

  get betweenPieces(): number {
    return this.#betweenPieces;
  }

  /** What stands in no block. */
  addBytes(bytes: Uint8Array): void {
    this.#leaveRun();
    this.#addBetween(bytes);
  }

  async addBlob(gap: Uint8Array, blob: BlobRef): Promise<void> {
    if (this.#goesOn(gap, blob)) return;
    this.#leaveRun();
    const { index } = this.#core;
    const location = index.chunk(blob.digest);
    if (location !== undefined) {
      if (location.length !== blob.size) throw lost(blob, `it has ${location.length} bytes, it is said to have ${blob.size}`);
      await this.#begin(gap, blob, location);
      return;
    }
    const chunks = index.splitBlob(blob.digest);
    if (chunks === undefined) throw lost(blob, "it is not stored");
    this.#addBetween(gap);
    for (const { digest, length } of chunks) {
      const chunk = { digest, size: length };
      if (this.#goesOn(NO_BYTES, chunk)) continue;
      this.#leaveRun();
      const place = index.chunk(digest);
      if (place === undefined) throw lost(chunk, "it is not in the index");
      await this.#begin(NO_BYTES, chunk, place);
    }
  }

  finish(): readonly ArchivePart[] {
    this.#leaveRun();
    this.#endBetween();
    return this.#parts;
  }

  /** Whether the block that was begun goes on with that, too. */
  #goesOn(gap: Uint8Array, blob: BlobRef): boolean {
    const run = this.#run;
    if (run === undefined) return false;
    let { next } = run;
    if (gap.length > 0 && !isFramedBy(run.rows[next++], gap)) return false;
    const row = run.rows[next++];
    if (!holds(row, blob)) return false;
    run.next = next;
    if (gap.length > 0) run.segments.push(gap);
    run.segments.push(blob);
    this.#endRun();
    return true;
  }

  async #begin(gap: Uint8Array, blob: BlobRef, location: ChunkLocation): Promise<void> {
    // Behind other chunks already.
    if (location.offset > gap.length) {
      this.#addBetween(gap);
      this.#addBetween(blob);
      return;
    }
    const { table, rows } = await this.#readTable(location);
    const [first] = rows;
    const before = first?.isFraming === true ? first.length : 0;
    const own = gap.subarray(gap.length - before);
    // The index may be older or newer than the pack.
    const isThere = holds(before > 0 ? rows[1] : first, blob);
    if (!isThere || location.offset !== before || gap.length < before || (before > 0 && !isFramedBy(first, own))) {
      this.#addBetween(gap);
      this.#addBetween(blob);
      return;
    }
    this.#addBetween(gap.subarray(0, gap.length - before));
    this.#run = { frame: new PackFrame(this.#core, location, table), rows, next: before > 0 ? 2 : 1, segments: before > 0 ? [own, blob] : [blob] };
    this.#endRun();
  }

  /** A NAR may come back to a block as often as it has files. */
  async #readTable(location: ChunkLocation): Promise<ReadTable> {
    const key = `${location.pack}:${location.blockOffset}`;
    const known = this.#tables.get(key);
    if (known !== undefined) return known;
    const table = await this.#core.files.readTable(this.#core.packName(location.pack), location.blockOffset, location.blockLength);
    const read = { table, rows: table.chunks.filter(({ length }) => length > 0) };
    this.#tables.set(key, read);
    const [oldest] = this.#tables.keys();
    if (this.#tables.size > MAX_TABLES && oldest !== undefined) this.#tables.delete(oldest);
    return read;
  }

  /** A block that was gone along with to its end is a frame. */
  #endRun(): void {
    const run = this.#run;
    if (run === undefined || run.next < run.rows.length) return;
    this.#endBetween();
    this.#parts.push(run.frame);
    this.#run = undefined;
  }

  #leaveRun(): void {
    const run = this.#run;
    this.#run = undefined;
    for (const segment of run?.segments ?? []) this.#addBetween(segment);
  }

  #addBetween(segment: Segment): void {
    const length = segmentLength(segment);
    if (length === 0) return;
    // A digest that is part of a directory's message would keep all of it.
    this.#between.push(segment instanceof Uint8Array ? segment : { digest: toB3Digest(copyBytes(segment.digest)), size: segment.size });
    this.#betweenBytes += length;
    this.#betweenPieces++;
  }

  #endBetween(): void {
    if (this.#between.length > 0) this.#parts.push({ rawLength: this.#between.reduce((sum, segment) => sum + segmentLength(segment), 0), segments: this.#between });
    this.#between = [];
  }
}

class PackFrame implements StoredFrame {
  readonly length: number;
  readonly rawLength: number;
  readonly pack: number;
  /** Where its block is in the pack. */
  readonly offset: number;
  readonly header: BlockHeader;
  readonly #core: PacksCore;

  constructor(core: PacksCore, { pack, blockOffset }: ChunkLocation, { header }: BlockTable) {
    this.#core = core;
    this.pack = pack;
    this.offset = blockOffset;
    this.header = header;
    this.rawLength = header.rawLength;
    this.length = header.codec === "zstd" ? header.storedLength : rawFrameLength(header.rawLength);
  }

  isBehind(other: StoredFrame): boolean {
    return other instanceof PackFrame && other.pack === this.pack && other.offset + blockLength(other.header) === this.offset;
  }

  async readRaw(options?: CallOptions): Promise<LentMemory> {
    this.#core.check(options);
    return await this.#core.files.readVerified(this.#core.packName(this.pack), this.offset, this.header);
  }
}

/** Bytes that must be free before blocks that are read, so that frames and what stands between them can be moved together at the beginning, and none is overwritten. */
function roomBefore(pieces: readonly (PackFrame | Uint8Array)[]): number {
  let room = 0;
  let written = 0;
  let read = 0;
  for (const piece of pieces) {
    if (piece instanceof PackFrame) {
      const end = read + blockLength(piece.header);
      room = Math.max(room, written - (end - piece.header.storedLength));
      read = end;
    }
    written += piece.length;
  }
  return Math.max(room, written - read);
}

function holds(row: ChunkEntry | undefined, blob: BlobRef): boolean {
  return row !== undefined && row.isFraming !== true && row.length === blob.size && equalBytes(row.digest, blob.digest);
}

function isFramedBy(row: ChunkEntry | undefined, gap: Uint8Array): boolean {
  return row?.isFraming === true && row.length === gap.length && equalBytes(row.digest, blake3(gap));
}

function lost({ digest }: BlobRef, what: string): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(digest)}: ${what}`);
}

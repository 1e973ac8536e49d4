/** An archive's pieces, walked over once: for whoever puts it together and, some way ahead of that, for those who fetch its blobs. */
import type { BlobRef } from "../castore/blob-service.ts";
import type { Segment } from "../castore/recipe.ts";
import { segmentLength } from "../castore/recipe.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { Fifo } from "../concurrency/fifo.ts";
import { nextTurn } from "../concurrency/next-turn.ts";

/** What is wanted of a blob. */
export interface BlobPiece {
  readonly blob: BlobRef;
  /** First byte of the blob. */
  readonly start: number;
  /** Byte of the blob to stop before. */
  readonly end: number;
  /** Where in the archive it begins, in bytes. */
  readonly position: number;
}

/** Pieces of one blob that are read in one stream, in their order. */
export interface BlobRun {
  readonly blob: BlobRef;
  /** First byte of the first. */
  readonly start: number;
  /** Byte of the blob to stop before, after the last. */
  end: number;
  /** Where in the archive the first begins, in bytes. */
  readonly position: number;
  /** How many they are; between them there may be bytes of the blob that belong to none. */
  pieces: number;
}

/** Bytes as they are, or some of a blob's; never empty. */
export type Piece = Uint8Array | BlobPiece;

/** Pieces walked over before the event loop gets a turn. */
export const PIECES_PER_TURN = 8192;
/** The walk goes no further ahead to find blobs when the pieces that wait take about this many bytes of memory. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** Bytes of a blob that are read and not used rather than that another stream is opened behind them. */
const MAX_SKIPPED_BYTES = 256 * 1024;
/** About what a piece takes beside its bytes. */
const PIECE_OVERHEAD_BYTES = 128;

export class PieceFeed {
  readonly #segments: Iterator<Segment>;
  readonly #start: number;
  readonly #end: number;
  readonly #smallBytes: number;
  /** Where the segments that were walked over end. */
  #seen = 0;
  readonly #pieces = new Fifo<Piece>();
  #waitingBytes = 0;
  /** Blobs that no one has fetched yet. */
  readonly #small = new Fifo<BlobRef>();
  readonly #large = new Fifo<BlobRun>();
  /** The last of them. */
  #lastLarge: BlobRun | undefined;
  #lastSmall: BlobRef | undefined;

  /** Pieces outside of the range, of bytes of the archive, are not given. Blobs of more than `smallBytes` are streams of their own. */
  constructor(segments: Iterable<Segment>, { start, end, smallBytes }: { readonly start: number; readonly end: number; readonly smallBytes: number }) {
    this.#segments = segments[Symbol.iterator]();
    this.#start = start;
    this.#end = end;
    this.#smallBytes = smallBytes;
  }

  /** Walk to where the range begins. */
  async skip(signal: AbortSignal | undefined): Promise<void> {
    for (let count = 1; this.#seen <= this.#start && this.#pieces.length === 0 && this.#advance(); count++) {
      if (count % PIECES_PER_TURN !== 0) continue;
      await nextTurn();
      signal?.throwIfAborted();
    }
  }

  /** The next piece, for whoever puts the archive together. */
  next(): Piece | undefined {
    while (this.#pieces.length === 0) if (!this.#advance()) return undefined;
    const piece = this.#pieces.shift() as Piece;
    this.#waitingBytes -= memoryOf(piece);
    return piece;
  }

  /**
   * Blobs to be read together with others, in their order, each once where it follows itself, as a file with holes does. Ends early when there is none for a long
   * way: whoever asks again gets those that come after.
   */
  *smallBlobs(): Generator<BlobRef, void, undefined> {
    for (;;) {
      while (this.#small.length === 0) if (this.#waitingBytes >= MAX_WAITING_BYTES || !this.#advance()) return;
      yield this.#small.shift() as BlobRef;
    }
  }

  /**
   * The next blob that is a stream of its own, with as many pieces of it as are near; unless it begins behind `limit` or none is near. One that was given to
   * `next` is always found.
   */
  nextLarge(limit: number): BlobRun | undefined {
    while (this.#mayGrow()) if (this.#seen > limit || this.#waitingBytes >= MAX_WAITING_BYTES || !this.#advance()) break;
    const run = this.#large.peek();
    if (run === undefined || run.position > limit) return undefined;
    // What has been given does not grow.
    if (run === this.#lastLarge) this.#lastLarge = undefined;
    return this.#large.shift();
  }

  /** Whether there is none yet, or only one that has not come to its blob's end. */
  #mayGrow(): boolean {
    const run = this.#large.peek();
    return run === undefined || (run === this.#lastLarge && run.end < run.blob.size);
  }

  /** Walk over one segment more. False when there is none in the range. */
  #advance(): boolean {
    if (this.#seen >= this.#end) return false;
    const { value: segment, done } = this.#segments.next();
    if (done === true) {
      this.#seen = this.#end;
      return false;
    }
    const length = segmentLength(segment);
    const position = this.#seen;
    this.#seen += length;
    const from = Math.max(0, this.#start - position);
    const to = Math.min(length, this.#end - position);
    if (from < to) this.#add(segment, from, to, position + from);
    return true;
  }

  #add(segment: Segment, from: number, to: number, position: number): void {
    let piece: Piece;
    if (segment instanceof Uint8Array) {
      piece = segment.subarray(from, to);
    } else {
      const offset = segment.start ?? 0;
      piece = { blob: segment, start: offset + from, end: offset + to, position };
      if (segment.size > this.#smallBytes) this.#addLarge(piece);
      else if (this.#lastSmall === undefined || !isSameBlob(segment, this.#lastSmall)) this.#small.push((this.#lastSmall = segment));
    }
    this.#pieces.push(piece);
    this.#waitingBytes += memoryOf(piece);
  }

  #addLarge({ blob, start, end, position }: BlobPiece): void {
    const run = this.#lastLarge;
    if (run !== undefined && start >= run.end && start - run.end <= MAX_SKIPPED_BYTES && isSameBlob(blob, run.blob)) {
      run.end = end;
      run.pieces++;
      return;
    }
    this.#large.push((this.#lastLarge = { blob, start, end, position, pieces: 1 }));
  }
}

export function isSameBlob(a: BlobRef, b: BlobRef): boolean {
  return a.size === b.size && equalBytes(a.digest, b.digest);
}

function memoryOf(piece: Piece): number {
  return (piece instanceof Uint8Array ? piece.length : 0) + PIECE_OVERHEAD_BYTES;
}

/** Archives of any kind from the pieces that they are made of. */
import { copyBytes } from "../bytes/collect.ts";
import type { FramedBytes, StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import type { BlobRef, BlobService } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import type { Segment } from "../castore/recipe.ts";
import { segmentLength } from "../castore/recipe.ts";
import { mapItems } from "../concurrency/map-items.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import type { ErrorCode } from "../errors.ts";
import { isNarborError, NarborError } from "../errors.ts";
import { cutBlob, cutStream, MIN_CHUNK_LENGTH } from "../hash/fastcdc.ts";
import type { BlobPiece, BlobRun } from "./piece-feed.ts";
import { isSameBlob, PieceFeed, PIECES_PER_TURN } from "./piece-feed.ts";

/** An archive that can be rendered: everything it needs was there when it was planned. */
export interface RenderPlan {
  /** Bytes. */
  readonly size: number;
  /** Its pieces in order; the same whenever it is asked. */
  segments(): Iterable<Segment>;
}

/** Where contents are read from. */
export type ReadBlobs = Pick<BlobService, "findMissing" | "openRead" | "readMany" | "readChunks">;

export interface RenderOptions extends CallOptions {
  /** First byte to give. @default 0 */
  readonly start?: number;
  /** Byte to stop before. @default the archive's end */
  readonly end?: number;
}

/** Small pieces are gathered into arrays of about this many bytes. */
const GATHER_BYTES = 256 * 1024;
/** A piece from this size on is given as it is. */
const PASS_BYTES = 64 * 1024;
/** Blobs asked for in one call. */
const DIGESTS_PER_CALL = 65_536;
/** A large blob is asked for this many bytes before its place, so that no round trip is waited for; who takes bytes very slowly leaves a stream unread no longer. */
const OPEN_AHEAD_BYTES = 4 * 1024 * 1024;

/**
 * Look up all blobs that an archive needs, before anyone is promised it: one call for (every 65,536 of) them.
 *
 * @param code of the error when one is not stored
 */
export async function planSegments(segments: () => Iterable<Segment>, blobs: Pick<ReadBlobs, "findMissing">, code: ErrorCode, options?: CallOptions): Promise<RenderPlan> {
  let size = 0;
  let digests = new Map<string, B3Digest>();
  const lookUp = async (): Promise<void> => {
    const [missing] = await blobs.findMissing([...digests.values()], options);
    if (missing !== undefined) throw new NarborError(code, `Cannot render: blob ${formatDigest(missing)} is not stored`);
    digests = new Map();
  };
  let untilTurn = PIECES_PER_TURN;
  for (const segment of segments()) {
    if (untilTurn-- === 0) {
      await nextTurn();
      options?.signal?.throwIfAborted();
      untilTurn = PIECES_PER_TURN;
    }
    size += segmentLength(segment);
    if (segment instanceof Uint8Array) continue;
    digests.set(digestKey(segment.digest), segment.digest);
    if (digests.size >= DIGESTS_PER_CALL) await lookUp();
  }
  if (digests.size > 0) await lookUp();
  return { size, segments };
}

/** How contents come: whole small ones together, parts of large ones as streams. */
interface Contents<T extends StreamPiece> {
  /** A blob of more bytes is a stream of its own. */
  readonly smallBytes: number;
  /** Large ones that may wait for their turn. */
  readonly opened: number;
  /** What a small blob's bytes are given as. */
  toPieces(bytes: Uint8Array, piece: BlobPiece): Iterable<Uint8Array | T>;
  /** The bytes from the first piece's first to the last one's last. @throws NarborError */
  open(run: BlobRun, options: CallOptions): AsyncIterable<Uint8Array | T>;
}

/**
 * The bytes of a planned archive, or a range of them. Small files are read ahead, many at a time; files outside of the range are not read at all.
 *
 * @throws NarborError ERR_DATA_LOSS when a blob is not as long as was said; never ends early without an error
 */
export function renderArchive(plan: RenderPlan, { blobs }: { readonly blobs: ReadBlobs }, options: RenderOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const contents: Contents<Uint8Array> = {
    smallBytes: SMALL_BLOB_LIMIT,
    opened: 1,
    toPieces: (bytes) => [bytes],
    open: (run, callOptions) => readBlob(run, blobs, callOptions),
  };
  return renderPieces(plan, blobs, contents, options);
}

/**
 * A planned archive to be compressed to frames of zstd: contents of 128 KiB and more come in the chunks that they are cut into when they are stored, those that lie
 * in frames of that level with their frames. Which pieces are chunks depends on the plan alone.
 *
 * @throws as `renderArchive`
 */
export function renderChunks(plan: RenderPlan, { blobs }: { readonly blobs: ReadBlobs }, level: number, options: CallOptions = {}): AsyncGenerator<StreamPiece, void, undefined> {
  const contents: Contents<FramedBytes> = {
    // Where no frames lie, they are read together: each stream would be a round trip.
    smallBytes: blobs.readChunks === undefined ? SMALL_BLOB_LIMIT : MIN_CHUNK_LENGTH - 1,
    // Most are of one chunk or two.
    opened: Math.ceil(OPEN_AHEAD_BYTES / MIN_CHUNK_LENGTH),
    toPieces: (bytes, piece) => (isCut(piece) ? Array.from(cutBlob(bytes), (chunk) => ({ bytes: chunk, frame: undefined })) : [bytes]),
    open: (run, callOptions) => {
      if (run.pieces > 1 || !isCut(run)) return readBlob(run, blobs, callOptions);
      return blobs.readChunks?.(run.blob, level, callOptions) ?? mapItems(cutStream(readBlob(run, blobs, callOptions)), (chunk) => ({ bytes: copyBytes(chunk), frame: undefined }));
    },
  };
  return renderPieces(plan, blobs, contents, options);
}

async function* renderPieces<T extends StreamPiece>(plan: RenderPlan, blobs: ReadBlobs, contents: Contents<T>, options: RenderOptions): AsyncGenerator<Uint8Array | T, void, undefined> {
  const start = options.start ?? 0;
  const end = Math.min(options.end ?? plan.size, plan.size);
  const feed = new PieceFeed(plan.segments(), { start, end, smallBytes: contents.smallBytes });
  const smallBlobs = new SmallBlobs(feed, blobs, options);
  const largeBlobs = new LargeBlobs(feed, contents, options);
  const gather = new Gatherer<T>(end - start);
  try {
    await feed.skip(options.signal);
    let untilTurn = PIECES_PER_TURN;
    for (let piece = feed.next(); piece !== undefined; piece = feed.next()) {
      if (untilTurn-- === 0) {
        await nextTurn();
        options.signal?.throwIfAborted();
        untilTurn = PIECES_PER_TURN;
      }
      if (piece instanceof Uint8Array) {
        for (const ready of gather.add(piece)) yield ready;
        continue;
      }
      largeBlobs.approach(piece.position);
      if (piece.blob.size <= contents.smallBytes) {
        const bytes = smallBlobs.held(piece.blob) ?? (await smallBlobs.next(piece.blob));
        for (const part of contents.toPieces(bytes.subarray(piece.start, piece.end), piece)) for (const ready of gather.add(part)) yield ready;
        continue;
      }
      let rendered = piece.position;
      for await (const part of largeBlobs.read(piece)) {
        rendered += bytesOf(part).length;
        largeBlobs.approach(rendered);
        for (const ready of gather.add(part)) yield ready;
      }
    }
    for (const ready of gather.rest()) yield ready;
  } catch (error) {
    // All of it was there when this was planned.
    throw isNarborError(error, "ERR_NOT_FOUND") ? new NarborError("ERR_DATA_LOSS", error.message, { cause: error }) : error;
  } finally {
    await Promise.all([smallBlobs.close(), largeBlobs.close()]);
  }
}

/** A whole content that was cut when it was stored, into one chunk or more. */
function isCut({ blob, start, end }: Pick<BlobPiece, "blob" | "start" | "end">): boolean {
  return start === 0 && end === blob.size && blob.size >= MIN_CHUNK_LENGTH;
}

async function* readBlob({ blob, start, end }: BlobRun, blobs: ReadBlobs, options: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
  // Up to its end, wherever that is: it may be longer than it is said to be.
  const content = await blobs.openRead(blob.digest, { ...options, start, ...(end < blob.size && { end }), size: blob.size });
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(blob.digest)} is not stored any more`);
  yield* content;
}

const NOTHING: readonly Uint8Array[] = [];

/** Turns many small pieces into few large ones, and lets large ones pass. */
class Gatherer<T extends StreamPiece> {
  readonly #capacity: number;
  #memory: Uint8Array | undefined;
  #length = 0;

  /** @param size of all that will come, in bytes: most archives are small */
  constructor(size: number) {
    this.#capacity = Math.min(size, GATHER_BYTES + PASS_BYTES);
  }

  /** What is ready now, `piece` among it or not. */
  add(piece: Uint8Array | T): readonly (Uint8Array | T)[] {
    const bytes = bytesOf(piece);
    // The short end of a content compresses better with what follows it.
    if (piece !== bytes && bytes.length >= MIN_CHUNK_LENGTH) return [...this.rest(), piece];
    if (bytes.length >= PASS_BYTES) return [...this.rest(), bytes];
    this.#memory ??= Buffer.allocUnsafeSlow(this.#capacity);
    this.#memory.set(bytes, this.#length);
    this.#length += bytes.length;
    return this.#length >= GATHER_BYTES ? this.rest() : NOTHING;
  }

  /** What is held. */
  rest(): readonly Uint8Array[] {
    if (this.#memory === undefined) return NOTHING;
    const gathered = this.#memory.subarray(0, this.#length);
    this.#memory = undefined;
    this.#length = 0;
    return [gathered];
  }
}

/** The small blobs of an archive in their order, read ahead. */
class SmallBlobs {
  readonly #feed: PieceFeed;
  readonly #blobs: ReadBlobs;
  readonly #options: CallOptions;
  #contents: AsyncIterator<Uint8Array> | undefined;
  /** Blobs that were asked for and have not come. */
  #owed = 0;
  #held: { readonly blob: BlobRef; readonly bytes: Uint8Array } | undefined;

  constructor(feed: PieceFeed, blobs: ReadBlobs, options: CallOptions) {
    this.#feed = feed;
    this.#blobs = blobs;
    this.#options = options;
  }

  /** The bytes of the blob before, if it is this one. */
  held(blob: BlobRef): Uint8Array | undefined {
    return this.#held !== undefined && isSameBlob(this.#held.blob, blob) ? this.#held.bytes : undefined;
  }

  /** The bytes of the one that follows. */
  async next(blob: BlobRef): Promise<Uint8Array> {
    let result = await this.#contents?.next();
    // The feed ends where nothing small is near.
    if (this.#owed === 0 && (result === undefined || result.done === true)) {
      this.#contents = this.#blobs.readMany(this.#ask(), this.#options)[Symbol.asyncIterator]();
      result = await this.#contents.next();
    }
    const bytes = result === undefined || result.done === true ? undefined : result.value;
    if (bytes?.length !== blob.size) throw wrongSize(blob, bytes?.length ?? 0);
    this.#owed--;
    this.#held = { blob, bytes };
    return bytes;
  }

  async close(): Promise<void> {
    await this.#contents?.return?.();
  }

  *#ask(): Generator<BlobRef, void, undefined> {
    for (const blob of this.#feed.smallBlobs()) {
      this.#owed++;
      yield blob;
    }
  }
}

/** A large blob, or a part of it, that is opened. */
interface OpenedRun<T> {
  readonly run: BlobRun;
  /** Pieces that have not been read. */
  left: number;
  /** Where in the blob it goes on: with `rest`, and then with what comes next. */
  position: number;
  rest: Uint8Array | undefined;
  readonly content: AsyncIterator<T>;
  /** Asked for already: a stream that was never read from could not be closed. */
  next: Promise<IteratorResult<T>> | undefined;
}

/** The large blobs of an archive in their order, opened a little before their turn. */
class LargeBlobs<T extends StreamPiece> {
  readonly #feed: PieceFeed;
  readonly #contents: Contents<T>;
  readonly #options: CallOptions;
  /** The first may have been begun. */
  readonly #opened: OpenedRun<Uint8Array | T>[] = [];

  constructor(feed: PieceFeed, contents: Contents<T>, options: CallOptions) {
    this.#feed = feed;
    this.#contents = contents;
    this.#options = options;
  }

  /** The archive is rendered up to here: open those that are near. */
  approach(position: number): void {
    while (this.#waiting() < this.#contents.opened) {
      const run = this.#feed.nextLarge(position + OPEN_AHEAD_BYTES);
      if (run === undefined) return;
      const content = this.#contents.open(run, this.#options)[Symbol.asyncIterator]();
      const next = content.next();
      // Heard when it is its turn.
      next.catch(() => undefined);
      this.#opened.push({ run, left: run.pieces, position: run.start, rest: undefined, content, next });
    }
  }

  /** The bytes of the piece whose turn it is, which was approached. */
  async *read({ blob, start, end }: BlobPiece): AsyncGenerator<Uint8Array | T, void, undefined> {
    const opened = this.#opened[0] as OpenedRun<Uint8Array | T>;
    // While it is read, another may wait.
    opened.left--;
    while (opened.position < end) {
      const piece = await takePiece(opened);
      if (piece === undefined) break;
      const bytes = bytesOf(piece);
      const [from, to] = [Math.max(0, start - opened.position), Math.min(bytes.length, end - opened.position)];
      if (to < bytes.length && opened.left > 0) opened.rest = bytes.subarray(to);
      opened.position += opened.rest === undefined ? bytes.length : to;
      if (from < to) yield from === 0 && to === bytes.length ? piece : bytes.subarray(from, to);
    }
    if (opened.left > 0 && opened.position === end) return;
    if (opened.position === end && (await takePiece(opened)) !== undefined) opened.position++;
    this.#opened.shift();
    await opened.content.return?.();
    if (opened.position !== end) throw wrongSize(blob, opened.position);
  }

  /** Leave those that are open. */
  async close(): Promise<void> {
    await Promise.all(this.#opened.map(async ({ content }) => await content.return?.()));
  }

  /** Those that have not come to their last piece. */
  #waiting(): number {
    const [first] = this.#opened;
    return first === undefined || first.left > 0 ? this.#opened.length : this.#opened.length - 1;
  }
}

/** What comes next in a stream, if anything does. */
async function takePiece<T>(opened: OpenedRun<T>): Promise<T | Uint8Array | undefined> {
  const { rest, next } = opened;
  opened.rest = undefined;
  if (rest !== undefined) return rest;
  opened.next = undefined;
  const result = await (next ?? opened.content.next());
  return result.done === true ? undefined : result.value;
}

function wrongSize({ digest, size }: BlobRef, found: number): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(digest)} is ${found} bytes, it is said to have ${size}`);
}

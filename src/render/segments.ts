/** Archives of any kind from the pieces that they are made of. */
import type { BlobRef, BlobService } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import type { Segment } from "../castore/recipe.ts";
import { segmentLength } from "../castore/recipe.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import type { ErrorCode } from "../errors.ts";
import { NarborError } from "../errors.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";

/** An archive that can be rendered: everything it needs was there when it was planned. */
export interface RenderPlan {
  /** Bytes. */
  readonly size: number;
  /** Its pieces in order; the same whenever it is asked. */
  segments(): Iterable<Segment>;
}

/** Where contents are read from. */
export type ReadBlobs = Pick<BlobService, "findMissing" | "openRead" | "readMany">;

export interface RenderOptions extends CallOptions {
  /** First byte to give. @default 0 */
  readonly start?: number;
  /** Byte to stop before. @default the archive's end */
  readonly end?: number;
}

/** Small pieces are gathered into arrays of about this many bytes. */
const GATHER_BYTES = 256 * 1024;
/** Pieces walked over before the event loop gets a turn. */
const SEGMENTS_PER_TURN = 8192;
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
  let untilTurn = SEGMENTS_PER_TURN;
  for (const segment of segments()) {
    if (untilTurn-- === 0) {
      await nextTurn();
      options?.signal?.throwIfAborted();
      untilTurn = SEGMENTS_PER_TURN;
    }
    size += segmentLength(segment);
    if (segment instanceof Uint8Array) continue;
    digests.set(digestKey(segment.digest), segment.digest);
    if (digests.size >= DIGESTS_PER_CALL) await lookUp();
  }
  if (digests.size > 0) await lookUp();
  return { size, segments };
}

/**
 * The bytes of a planned archive, or a range of them. Small files are read ahead, many at a time; files outside of the range are not read at all.
 *
 * @throws NarborError ERR_DATA_LOSS when a blob is not as long as was said; never ends early without an error
 */
export async function* renderArchive(plan: RenderPlan, { blobs }: { readonly blobs: ReadBlobs }, options: RenderOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const start = options.start ?? 0;
  const end = Math.min(options.end ?? plan.size, plan.size);
  const smallBlobs = blobs.readMany(smallBlobsWithin(plan, start, end), options)[Symbol.asyncIterator]();
  const largeBlobs = new LargeBlobs(plan, blobs, { ...options, start, end });
  const gather = new Gatherer(end - start);
  let held: { readonly blob: BlobRef; readonly bytes: Uint8Array } | undefined;
  let position = 0;
  try {
    let untilTurn = SEGMENTS_PER_TURN;
    for (const segment of plan.segments()) {
      if (position >= end) break;
      if (untilTurn-- === 0) {
        await nextTurn();
        options.signal?.throwIfAborted();
        untilTurn = SEGMENTS_PER_TURN;
      }
      largeBlobs.approach(position);
      const length = segmentLength(segment);
      const from = Math.max(0, start - position);
      const to = Math.min(length, end - position);
      position += length;
      if (from >= to) continue;
      if (segment instanceof Uint8Array) {
        yield* gather.add(segment.subarray(from, to));
        continue;
      }
      const offset = segment.start ?? 0;
      if (isSmall(segment)) {
        if (held === undefined || !isSameBlob(held.blob, segment)) held = { blob: segment, bytes: await nextSmallBlob(smallBlobs, segment) };
        yield* gather.add(held.bytes.subarray(offset + from, offset + to));
        continue;
      }
      let rendered = position - length + from;
      for await (const bytes of largeBlobs.next()) {
        rendered += bytes.length;
        largeBlobs.approach(rendered);
        yield* gather.add(bytes);
      }
    }
    yield* gather.rest();
  } finally {
    await Promise.all([smallBlobs.return?.(), largeBlobs.close()]);
  }
}

/** Turns many small pieces into few large ones, and lets large ones pass. */
class Gatherer {
  readonly #bytes: ByteWriter;

  /** @param size of all that will come, in bytes: most archives are small */
  constructor(size: number) {
    this.#bytes = new ByteWriter(Math.max(1, Math.min(size, GATHER_BYTES + PASS_BYTES)));
  }

  *add(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    if (bytes.length >= PASS_BYTES) {
      yield* this.rest();
      yield bytes;
      return;
    }
    this.#bytes.writeBytes(bytes);
    if (this.#bytes.length >= GATHER_BYTES) yield* this.rest();
  }

  *rest(): Generator<Uint8Array, void, undefined> {
    if (this.#bytes.length === 0) return;
    yield this.#bytes.bytes();
    this.#bytes.clear();
  }
}

async function nextSmallBlob(smallBlobs: AsyncIterator<Uint8Array>, blob: BlobRef): Promise<Uint8Array> {
  const result = await smallBlobs.next();
  const bytes = result.done === true ? undefined : result.value;
  if (bytes?.length !== blob.size) throw wrongSize(blob, bytes?.length ?? 0);
  return bytes;
}

/** A large blob, or a part of it, that is opened. */
interface OpenedBlob {
  readonly blob: BlobRef;
  readonly start: number;
  readonly end: number;
  readonly content: AsyncIterator<Uint8Array>;
  /** Asked for already: a stream that was never read from could not be closed. */
  readonly first: Promise<IteratorResult<Uint8Array>>;
}

/** The large blobs of an archive in their order, the next of them opened a little before its turn. */
class LargeBlobs {
  readonly #blobs: ReadBlobs;
  readonly #options: CallOptions & { readonly start: number; readonly end: number };
  readonly #segments: Iterator<Segment>;
  /** Where the segments that were looked at end. */
  #seen = 0;
  #opened: OpenedBlob | undefined;

  constructor(plan: RenderPlan, blobs: ReadBlobs, options: CallOptions & { readonly start: number; readonly end: number }) {
    this.#blobs = blobs;
    this.#options = options;
    this.#segments = plan.segments()[Symbol.iterator]();
  }

  /** The archive is rendered up to here: open the next one unless it is far away, or one waits already. */
  approach(position: number): void {
    const { start, end } = this.#options;
    while (this.#opened === undefined && this.#seen < end && this.#seen <= position + OPEN_AHEAD_BYTES) {
      const { value: segment, done } = this.#segments.next();
      if (done === true) return;
      const length = segmentLength(segment);
      const from = Math.max(0, start - this.#seen);
      const to = Math.min(length, end - this.#seen);
      this.#seen += length;
      if (segment instanceof Uint8Array || isSmall(segment) || from >= to) continue;
      const offset = segment.start ?? 0;
      this.#opened = this.#open(segment, offset + from, offset + to);
    }
  }

  /** The bytes of the one that was approached, which makes room for another to wait. */
  async *next(): AsyncGenerator<Uint8Array, void, undefined> {
    const { blob, start, end, content, first } = this.#opened as OpenedBlob;
    this.#opened = undefined;
    let size = 0;
    try {
      for (let result = await first; result.done !== true; result = await content.next()) {
        size += result.value.length;
        if (size > end - start) break;
        yield result.value;
      }
    } finally {
      await content.return?.();
    }
    if (size !== end - start) throw wrongSize(blob, start + size);
  }

  /** Leave the one that waits. */
  async close(): Promise<void> {
    await this.#opened?.content.return?.();
  }

  #open(blob: BlobRef, start: number, end: number): OpenedBlob {
    const content = this.#read(blob, start, end);
    const first = content.next();
    // Heard when it is its turn.
    first.catch(() => undefined);
    return { blob, start, end, content, first };
  }

  async *#read(blob: BlobRef, start: number, end: number): AsyncGenerator<Uint8Array, void, undefined> {
    const content = await this.#blobs.openRead(blob.digest, { ...this.#options, start, end, size: blob.size });
    if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(blob.digest)} is not stored any more`);
    yield* content;
  }
}

/** A blob that follows itself, as a file with holes does in an archive, is there once. */
function* smallBlobsWithin(plan: RenderPlan, start: number, end: number): Generator<BlobRef, void, undefined> {
  let position = 0;
  let before: BlobRef | undefined;
  for (const segment of plan.segments()) {
    const length = segmentLength(segment);
    if (position >= end) return;
    if (!(segment instanceof Uint8Array) && isSmall(segment) && Math.max(position, start) < Math.min(position + length, end)) {
      if (before === undefined || !isSameBlob(before, segment)) yield segment;
      before = segment;
    }
    position += length;
  }
}

/** Whether a blob is read together with others, or as a stream of its own. */
function isSmall({ size }: BlobRef): boolean {
  return size <= SMALL_BLOB_LIMIT;
}

function isSameBlob(a: BlobRef, b: BlobRef): boolean {
  return a.size === b.size && equalBytes(a.digest, b.digest);
}

function wrongSize({ digest, size }: BlobRef, found: number): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(digest)} is ${found} bytes, it is said to have ${size}`);
}

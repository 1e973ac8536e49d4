/** Archives of any kind from the pieces that they are made of. */
import type { BlobRef, BlobService } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import type { Segment } from "../castore/recipe.ts";
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
  const gather = new Gatherer();
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
      }
      else for await (const bytes of readLarge(blobs, segment, { ...options, start: offset + from, end: offset + to })) yield* gather.add(bytes);
    }
    yield* gather.rest();
  } finally {
    await smallBlobs.return?.();
  }
}

/** Turns many small pieces into few large ones, and lets large ones pass. */
class Gatherer {
  readonly #bytes = new ByteWriter(GATHER_BYTES + PASS_BYTES);

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

async function* readLarge(blobs: ReadBlobs, blob: BlobRef, range: CallOptions & { readonly start: number; readonly end: number }): AsyncGenerator<Uint8Array, void, undefined> {
  const content = await blobs.openRead(blob.digest, range);
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(blob.digest)} is not stored any more`);
  let size = 0;
  for await (const bytes of content) {
    size += bytes.length;
    if (size > range.end - range.start) break;
    yield bytes;
  }
  if (size !== range.end - range.start) throw wrongSize(blob, range.start + size);
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

function segmentLength(segment: Segment): number {
  return segment instanceof Uint8Array ? segment.length : (segment.end ?? segment.size) - (segment.start ?? 0);
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

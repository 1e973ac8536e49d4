/**
 * NARs that lie in frames: given away as zstd streams that no one compresses, stored frames as they lie and between them frames that hold bytes as they
 * are; or as NARs, frame by frame and not file by file.
 */
import { concatBytes } from "../bytes/collect.ts";
import { LentMemory } from "../bytes/lent-memory.ts";
import type { ArchiveFrames, ArchivePart, LooseSegments, StoredFrame } from "../castore/archive-frames.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { Segment } from "../castore/recipe.ts";
import { segmentLength } from "../castore/recipe.ts";
import { MAX_SHORT_FRAME_LENGTH, rawFrameHead, SHORT_FRAME_HEAD_LENGTH } from "../compression/zstd-frame.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { blake3 } from "../hash/blake3.ts";
import { narSegments } from "./render-nar.ts";
import type { ReadBlobs, RenderOptions } from "./segments.ts";
import { renderArchive } from "./segments.ts";
import type { Tree } from "./tree.ts";

/** A NAR as it lies. */
export interface FramedNar {
  /** Where. */
  readonly frames: ArchiveFrames;
  /** Bytes as zstd frames. */
  readonly size: number;
  /** Bytes of the NAR. */
  readonly narSize: number;
  /** The same for the same bytes: in another store, or after a loss, the NAR may lie otherwise. */
  readonly layoutId: string;
  readonly parts: readonly ArchivePart[];
}

/** As zstd frames, or decompressed. */
export type FramedForm = "zstd" | "nar";

/** Frames that lie one behind the other are read, and given, together up to here: most are of some 70 KiB. */
const RUN_BYTES = 256 * 1024;
/** What stands between two frames is short, unless there is a file in it. */
const MAX_LITERAL_BYTES = 16 * 1024;
/** Runs of frames that are read ahead by one reader, and by all of the process together, as each takes up to a megabyte; one each in any case. */
const AHEAD = 4;
const AHEAD_IN_ALL = 32;

/** Renderings under way. */
let readers = 0;

/**
 * Find where a tree's NAR lies.
 *
 * @param maxBetween see `ArchiveFrames.lay`
 * @throws NarborError ERR_DATA_LOSS when something below the tree's root is not stored
 */
export async function planFramedNar(tree: Tree, frames: ArchiveFrames, maxBetween: number, options?: CallOptions): Promise<FramedNar | undefined> {
  const parts = await frames.lay(narSegments(tree), maxBetween, options);
  const sizeAs = (form: FramedForm): number => (parts ?? []).reduce((sum, part) => sum + lengthOf(part, form), 0);
  return parts && { size: sizeAs("zstd"), narSize: sizeAs("nar"), layoutId: layoutId(parts), frames, parts };
}

/**
 * The bytes of a NAR in frames, or of the NAR itself, or a range of them; frames outside of the range are not read. A piece may be looked at until the next is
 * asked for, and no longer: its memory is used again.
 *
 * @throws NarborError ERR_DATA_LOSS when a frame is not what was stored; never ends early without an error
 */
export async function* renderFramedNar({ frames, parts }: FramedNar, form: FramedForm, services: { readonly blobs: ReadBlobs }, options: RenderOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const wanted = wantedOf(parts, form, options.start ?? 0, options.end ?? Infinity);
  const ahead = (): number => Math.min(AHEAD, Math.max(1, Math.floor(AHEAD_IN_ALL / readers)));
  const opened = mapConcurrent(wanted, ahead, async ({ start, end, ...what }) => {
    if ("segments" in what) return renderArchive(what, services, { ...options, start, end });
    if ("bytes" in what) return [what.bytes.subarray(start, end)];
    const memory = "frame" in what ? await what.frame.readRaw(options) : await frames.read(what.pieces, options);
    memory.narrow(start, end);
    return memory;
  });
  readers++;
  try {
    for await (const piece of opened) {
      if (piece instanceof LentMemory) {
        yield piece.bytes;
        piece.release();
      } else yield* piece;
    }
  } finally {
    readers--;
  }
}

/** What is got in one go, and the bytes of it that are wanted. */
type Wanted = { readonly start: number; end: number } & (
  | { readonly frame: StoredFrame }
  | { readonly bytes: Uint8Array }
  | { readonly pieces: (StoredFrame | Uint8Array)[] }
  /** Of blobs. */
  | { readonly size: number; readonly segments: () => Iterable<Segment> }
);

/** Frames that lie one behind the other in storage, with what stands between them in the archive. */
interface Run {
  readonly pieces: (StoredFrame | Uint8Array)[];
  readonly start: number;
  end: number;
  /** Bytes of all pieces. */
  length: number;
  last: StoredFrame;
}

function* wantedOf(parts: readonly ArchivePart[], form: FramedForm, from: number, to: number): Generator<Wanted, void, undefined> {
  let run: Run | undefined;
  for (const { part, start, end } of partsWithin(parts, form, from, to)) {
    if (!("segments" in part) && form === "nar") {
      yield { frame: part, start, end };
      continue;
    }
    const length = lengthOf(part, form);
    const literal = "segments" in part ? literalOf(part, form) : undefined;
    const frame = "segments" in part ? undefined : part;
    if (run !== undefined && (literal !== undefined || frame?.isBehind(run.last) === true) && run.length + length <= RUN_BYTES) {
      run.pieces.push(...(frame === undefined ? (literal ?? []) : [frame]));
      run.end = run.length + end;
      run.length += length;
      run.last = frame ?? run.last;
      continue;
    }
    if (run !== undefined) yield run;
    run = undefined;
    if (frame !== undefined) run = { pieces: [frame], start, end, length, last: frame };
    else if (literal !== undefined) yield { bytes: concatBytes(literal), start, end };
    else if ("segments" in part) yield { size: length, segments: () => (form === "zstd" ? framed(part.segments) : part.segments), start, end };
  }
  if (run !== undefined) yield run;
}

/** Bytes that no blob must be read for, and not many. */
function literalOf({ rawLength, segments }: LooseSegments, form: FramedForm): readonly Uint8Array[] | undefined {
  if (rawLength > MAX_LITERAL_BYTES || !segments.every((segment) => segment instanceof Uint8Array)) return undefined;
  return form === "zstd" ? Array.from(framed(segments), (segment) => segment as Uint8Array) : segments;
}

/** Where frames begin and how long they are: zstd makes the same of the same bytes. */
function layoutId(parts: readonly ArchivePart[]): string {
  const lengths = parts.map((part) => ("segments" in part ? `-${part.rawLength}` : `${part.rawLength}:${part.length}`));
  return Buffer.from(blake3(Buffer.from(lengths.join(" ")))).toString("hex").slice(0, 32);
}

/** Those of which something is wanted, and what of each. */
function* partsWithin(parts: readonly ArchivePart[], form: FramedForm, start: number, end: number): Generator<{ readonly part: ArchivePart; readonly start: number; readonly end: number }, void, undefined> {
  let position = 0;
  for (const part of parts) {
    const length = lengthOf(part, form);
    const from = Math.max(0, start - position);
    const to = Math.min(length, end - position);
    if (from < to) yield { part, start: from, end: to };
    position += length;
    if (position >= end) return;
  }
}

function lengthOf(part: ArchivePart, form: FramedForm): number {
  if (form === "nar") return part.rawLength;
  return "segments" in part ? part.rawLength + SHORT_FRAME_HEAD_LENGTH * Math.ceil(part.rawLength / MAX_SHORT_FRAME_LENGTH) : part.length;
}

/** Pieces in frames of one block, each as long as it may be. */
function* framed(segments: readonly Segment[]): Generator<Segment, void, undefined> {
  let left = segments.reduce((sum, segment) => sum + segmentLength(segment), 0);
  let room = 0;
  for (const segment of segments) {
    const length = segmentLength(segment);
    for (let start = 0; start < length; ) {
      if (room === 0) {
        room = Math.min(left, MAX_SHORT_FRAME_LENGTH);
        yield rawFrameHead(room);
      }
      const end = Math.min(length, start + room);
      yield pieceOf(segment, start, end);
      room -= end - start;
      left -= end - start;
      start = end;
    }
  }
}

function pieceOf(segment: Segment, start: number, end: number): Segment {
  if (segment instanceof Uint8Array) return segment.subarray(start, end);
  const offset = segment.start ?? 0;
  return { ...segment, start: offset + start, end: offset + end };
}

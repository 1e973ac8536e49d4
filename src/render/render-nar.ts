import type { CallOptions } from "../castore/call-options.ts";
import { formatDigest } from "../castore/digest.ts";
import type { FileNode } from "../castore/node.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError } from "../errors.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import type { NarPlan, TreeServices } from "./nar-plan.ts";
import { isSmallFile, narSegments } from "./nar-plan.ts";

export interface RenderOptions extends CallOptions {
  /** First byte to give. @default 0 */
  readonly start?: number;
  /** Byte to stop before. @default the NAR's end */
  readonly end?: number;
}

/** Small pieces are gathered into arrays of about this many bytes. */
const GATHER_BYTES = 256 * 1024;
/** Pieces walked over before the event loop gets a turn. */
const SEGMENTS_PER_TURN = 8192;
/** A piece from this size on is given as it is. */
const PASS_BYTES = 64 * 1024;

/**
 * The bytes of a planned NAR, or a range of them. Small files are read ahead, many at a time; files outside of the range are not read at all.
 *
 * @throws NarborError ERR_DATA_LOSS when a file is not what its directory says; never ends early without an error
 */
export async function* renderNar(plan: NarPlan, services: TreeServices, options: RenderOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  const start = options.start ?? 0;
  const end = Math.min(options.end ?? plan.narSize, plan.narSize);
  const smallFiles = services.blobs.readMany(smallFilesWithin(plan, start, end), options)[Symbol.asyncIterator]();
  const gather = new Gatherer();
  let position = 0;
  try {
    let untilTurn = SEGMENTS_PER_TURN;
    for (const segment of narSegments(plan.tree)) {
      if (position >= end) break;
      if (untilTurn-- === 0) {
        await nextTurn();
        options.signal?.throwIfAborted();
        untilTurn = SEGMENTS_PER_TURN;
      }
      const length = segment instanceof Uint8Array ? segment.length : segment.size;
      const from = Math.max(0, start - position);
      const to = Math.min(length, end - position);
      position += length;
      if (from >= to) continue;
      if (segment instanceof Uint8Array) yield* gather.add(segment.subarray(from, to));
      else if (isSmallFile(segment)) yield* gather.add((await nextSmallFile(smallFiles, segment)).subarray(from, to));
      else for await (const bytes of readLargeFile(services, segment, { ...options, start: from, end: to })) yield* gather.add(bytes);
    }
    yield* gather.rest();
  } finally {
    await smallFiles.return?.();
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

async function nextSmallFile(smallFiles: AsyncIterator<Uint8Array>, file: FileNode): Promise<Uint8Array> {
  const result = await smallFiles.next();
  const bytes = result.done === true ? undefined : result.value;
  if (bytes?.length !== file.size) throw wrongSize(file, bytes?.length ?? 0);
  return bytes;
}

async function* readLargeFile(
  services: TreeServices,
  file: FileNode,
  range: CallOptions & { readonly start: number; readonly end: number },
): AsyncGenerator<Uint8Array, void, undefined> {
  const content = await services.blobs.openRead(file.digest, range);
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(file.digest)} is not stored any more`);
  let size = 0;
  for await (const bytes of content) {
    size += bytes.length;
    if (size > range.end - range.start) break;
    yield bytes;
  }
  if (size !== range.end - range.start) throw wrongSize(file, range.start + size);
}

function* smallFilesWithin(plan: NarPlan, start: number, end: number): Generator<FileNode, void, undefined> {
  let position = 0;
  for (const segment of narSegments(plan.tree)) {
    const length = segment instanceof Uint8Array ? segment.length : segment.size;
    if (position >= end) return;
    if (!(segment instanceof Uint8Array) && isSmallFile(segment) && Math.max(position, start) < Math.min(position + length, end)) yield segment;
    position += length;
  }
}

function wrongSize(file: FileNode, found: number): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot render: blob ${formatDigest(file.digest)} is ${found} bytes, its directory says ${file.size}`);
}

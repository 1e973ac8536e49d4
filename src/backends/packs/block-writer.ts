/** Blocks that a client has made: each is verified, and stored as it came. */
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { collectBytes } from "../../bytes/collect.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { BlobService } from "../../castore/blob-service.ts";
import type { BlockCompression, BlockContent, BlockWriter, WrittenBlock } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { isSingleZstdFrame } from "../../compression/zstd-frames.ts";
import { decompressZstd } from "../../compression/zstd.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError } from "../../errors.ts";
import { blake3, createBlake3 } from "../../hash/blake3.ts";
import { MIN_CHUNK_LENGTH } from "../../hash/fastcdc.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";
import { addSplitBlob } from "./split-blob.ts";

/** What level 19 asks for. Larger windows are refused by some who read the frames. */
const MAX_WINDOW_BYTES = 8 * 1024 * 1024;
/** Pieces of one blob, of 256 KiB on average: each takes some hundred bytes until the last has come. */
const MAX_PIECES = 1024 * 1024;

export class PacksBlockWriter implements BlockWriter {
  readonly compression: BlockCompression;
  readonly #core: PacksCore;
  readonly #sink: WriteSink;
  readonly #blobs: Pick<BlobService, "readMany">;

  constructor(core: PacksCore, sink: WriteSink, blobs: Pick<BlobService, "readMany">) {
    this.#core = core;
    this.#sink = sink;
    this.#blobs = blobs;
    this.compression = core.compression;
  }

  async write(blocks: AsyncIterable<WrittenBlock>, options?: CallOptions): Promise<void> {
    this.#core.check(options);
    this.#sink.check();
    const groups = new Set<Group | undefined>();
    using joined = new JoinedPieces();
    for await (const { chunks, content, piece } of abortable(blocks, options?.signal)) {
      // Whoever sends a hundred bytes that become a megabyte does not keep others waiting.
      await nextTurn();
      this.#core.check(options);
      const bytes = content === undefined ? await this.#readKnown(chunks, options) : await contentOf(content);
      checkChunks(chunks, bytes);
      for (const group of this.#addBlock(chunks, content, bytes)) groups.add(group);
      const [chunk] = chunks;
      if (piece !== undefined && chunk !== undefined) {
        joined.add(chunk, bytes);
        if (piece !== "more") addSplitBlob(this.#core, this.#sink, { digest: piece, chunks: joined.finish(piece), groups });
      } else joined.checkNone();
      await this.#core.writer.ready();
    }
    joined.checkNone();
    await this.#sink.settle(groups);
  }

  /** What is there already, but not as a chunk, since it was cut itself, becomes one. */
  #addBlock(chunks: readonly ChunkEntry[], content: BlockContent | undefined, bytes: Uint8Array): readonly (Group | undefined)[] {
    const block = { stored: content?.codec === "zstd" ? content.bytes : bytes, rawLength: bytes.length, chunks };
    return this.#core.index.lookUp(() => this.#core.writer.addBlock(block, bytes));
  }

  async #readKnown(chunks: readonly ChunkEntry[], options: CallOptions | undefined): Promise<Uint8Array> {
    return await collectBytes(this.#blobs.readMany(chunks.map(({ digest, length }) => ({ digest, size: length })), options), Number.MAX_SAFE_INTEGER, "a piece of a blob");
  }
}

/** The pieces of a blob so far. */
class JoinedPieces implements Disposable {
  #hasher: ReturnType<typeof createBlake3> | undefined;
  #chunks: ChunkEntry[] = [];

  add(chunk: ChunkEntry, bytes: Uint8Array): void {
    const before = this.#chunks.at(-1);
    if (this.#chunks.length === MAX_PIECES) throw new NarborError("ERR_LIMIT", `Cannot store a blob in pieces: there are more than ${MAX_PIECES}`);
    if (before !== undefined && before.length < MIN_CHUNK_LENGTH) {
      throw new NarborError("ERR_INVALID", `Cannot store a blob in pieces: one that is not the last has ${before.length} bytes, expected ${MIN_CHUNK_LENGTH} at least`);
    }
    this.#hasher ??= createBlake3();
    this.#hasher.update(bytes);
    this.#chunks.push(chunk);
  }

  finish(digest: B3Digest): readonly ChunkEntry[] {
    const found = this.#hasher === undefined ? undefined : toB3Digest(this.#hasher.digest());
    this[Symbol.dispose]();
    if (found === undefined || !equalBytes(found, digest)) {
      throw new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(digest)}: its pieces are ${found === undefined ? "nothing" : formatDigest(found)}`);
    }
    const chunks = this.#chunks;
    this.#chunks = [];
    return chunks;
  }

  checkNone(): void {
    if (this.#chunks.length > 0) throw new NarborError("ERR_INVALID", `Cannot store a blob in pieces: ${this.#chunks.length} came, and then something else`);
  }

  [Symbol.dispose](): void {
    this.#hasher?.discard();
    this.#hasher = undefined;
  }
}

/** @throws NarborError ERR_INVALID when it is not what whoever reads it is told, ERR_COMPRESSION_INVALID, ERR_MISMATCH */
async function contentOf({ codec, bytes, size }: BlockContent): Promise<Uint8Array> {
  if (codec === "stored") return bytes;
  if (!isSingleZstdFrame(bytes, MAX_WINDOW_BYTES)) throw new NarborError("ERR_INVALID", "Cannot store a block: it is not one zstd frame that tells its size");
  // In a thread: what broken frames leave behind there goes with it.
  return await decompressZstd(bytes, size);
}

function checkChunks(chunks: readonly ChunkEntry[], content: Uint8Array): void {
  let offset = 0;
  for (const { digest, length } of chunks) {
    const found = toB3Digest(blake3(content.subarray(offset, offset + length)));
    if (!equalBytes(found, digest)) throw new NarborError("ERR_MISMATCH", `Cannot store a block: what is said to be ${formatDigest(digest)} is ${formatDigest(found)}`);
    offset += length;
  }
}

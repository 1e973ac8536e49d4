/** Blocks that a client has made: each is verified, and stored as it came. */
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { collectBytes } from "../../bytes/collect.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { BlobService } from "../../castore/blob-service.ts";
import type { BlockCompression, BlockContent, BlockWriter, WrittenBlock } from "../../castore/block-writer.ts";
import { MAX_WRITTEN_BYTES } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { parseZstdFrameHeader } from "../../compression/zstd-frames.ts";
import { decompressZstdSync } from "../../compression/zstd.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { NarborError } from "../../errors.ts";
import { blake3, createBlake3 } from "../../hash/blake3.ts";
import { MIN_CHUNK_LENGTH } from "../../hash/fastcdc.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";
import { addSplitBlob } from "./split-blob.ts";

/** What was in the last block: it is looked at in one turn, and not kept. */
let memory: Uint8Array<ArrayBuffer> | undefined;

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
      this.#core.check(options);
      const bytes = content === undefined ? await this.#readKnown(chunks, options) : contentOf(content, chunks);
      if (content !== undefined) this.#addBlock(chunks, content, bytes, groups);
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

  #addBlock(chunks: readonly ChunkEntry[], { codec, bytes }: BlockContent, content: Uint8Array, groups: Set<Group | undefined>): void {
    const block = { stored: codec === "zstd" ? bytes : content, rawLength: content.length, chunks };
    for (const group of this.#core.index.lookUp(() => this.#core.writer.addBlock(block, content))) groups.add(group);
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
    // Each takes some hundred bytes until the last has come.
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

/** What is in a block, verified. */
function contentOf({ codec, bytes, size }: BlockContent, chunks: readonly ChunkEntry[]): Uint8Array {
  const content = codec === "zstd" ? decompressSized(bytes, size) : bytes;
  let offset = 0;
  for (const { digest, length } of chunks) {
    const found = toB3Digest(blake3(content.subarray(offset, offset + length)));
    if (!equalBytes(found, digest)) throw new NarborError("ERR_MISMATCH", `Cannot store a block: what is said to be ${formatDigest(digest)} is ${formatDigest(found)}`);
    offset += length;
  }
  return content;
}

/** Readers of archives are given the frame itself, and are told its size by it. */
function decompressSized(bytes: Uint8Array, size: number): Uint8Array {
  if (parseZstdFrameHeader(bytes).contentBytes === undefined) throw new NarborError("ERR_INVALID", "Cannot store a block: its frame does not tell its size");
  memory ??= new Uint8Array(MAX_WRITTEN_BYTES);
  return decompressZstdSync(bytes, size, memory);
}

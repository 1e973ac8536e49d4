/** Blocks that a client has made: each is verified, and stored as it came. */
import { equalBytes } from "../../bytes/compare-bytes.ts";
import { collectBytes, concatBytes } from "../../bytes/collect.ts";
import { LentMemory } from "../../bytes/lent-memory.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { BlobService } from "../../castore/blob-service.ts";
import type { BlockCompression, BlockContent, BlockWriter, WrittenBlock } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { DIGEST_LENGTH, formatDigest, toB3Digest } from "../../castore/digest.ts";
import { isSingleZstdFrame, USUAL_WINDOW_BYTES } from "../../compression/zstd-frames.ts";
import { decompressZstd, hashZstd } from "../../compression/zstd.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError } from "../../errors.ts";
import { blake3, createBlake3 } from "../../hash/blake3.ts";
import { MIN_CHUNK_LENGTH } from "../../hash/fastcdc.ts";
import type { CompressedBlock } from "./pack-appender.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";
import { addSplitBlob } from "./split-blob.ts";

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
    for await (const written of abortable(blocks, options?.signal)) {
      // Whoever sends a hundred bytes that become a megabyte does not keep others waiting.
      await nextTurn();
      this.#core.check(options);
      const block = await this.#verify(written, options);
      for (const group of await this.#add(block)) groups.add(group);
      const { chunks, piece } = written;
      const [chunk] = chunks;
      if (piece !== undefined && chunk !== undefined) {
        joined.add(chunk, await block.open());
        if (piece !== "more") addSplitBlob(this.#core, this.#sink, { digest: piece, chunks: joined.finish(piece), groups });
      } else joined.checkNone();
      await this.#core.writer.ready();
    }
    joined.checkNone();
    await this.#sink.settle(groups);
  }

  async #verify({ chunks, content, piece }: WrittenBlock, options: CallOptions | undefined): Promise<VerifiedBlock> {
    if (content?.codec === "zstd" && piece === undefined) {
      // What no one needs here stays in the thread: it would all be garbage here.
      checkFrame(content);
      checkDigests(chunks, await hashZstd(LentMemory.copyOf(content.bytes), chunks.map(({ length }) => length)));
      return { stored: content.bytes, rawLength: content.size, chunks, open: async () => await contentOf(content) };
    }
    const bytes = content === undefined ? await this.#readKnown(chunks, options) : await contentOf(content);
    checkDigests(chunks, digestsOf(chunks, bytes));
    return { stored: content?.codec === "zstd" ? content.bytes : bytes, rawLength: bytes.length, chunks, open: async () => bytes };
  }

  /** What is there already, but not as a chunk, since it was cut itself, becomes one. */
  async #add(block: VerifiedBlock): Promise<readonly (Group | undefined)[]> {
    const { writer } = this.#core;
    const group = writer.addBlock(block);
    if (group !== undefined) return [group];
    return writer.addChunks(block.chunks, await block.open());
  }

  async #readKnown(chunks: readonly ChunkEntry[], options: CallOptions | undefined): Promise<Uint8Array> {
    return await collectBytes(this.#blobs.readMany(chunks.map(({ digest, length }) => ({ digest, size: length })), options), Number.MAX_SAFE_INTEGER, "a piece of a blob");
  }
}

/** A block whose chunks are what their digests say. */
interface VerifiedBlock extends CompressedBlock {
  /** Its bytes before compression, which may be decompressed once more for that. */
  open(): Promise<Uint8Array>;
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
async function contentOf(content: BlockContent): Promise<Uint8Array> {
  if (content.codec === "stored") return content.bytes;
  checkFrame(content);
  // In a thread: what broken frames leave behind there goes with it.
  return (await decompressZstd(LentMemory.copyOf(content.bytes), content.size)).bytes;
}

function checkFrame({ bytes }: BlockContent): void {
  if (!isSingleZstdFrame(bytes, USUAL_WINDOW_BYTES)) throw new NarborError("ERR_INVALID", "Cannot store a block: it is not one zstd frame that tells its size");
}

/** 32 bytes for each chunk. */
function digestsOf(chunks: readonly ChunkEntry[], content: Uint8Array): Uint8Array {
  let offset = 0;
  const digests = chunks.map(({ length }) => {
    const bytes = content.subarray(offset, offset + length);
    offset += length;
    return blake3(bytes);
  });
  return concatBytes(digests);
}

/** @param found 32 bytes for each chunk */
function checkDigests(chunks: readonly ChunkEntry[], found: Uint8Array): void {
  for (const [index, { digest }] of chunks.entries()) {
    const own = found.subarray(index * DIGEST_LENGTH, (index + 1) * DIGEST_LENGTH);
    if (!equalBytes(own, digest)) throw new NarborError("ERR_MISMATCH", `Cannot store a block: what is said to be ${formatDigest(digest)} is ${formatDigest(toB3Digest(own))}`);
  }
}

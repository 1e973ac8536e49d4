/** Small chunks become blocks: many together, so that they compress well, and those of an archive so that a block is a piece of it where that is possible. */
import { LentMemory } from "../bytes/lent-memory.ts";
import type { ChunkEntry } from "../castore/blob-block.ts";
import { MAX_BLOCK_CHUNKS } from "../castore/block-writer.ts";
import { toB3Digest } from "../castore/digest.ts";
import { blake3 } from "../hash/blake3.ts";

/** Small chunks share a block of this many bytes before compression. */
const BLOCK_BYTES = 512 * 1024;
/** A chunk from this size on has a block to itself. */
export const LARGE_CHUNK_BYTES = 128 * 1024;
/**
 * A block that holds so much ends where the archive that fills it goes on elsewhere: it can be given away as it is only when all of it is one piece of
 * the archive. Smaller ones would not compress as well; but where two pieces are in one, it ends when it holds so much, for the sake of what follows.
 */
const MIN_RUN_BYTES = 8 * 1024;

/** Less than this is copied out of the memory for a whole block. */
const SMALL_BLOCK_BYTES = BLOCK_BYTES / 4;

/** A block before it is compressed. */
export interface BuiltBlock {
  /** The taker's, to be given back. */
  readonly raw: LentMemory;
  readonly chunks: readonly ChunkEntry[];
}

export class BlockBuilder {
  #memory = LentMemory.lend(BLOCK_BYTES);
  #length = 0;
  #entries: ChunkEntry[] = [];
  /** Whether the block is a piece of an archive, and whether the archive's last chunk went there. */
  #hasFraming = false;
  #isContinued = false;
  /** Whether there is more in it than one piece of an archive. */
  #isBroken = false;

  /**
   * Whether the block must be taken before a chunk of so many bytes comes.
   *
   * @param framing see `SmallBlob`
   */
  isFullFor(length: number, framing: Uint8Array | undefined): boolean {
    if (this.#entries.length === 0) return false;
    if (this.#length + length + (framing?.length ?? 0) > BLOCK_BYTES || this.#entries.length + 2 > MAX_BLOCK_CHUNKS) return true;
    const isOfArchive = this.#hasFraming || framing !== undefined;
    return isOfArchive && this.#length >= MIN_RUN_BYTES && (this.#isBroken || this.#breaks(length, framing));
  }

  /** Add a chunk smaller than `LARGE_CHUNK_BYTES`, whose bytes are copied. */
  add(entry: ChunkEntry, bytes: Uint8Array, framing: Uint8Array | undefined): void {
    this.#isBroken ||= this.#breaks(bytes.length, framing);
    if (framing !== undefined) {
      this.#write(framing);
      this.#entries.push({ digest: toB3Digest(blake3(framing)), length: framing.length, isFraming: true });
      this.#hasFraming = true;
    }
    this.#write(bytes);
    this.#entries.push(entry);
    if (bytes.length > 0) this.#isContinued = true;
  }

  /** The archive's next chunk does not go here. */
  skip(): void {
    this.#isContinued = false;
  }

  /** The block, unless there is nothing in it; the next begins. */
  take(): BuiltBlock | undefined {
    if (this.#entries.length === 0) return undefined;
    const block = { raw: this.#takeMemory(), chunks: this.#entries };
    this.clear();
    return block;
  }

  /** Forget what is in it. */
  clear(): void {
    this.#length = 0;
    this.#entries = [];
    this.#hasFraming = false;
    this.#isBroken = false;
  }

  /** Whether that is not the next piece of the archive that fills the block. */
  #breaks(length: number, framing: Uint8Array | undefined): boolean {
    return this.#length > 0 && length > 0 && !(this.#isContinued && framing !== undefined);
  }

  #write(bytes: Uint8Array): void {
    this.#memory.bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #takeMemory(): LentMemory {
    const memory = this.#memory;
    if (this.#length < SMALL_BLOCK_BYTES) return LentMemory.copyOf(memory.bytes.subarray(0, this.#length));
    this.#memory = LentMemory.lend(BLOCK_BYTES);
    memory.narrow(0, this.#length);
    return memory;
  }
}

import type { FramedBytes } from "../bytes/framed-bytes.ts";
import { blake3 } from "../hash/blake3.ts";
import type { BlobBlock, WantedBlob } from "./blob-block.ts";
import type { BlockWriter } from "./block-writer.ts";
import type { CallOptions } from "./call-options.ts";
import type { B3Digest } from "./digest.ts";
import { digestKey, toB3Digest } from "./digest.ts";

declare const hashed: unique symbol;

/** A blob as a directory speaks of it. A file's node is one. */
export interface BlobRef {
  readonly digest: B3Digest;
  /** Bytes. */
  readonly size: number;
}

/** A blob's digest and size as a key for Map and Set. */
export function blobRefKey({ digest, size }: BlobRef): string {
  return `${digestKey(digest)}${size}`;
}

/** A whole blob in memory whose digest was computed from its bytes: only `toSmallBlob` makes one, so no one need hash it again. */
export interface SmallBlob extends BlobRef {
  readonly bytes: Uint8Array;
  /**
   * What stands in an archive between the blob that is put before this one, of those that are not empty, and this one. A store that keeps blobs together may keep
   * it with them, and need not.
   */
  readonly framing?: Uint8Array | undefined;
  readonly [hashed]: true;
}

/** Name `bytes` by their BLAKE3. The bytes must not change while the blob is used. */
export function toSmallBlob(bytes: Uint8Array, framing?: Uint8Array): SmallBlob {
  return { digest: toB3Digest(blake3(bytes)), size: bytes.length, bytes, framing } as SmallBlob;
}

/** A blob larger than this is put and read as a stream; `putMany` and `readMany` are for the others. */
export const SMALL_BLOB_LIMIT = 1024 * 1024;

/** How a blob is stored. */
export interface BlobStat {
  /** The blobs that, joined, are this one; none when it is stored whole. */
  readonly chunks: readonly BlobRef[];
}

export interface ReadOptions extends CallOptions {
  /** First byte to give. @default 0 */
  readonly start?: number;
  /** Byte to stop before; beyond the blob's end means its end. @default the blob's end */
  readonly end?: number;
  /** The blob's bytes, where they are known: nothing that is longer is read to its end. */
  readonly size?: number;
}

export interface PutOptions extends CallOptions {
  /** Gives the digest of what was read, when all of it has been, where the caller has computed it: no one need hash it again. @default it is computed */
  readonly digest?: () => B3Digest;
}

/**
 * Blobs by their BLAKE3 digest. Every backend passes the same suite (test/conformance/blob-service.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface BlobService {
  /** Those of `digests` that are not stored, in the order asked, each once. Must be one round trip, whatever their number, unless `findsTogether` says otherwise. */
  findMissing(digests: readonly B3Digest[], options?: CallOptions): Promise<readonly B3Digest[]>;

  /** Whether `findMissing` is one round trip, where a server that is not ours may have no way to be asked for many at once. @default it is */
  findsTogether?(options?: CallOptions): Promise<boolean>;

  /** The blob's chunks, or undefined when it is not stored. */
  stat(digest: B3Digest, options?: CallOptions): Promise<BlobStat | undefined>;

  /** Store whole small blobs together. Must resolve only when every one of them is durable and can be read back; their memory may be used again then. */
  putMany(blobs: readonly SmallBlob[], options?: CallOptions): Promise<void>;

  /**
   * Read `content` once to its end, store it and give its digest, when it is durable and can be read back.
   * If `content` fails, that error must come out and no blob become readable; on every way out `content` must be closed. It may use the memory of what it
   * gave again when the next is asked for.
   */
  put(content: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<B3Digest>;

  /**
   * The blob's bytes, or a range of them, or undefined when it is not stored. Bytes given must be verified: what cannot be read back
   * as it was stored is ERR_DATA_LOSS. Whoever stops early must close the iterator.
   */
  openRead(digest: B3Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined>;

  /**
   * Whole small blobs, verified, in the order asked for. One that is not stored, or not of that size, is ERR_NOT_FOUND, in its turn;
   * the empty blob may be given whether it is stored or not.
   * A service may read ahead of what was taken, bounded in bytes.
   */
  readMany(blobs: Iterable<BlobRef> | AsyncIterable<BlobRef>, options?: CallOptions): AsyncIterable<Uint8Array>;

  /**
   * A blob's bytes as `cutBlob` cuts them, each chunk verified, with the frames of zstd at that level that it lies in. Only where some lie like that.
   * Chunks and frames are the same wherever the blob is stored; it is only that some stores have no frames. ERR_NOT_FOUND when it is not stored or not of its size.
   */
  readChunks?(blob: BlobRef, level: number, options?: CallOptions): AsyncIterable<FramedBytes>;

  /**
   * Blobs as they lie in storage, for someone who is far away: compressed, and several in a block. Only where they lie like that.
   *
   * Never more bytes than the blobs have. Pieces of one blob come in order. The bytes given must be those that were stored, or it is ERR_DATA_LOSS;
   * whoever takes blobs out of them verifies these. ERR_NOT_FOUND, in its turn, when one is not stored or not of its size.
   *
   * @param blobs each once; one of any size, or `MAX_WANTED_BLOBS` of `MAX_WANTED_BYTES` together
   */
  readBlocks?(blobs: Iterable<WantedBlob>, options?: CallOptions): AsyncIterable<BlobBlock>;

  /** Stores blobs in blocks, for someone who is far away. Only where they lie like that. */
  readonly blockWriter?: BlockWriter;
}

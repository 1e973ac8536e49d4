import type { LentMemory } from "../bytes/lent-memory.ts";
import type { BlobRef } from "./blob-service.ts";
import type { CallOptions } from "./call-options.ts";
import type { Segment } from "./recipe.ts";

/** A piece of an archive that lies in storage by itself, compressed. */
export interface StoredFrame {
  /** Bytes of the frame. */
  readonly length: number;
  /** Bytes of the archive in it. */
  readonly rawLength: number;
  /** Whether it lies right behind that one, so that both are read in one go. */
  isBehind(other: StoredFrame): boolean;
  /** The archive's bytes, verified to be what was stored; to be released. @throws NarborError ERR_DATA_LOSS */
  readRaw(options?: CallOptions): Promise<LentMemory>;
}

/** Pieces of an archive that lie elsewhere. */
export interface LooseSegments {
  /** Bytes. */
  readonly rawLength: number;
  /** Blobs of less than 128 KiB, and what stands between. */
  readonly segments: readonly Segment[];
}

/** An archive is one part behind the other. */
export type ArchivePart = StoredFrame | LooseSegments;

/** Where archives lie in storage as they were, so that they can be given away compressed and no one need compress them. */
export interface ArchiveFrames {
  /**
   * An archive as it lies in frames, and what lies elsewhere. Frames hold exactly the archive's bytes at their place: the contents by their digests, and what stands between
   * them by its own.
   *
   * @param maxBetween undefined comes out when more bytes of the archive than that are not in stored frames
   * @throws NarborError ERR_DATA_LOSS when a blob is not stored, or not of its size
   */
  lay(segments: Iterable<Uint8Array | BlobRef>, maxBetween: number, options?: CallOptions): Promise<readonly ArchivePart[] | undefined>;

  /**
   * Whole zstd frames, each right behind the one before it (see `StoredFrame.isBehind`), and other bytes between them, all in one.
   *
   * @returns the frames verified to be what was stored; to be released
   * @throws NarborError ERR_DATA_LOSS
   */
  read(pieces: readonly (StoredFrame | Uint8Array)[], options?: CallOptions): Promise<LentMemory>;
}

import type { ArchiveFrames } from "../castore/archive-frames.ts";
import type { BlobService } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { DirectorySizeProfile } from "../castore/directory.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import type { ComputedCache } from "./computed-cache.ts";
import type { DocumentIndex } from "./document-index.ts";
import type { NarIndex } from "./nar-index.ts";
import type { PathInfoService } from "./path-info-service.ts";

/** The services that together are a store. */
export interface StoreServices {
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
  readonly pathInfos: PathInfoService;
  readonly nars: NarIndex;
  readonly documents: DocumentIndex;
  readonly computed: ComputedCache;
}

/**
 * What an import writes to, for one piece of work of many writes that is durable as a whole when `commit` resolves: one sync for an import,
 * not one for each step of it. Until then nothing written through it need be durable or readable.
 */
export interface StoreWork extends Pick<StoreServices, "blobs" | "directories" | "nars"> {
  /**
   * Make everything written through this work durable and readable. If any of its writes was lost, that error comes out,
   * and every later write through it fails with the same.
   */
  commit(options?: CallOptions): Promise<void>;
}

/** An open store. Disposing it ends what is under way and closes it; it may be disposed twice. */
export interface Store extends StoreServices, AsyncDisposable {
  /** Only where archives lie as they were. */
  readonly frames?: ArchiveFrames;
  /** How sizes of directories must be counted in trees that are ingested into this store. */
  directorySizeProfile(options?: CallOptions): Promise<DirectorySizeProfile>;
  begin(): StoreWork;
}

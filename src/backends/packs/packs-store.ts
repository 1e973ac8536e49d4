/**
 * The embedded store: a directory with `narbor.json`, `index.sqlite` and `packs/`.
 *
 * Several processes may have it open. Each appends to packs of its own; the index is SQLite's to share.
 */
import { mkdir, readdir, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { BlockCompression } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import { NarborError } from "../../errors.ts";
import type { DescribedStore } from "../../store/described-store.ts";
import type { CheckableStore, StoreCheck } from "../../store/store-check.ts";
import type { Store, StoreWork } from "../../store/store.ts";
import { PacksArchiveFrames } from "./archive-frames.ts";
import { PacksBlobService } from "./blob-service.ts";
import { PacksDirectoryService } from "./directory-service.ts";
import { PacksComputedCache } from "./computed-cache.ts";
import { PacksDocumentIndex } from "./document-index.ts";
import { removeLeftOverSpools } from "./directory-spool.ts";
import { IndexDatabase } from "./index-database.ts";
import type { IndexFile } from "./index-file.ts";
import { indexFileAt } from "./index-file.ts";
import { IndexThread } from "./index-thread.ts";
import { PacksNarIndex } from "./nar-index.ts";
import { PackAppender } from "./pack-appender.ts";
import { PackFiles } from "./pack-files.ts";
import { PackWriter } from "./pack-writer.ts";
import type { WriteSink } from "./packs-core.ts";
import { DurableSink, PacksCore, WorkSink } from "./packs-core.ts";
import { PacksPathInfoService } from "./path-info-service.ts";
import { recoverIndex } from "./recover-index.ts";
import type { StoreFormat } from "./store-format.ts";
import { createStoreFormat, readStoreFormat, STORE_VERSION, upgradeStoreFormat } from "./store-format.ts";
import { hasErrorCode, isDamagedDatabase, toStoreError } from "./system-error.ts";
import type { WrittenBytes } from "./check-packs.ts";
import { checkPacks } from "./check-packs.ts";

export interface PacksStoreOptions {
  /** Make a store when there is none. Without it, that is ERR_NOT_FOUND. @default false */
  readonly create?: boolean;
  /** How blocks written from now on are compressed: a zstd level, or "none". @default 1 */
  readonly compression?: BlockCompression;
  /** How directory sizes are counted, when the store is made. A store that is there keeps its own. @default "documented" */
  readonly directorySizeProfile?: DirectorySizeProfile;
  /** Forget the index and make it anew from the packs. @default false */
  readonly rebuildIndex?: boolean;
}

/** What a store's directory may hold: its own files, what a crash left of making it, and what a file system puts at its root. */
const OWN_NAMES = /^(\.?narbor\.json.*|\.spool-.*|packs|index\.sqlite.*|lost\+found)$/;

/** Level 1: see docs/decisions/0004-block-compression.md. */
const DEFAULT_COMPRESSION = 1;

export class PacksStore implements Store, DescribedStore, CheckableStore {
  readonly directory: string;
  readonly #directorySizeProfile: DirectorySizeProfile;
  readonly blobs: PacksBlobService;
  readonly directories: PacksDirectoryService;
  readonly pathInfos: PacksPathInfoService;
  readonly nars: PacksNarIndex;
  readonly documents: PacksDocumentIndex;
  readonly computed: PacksComputedCache;
  readonly frames: PacksArchiveFrames;
  readonly #core: PacksCore;
  readonly #written: WrittenBytes;
  #disposed: Promise<void> | undefined;

  private constructor(directory: string, directorySizeProfile: DirectorySizeProfile, core: PacksCore, written: WrittenBytes) {
    this.#written = written;
    this.directory = directory;
    this.#directorySizeProfile = directorySizeProfile;
    this.#core = core;
    const sink = new DurableSink(core.writer);
    ({ blobs: this.blobs, directories: this.directories, nars: this.nars } = importServices(core, sink));
    this.pathInfos = new PacksPathInfoService(core, sink);
    this.documents = new PacksDocumentIndex(core, sink);
    this.computed = new PacksComputedCache(core);
    this.frames = new PacksArchiveFrames(core);
  }

  /**
   * Open the store in `directory`, and take into the index what its packs hold and the index does not.
   *
   * @throws NarborError ERR_NOT_FOUND, ERR_STORE_VERSION, ERR_READ_ONLY, ERR_NO_SPACE, ERR_STORE
   */
  static async open(directory: string, options: PacksStoreOptions = {}): Promise<PacksStore> {
    const format = await openFormat(directory, options);
    const packs = join(directory, "packs");
    await makeDirectory(packs);
    // No reason to refuse a store: whatever is wrong with its directory shows below, where it matters.
    await removeLeftOverSpools(directory).catch(() => undefined);
    const file = join(directory, "index.sqlite");
    const { index, before } = options.rebuildIndex === true ? await openEmptiedIndex(file) : { index: new IndexDatabase(file), before: undefined };
    const files = new PackFiles(packs);
    let indexFile: IndexFile;
    try {
      indexFile = indexFileAt(file);
      await recoverIndex(index, files);
      if (options.rebuildIndex === true) index.forgetBrokenBlobs();
    } catch (error) {
      index[Symbol.dispose]();
      await files[Symbol.asyncDispose]();
      throw toStoreError(`Cannot open the store "${directory}"`, error);
    }
    const compression = options.compression ?? DEFAULT_COMPRESSION;
    const indexThread = new IndexThread(indexFile);
    const writer = new PackWriter(index, indexThread, () => new PackAppender(files, index, indexThread, compression));
    const written = options.rebuildIndex === true ? (before ?? "unknown") : "indexed";
    return new PacksStore(directory, format.directorySizeProfile, new PacksCore(directory, { index, indexThread, files, writer, compression }), written);
  }

  async directorySizeProfile(options?: CallOptions): Promise<DirectorySizeProfile> {
    this.#core.check(options);
    return this.#directorySizeProfile;
  }

  begin(): StoreWork {
    const sink = new WorkSink(this.#core.writer);
    return {
      ...importServices(this.#core, sink),
      commit: async (options) => {
        this.#core.check(options);
        await sink.commit();
      },
    };
  }

  /** Read everything again and check it against its digests. */
  check(signal?: AbortSignal): AsyncIterable<StoreCheck> {
    return checkPacks({ core: this.#core, blobs: this.blobs }, this.#written, signal);
  }

  /** How much there is of what. */
  counts(): ReturnType<IndexDatabase["counts"]> {
    return this.#core.index.counts();
  }

  get name(): string {
    return this.directory;
  }

  /** How much there is of what. */
  async describe(): Promise<Readonly<Record<string, string | number>>> {
    this.#core.check(undefined);
    const { chunks, directories, pathInfos, nars, contentBytes } = this.counts();
    const packBytes = await this.packBytes();
    return { store: this.directory, directorySize: this.#directorySizeProfile, paths: pathInfos, nars, directories, chunks, contentBytes, packBytes };
  }

  /** Bytes that all packs take on the disk. */
  async packBytes(): Promise<number> {
    return (await this.#core.files.list()).reduce((sum, { size }) => sum + size, 0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return (this.#disposed ??= this.#dispose());
  }

  async #dispose(): Promise<void> {
    this.#core.close();
    await this.#core.writer[Symbol.asyncDispose]();
    await this.#core.indexThread[Symbol.asyncDispose]();
    await this.#core.files[Symbol.asyncDispose]();
    this.#core.index[Symbol.dispose]();
  }
}

function importServices(core: PacksCore, sink: WriteSink): { blobs: PacksBlobService; directories: PacksDirectoryService; nars: PacksNarIndex } {
  return {
    blobs: new PacksBlobService(core, sink),
    directories: new PacksDirectoryService(core, sink),
    nars: new PacksNarIndex(core, sink),
  };
}

async function openFormat(directory: string, options: PacksStoreOptions): Promise<StoreFormat> {
  const found = await readStoreFormat(directory);
  if (found !== undefined) {
    if (found.version < STORE_VERSION) await upgradeStoreFormat(directory, found);
    return found;
  }
  if (options.create !== true) throw new NarborError("ERR_NOT_FOUND", `Cannot open the store "${directory}": there is none`);
  await makeDirectory(directory);
  await checkNotForeign(directory);
  await createStoreFormat(directory, options.directorySizeProfile ?? "documented");
  const made = await readStoreFormat(directory);
  if (made === undefined) throw new NarborError("ERR_STORE", `Cannot make a store in "${directory}": it was taken away again`);
  return made;
}

/** Someone's files are no place for a store: a wrong `--store` is more likely than a wish. */
async function checkNotForeign(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw toStoreError(`Cannot make a store in "${directory}"`, error);
  });
  const foreign = names.find((name) => !OWN_NAMES.test(name));
  if (foreign === undefined) return;
  throw new NarborError("ERR_STORE", `Cannot make a store in "${directory}": it holds ${JSON.stringify(foreign)} already; name an empty directory, or one that is not there yet`);
}

async function makeDirectory(directory: string): Promise<void> {
  try {
    await makeDirectories(resolve(directory));
  } catch (error) {
    throw toStoreError(`Cannot make the directory "${directory}"`, error);
  }
}

/** Level by level: where nothing can be made (below /proc, say) node's own recursive mkdir never ends. */
async function makeDirectories(directory: string): Promise<void> {
  if (await exists(directory)) return;
  if (dirname(directory) !== directory) await makeDirectories(dirname(directory));
  await mkdir(directory).catch((error: unknown) => {
    // Another process may have been quicker.
    if (!hasErrorCode(error, "EEXIST")) throw error;
  });
}

interface EmptiedIndex {
  readonly index: IndexDatabase;
  /** What it said before of how much was written to each pack; undefined when there was none that could be read. */
  readonly before: ReadonlyMap<string, number> | undefined;
}

/** Empty the index in its own file, which other processes may have open; or begin a new one when the file itself is damaged. */
async function openEmptiedIndex(file: string): Promise<EmptiedIndex> {
  const emptied = (await exists(file)) ? emptyIndex(file) : undefined;
  if (emptied !== undefined) return emptied;
  // It is no good as a file: keep it beside for whoever wants to look at it.
  for (const suffix of ["", "-wal", "-shm"]) await rename(file + suffix, `${file}.damaged${suffix}`).catch(() => undefined);
  return { index: new IndexDatabase(file), before: undefined };
}

function emptyIndex(file: string): EmptiedIndex | undefined {
  let index: IndexDatabase | undefined;
  try {
    index = new IndexDatabase(file);
    if (index.isSound()) {
      const before = new Map(index.packs().map(({ name, indexedBytes }) => [name, indexedBytes]));
      index.clear();
      return { index, before };
    }
  } catch (error) {
    if (!isDamagedDatabase(error)) throw error;
  }
  index?.[Symbol.dispose]();
  return undefined;
}

async function exists(file: string): Promise<boolean> {
  return await stat(file).then(
    () => true,
    () => false,
  );
}

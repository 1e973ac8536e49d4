/** tar archives, such as image layers: files to blobs, names to castore directories, and a recipe that makes the archive again byte for byte. */
import type { BlobRef } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { B3Digest } from "../castore/digest.ts";
import type { DirectorySizeProfile } from "../castore/directory.ts";
import type { DirectoryNode } from "../castore/node.ts";
import { RecipeWriter } from "../castore/recipe.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError } from "../errors.ts";
import { StreamedSha256 } from "../compression/streamed-sha256.ts";
import { TarReader } from "../tar/parse-tar.ts";
import type { TarEntry } from "../tar/tar-event.ts";
import type { BlobUploader } from "./blob-uploader.ts";
import type { DirectoryStack } from "./directory-stack.ts";
import { fileContents, uploadSmallFile } from "./file-contents.ts";
import { TarTree, type TarTreeEntry } from "./tar-tree.ts";

export interface IngestTarOptions {
  readonly uploader: BlobUploader;
  readonly directorySizeProfile: DirectorySizeProfile;
  /** More is ERR_LIMIT: each may take a kilobyte. @default 500000 */
  readonly maxEntries?: number | undefined;
  /** Bytes of all files together, holes included; more is ERR_LIMIT. @default 1099511627776 (1 TiB) */
  readonly maxFileBytes?: number | undefined;
  /** Bytes of the recipe; more is ERR_LIMIT. @default 268435456 (256 MiB) */
  readonly maxRecipeBytes?: number | undefined;
  /** Told of every entry as it begins. */
  readonly onEntry?: (entry: TarEntry) => void;
}

/** What a tar archive turned out to be. */
export interface IngestedTar {
  /** SHA-256 of the archive, 32 bytes: a layer's diffID. */
  readonly sha256: Uint8Array;
  /** Bytes of the archive. */
  readonly size: number;
  readonly entries: number;
  readonly root: DirectoryNode;
  /** A blob that tells how the archive is made from its files. */
  readonly recipe: BlobRef;
  /** The tree's directories, which are not stored yet. */
  readonly directories: DirectoryStack;
}

const DEFAULT_MAX_ENTRIES = 500_000;
const DEFAULT_MAX_FILE_BYTES = 1024 ** 4;
/** Directories of one tree, as for a NAR, and what is beside the files' contents. */
const MAX_DIRECTORY_BYTES = 256 * 1024 * 1024;
const DEFAULT_MAX_RECIPE_BYTES = 256 * 1024 * 1024;
/** As for a NAR. */
const OWNER_EXECUTE = 0o100;
/** GNU tar's directory in an incremental archive; its data are names. */
const GNU_DIRECTORY = "D";
const ZEROS = new Uint8Array(256 * 1024);
/** Bytes of a hole before the event loop gets a turn. */
const BYTES_PER_TURN = 4 * 1024 * 1024;
/** A hole counts as so many more, however short it is. */
const HOLE_BYTES = 16 * 1024;

/**
 * Take a tar archive apart while it streams in. Its files are under way when this resolves: the uploader must be joined, and the directories stored.
 * `source` is read once, to its end, and closed on every way out.
 *
 * @throws NarborError ERR_TAR_INVALID, ERR_LIMIT, and whatever the source or the uploader throw
 */
export async function ingestTar(source: AsyncIterable<Uint8Array>, options: IngestTarOptions): Promise<IngestedTar> {
  const archive = new StreamedSha256();
  // As whoever unpacks images does.
  const reader = new TarReader(archive.through(source), { globalHeaders: "ignore" });
  const ingest = new TarIngest(reader, options);
  try {
    await ingest.readAll();
  } finally {
    await reader.close();
  }
  const directories = ingest.tree.finish(options.directorySizeProfile, MAX_DIRECTORY_BYTES);
  const recipe = await options.uploader.addWhole(ingest.recipe.finish());
  return { sha256: await archive.digest(), size: archive.size, entries: ingest.entries, root: directories.root as DirectoryNode, recipe, directories };
}

class TarIngest {
  readonly tree: TarTree;
  readonly recipe: RecipeWriter;
  entries = 0;
  readonly #reader: TarReader;
  readonly #options: IngestTarOptions;
  readonly #maxEntries: number;
  readonly #maxFileBytes: number;
  #fileBytes = 0;

  constructor(reader: TarReader, options: IngestTarOptions) {
    this.#reader = reader;
    this.#options = options;
    this.#maxEntries = options.maxEntries ?? DEFAULT_MAX_ENTRIES;
    this.#maxFileBytes = options.maxFileBytes ?? DEFAULT_MAX_FILE_BYTES;
    this.tree = new TarTree(this.#maxEntries);
    this.recipe = new RecipeWriter(options.maxRecipeBytes ?? DEFAULT_MAX_RECIPE_BYTES);
  }

  async readAll(): Promise<void> {
    do {
      for (let event = this.#reader.next(); event !== undefined; event = this.#reader.next()) {
        switch (event.type) {
          case "raw":
            this.recipe.addBytes(event.bytes);
            break;
          case "entry": {
            const { entry } = event;
            this.#begin(entry);
            const contents = this.#takeContents(entry);
            this.#add(entry, contents instanceof Promise ? await contents : contents);
            break;
          }
          case "data":
          case "endEntry":
            throw new TypeError(`A ${event.type} event outside of an entry`);
        }
      }
    } while (await this.#reader.fill());
  }

  #begin(entry: TarEntry): void {
    this.#options.onEntry?.(entry);
    if (++this.entries > this.#maxEntries) throw new NarborError("ERR_LIMIT", `Cannot ingest: the archive has more than ${this.#maxEntries} entries`);
    this.#fileBytes += entry.size;
    if (this.#fileBytes > this.#maxFileBytes) throw new NarborError("ERR_LIMIT", `Cannot ingest: the archive's files have more than ${this.#maxFileBytes} bytes`);
  }

  /** Every entry may have contents, though only files should. A promise only when something must be waited for. */
  #takeContents({ kind, size, storedSize, sparse }: TarEntry): B3Digest | undefined | Promise<B3Digest> {
    const { uploader } = this.#options;
    if (kind !== "file" && storedSize === 0) {
      // Its end follows at once.
      this.#reader.next();
      return undefined;
    }
    // The file is what the tree has; the archive has what is not a hole in it.
    if (sparse !== undefined) return uploader.addLarge(withHoles(fileContents(this.#reader), sparse, size));
    return size < SMALL_BLOB_LIMIT ? uploadSmallFile(this.#reader, uploader, storedSize) : uploader.addLarge(fileContents(this.#reader));
  }

  #add(entry: TarEntry, digest: B3Digest | undefined): void {
    const { size, sparse = [{ offset: 0, length: size }] } = entry;
    if (digest !== undefined) for (const { offset, length } of sparse) this.recipe.addBlob({ digest, size, start: offset, end: offset + length });
    const node = this.#nodeOf(entry, digest);
    if (node !== undefined) this.tree.add(entry.path, node);
  }

  #nodeOf({ kind, typeFlag, linkTarget, mode, size }: TarEntry, digest: B3Digest | undefined): TarTreeEntry | undefined {
    switch (kind) {
      case "file":
        return digest && { type: "file", digest, size, executable: (mode & OWNER_EXECUTE) !== 0 };
      case "directory":
        return "directory";
      case "symlink":
        return { type: "symlink", target: linkTarget };
      case "hardlink":
        // To a file of a layer below it is known only to the recipe.
        return this.tree.find(linkTarget) ?? "nothing";
      case "characterDevice":
      case "blockDevice":
      case "fifo":
        return "nothing";
      case "other":
        return typeFlag === GNU_DIRECTORY ? "directory" : undefined;
    }
  }
}

/** A sparse file as a program reads it. */
async function* withHoles(stored: AsyncIterable<Uint8Array>, sparse: readonly { readonly offset: number; readonly length: number }[], size: number): AsyncGenerator<Uint8Array, void, undefined> {
  let position = 0;
  let sinceTurn = 0;
  const pieces = sparse[Symbol.iterator]();
  let left = 0;
  for await (const bytes of stored) {
    for (let start = 0; start < bytes.length; ) {
      while (left === 0) {
        const { value: next } = pieces.next();
        if (next === undefined) throw new TypeError("A sparse file has more data than its map says");
        sinceTurn += HOLE_BYTES + next.offset - position;
        if (sinceTurn >= BYTES_PER_TURN) {
          await nextTurn();
          sinceTurn = 0;
        }
        yield* zeros(next.offset - position);
        position = next.offset;
        left = next.length;
      }
      const length = Math.min(left, bytes.length - start);
      yield bytes.subarray(start, start + length);
      start += length;
      left -= length;
      position += length;
    }
  }
  yield* zeros(size - position);
}

/** Of a hole there may be any number, and nothing else to wait for. */
async function* zeros(length: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (let given = 0; given < length; given += ZEROS.length) {
    if (given > 0 && given % BYTES_PER_TURN === 0) await nextTurn();
    yield ZEROS.subarray(0, length - given);
  }
}

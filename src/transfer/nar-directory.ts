/**
 * Directories of NARs: a binary cache as `nix copy --to file://…` makes it, or only the NARs.
 *
 * A file has its name only when it is whole and on the disk. Until then it is called `….tmp`, which no one looks for; after a power cut such
 * files are all that is left of a pull that was under way.
 */
import type { FileHandle } from "node:fs/promises";
import { mkdir, open, readFile, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Codec } from "../compression/codec.ts";
import { compress } from "../compression/compress.ts";
import { NarborError, errorMessage, isNarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { formatNarInfo, parseNarInfo } from "../nix/narinfo.ts";
import { formatNixCacheInfo, parseNixCacheInfo } from "../nix/nix-cache-info.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import { fingerprint } from "../nix/signature.ts";
import { STORE_DIR, storePathBaseName, storePathHashPart } from "../nix/store-path.ts";
import { mergeSignatures, narInfoFromPathInfo, pathInfoFingerprint } from "../store/path-info.ts";
import type { PathInfo, ServedNar } from "../store/path-info.ts";
import type { NarTarget } from "./pull-closure.ts";

/** The end of a file's name by its compression, as Nix has them; gzip has none there, for no reason that a reader of names would guess. */
const SUFFIXES: Readonly<Record<Codec, string>> = { none: "", xz: ".xz", zstd: ".zst", bzip2: ".bz2", gzip: ".gz", br: ".br" };

/** As `narbor serve` says by default: before cache.nixos.org, which is 40. */
const PRIORITY = 30;

/** A binary cache in a directory: `nix copy --from file://DIRECTORY`, or any web server. */
export class BinaryCacheDirectory implements NarTarget<ServedNar> {
  readonly #directory: string;
  readonly #codec: Codec;

  private constructor(directory: string, codec: Codec) {
    this.#directory = directory;
    this.#codec = codec;
  }

  /**
   * A cache in `directory`, made when it is not there.
   *
   * @throws NarborError ERR_INVALID when it is one for another store directory, ERR_STORE, ERR_READ_ONLY or ERR_NO_SPACE when it cannot be made
   */
  static async open(directory: string, codec: Codec): Promise<BinaryCacheDirectory> {
    await makeDirectory(join(directory, "nar"));
    const file = join(directory, "nix-cache-info");
    const text = await readText(file);
    if (text === undefined) await writeWhole(file, [Buffer.from(formatNixCacheInfo({ storeDir: STORE_DIR, wantMassQuery: true, priority: PRIORITY }))]);
    else {
      const { storeDir = STORE_DIR } = parseNixCacheInfo(text);
      if (storeDir !== STORE_DIR) throw new NarborError("ERR_INVALID", `Cannot write to ${JSON.stringify(directory)}: it is a binary cache for ${storeDir}, expected ${STORE_DIR}`);
    }
    return new BinaryCacheDirectory(directory, codec);
  }

  async holds(path: PathInfo): Promise<boolean> {
    const known = await this.#readNarInfo(path);
    if (known === undefined || fingerprint(known.storePath, known.narHash, known.narSize, known.references) !== pathInfoFingerprint(path)) return false;
    // Whose URL leads elsewhere was not written here.
    if (!/^nar\/[^/]+$/.test(known.url) || (await sizeOf(join(this.#directory, known.url))) !== known.fileSize) return false;
    const signatures = mergeSignatures(known.signatures, path.signatures);
    if (signatures.length > known.signatures.length) await this.#writeNarInfo({ ...known, signatures });
    return true;
  }

  async write(path: PathInfo, nar: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<ServedNar> {
    const served = (fileHash: Uint8Array, fileSize: number): ServedNar => ({
      url: `nar/${encodeNix32(fileHash)}.nar${SUFFIXES[this.#codec]}`,
      compression: this.#codec,
      fileHash,
      fileSize,
    });
    if (this.#codec === "none") {
      // The file's name is known before it is written, and where it is, it is whole.
      const whole = served(path.narSha256, path.narSize);
      const file = join(this.#directory, whole.url);
      if ((await sizeOf(file)) !== path.narSize) await writeWhole(file, nar);
      return whole;
    }
    const tap = new Sha256Tap();
    await using file = await TemporaryFile.create(join(this.#directory, "nar", storePathHashPart(path.storePath.digest)));
    await file.write(tap.through(compress(nar, this.#codec, { signal })));
    const result = served(tap.digest(), tap.size);
    await file.keepAs(join(this.#directory, result.url));
    return result;
  }

  async register(path: PathInfo, served: ServedNar): Promise<void> {
    await this.#writeNarInfo(narInfoFromPathInfo(path, served));
  }

  #narInfoFile({ storePath }: Pick<PathInfo, "storePath">): string {
    return join(this.#directory, `${storePathHashPart(storePath.digest)}.narinfo`);
  }

  /** Undefined when there is none, or none that can be read. */
  async #readNarInfo(path: PathInfo): Promise<NarInfo | undefined> {
    const text = await readText(this.#narInfoFile(path));
    try {
      return text === undefined ? undefined : parseNarInfo(text);
    } catch (error) {
      if (!isNarborError(error, "ERR_NIX_INVALID")) throw error;
      return undefined;
    }
  }

  async #writeNarInfo(narInfo: NarInfo): Promise<void> {
    await writeWhole(this.#narInfoFile(narInfo), [Buffer.from(formatNarInfo(narInfo))]);
  }
}

/** NARs by the base names of their paths, and nothing else: `DIRECTORY/<hash>-<name>.nar`. */
export class NarFiles implements NarTarget<void> {
  readonly #directory: string;
  readonly #codec: Codec;

  private constructor(directory: string, codec: Codec) {
    this.#directory = directory;
    this.#codec = codec;
  }

  /** NARs in `directory`, made when it is not there. @throws NarborError ERR_STORE, ERR_READ_ONLY or ERR_NO_SPACE when it cannot be made */
  static async open(directory: string, codec: Codec): Promise<NarFiles> {
    await makeDirectory(directory);
    return new NarFiles(directory, codec);
  }

  async holds(path: PathInfo): Promise<boolean> {
    const size = await sizeOf(this.#file(path));
    // How large it is when compressed is not known, but a file that has its name is whole.
    return this.#codec === "none" ? size === path.narSize : size !== undefined;
  }

  async write(path: PathInfo, nar: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    await writeWhole(this.#file(path), compress(nar, this.#codec, { signal }));
  }

  async register(): Promise<void> {
    // A NAR file tells nothing of others.
  }

  #file({ storePath }: PathInfo): string {
    return join(this.#directory, `${storePathBaseName(storePath)}.nar${SUFFIXES[this.#codec]}`);
  }
}

/** A file that is gone when it is disposed, unless it was given its name. */
class TemporaryFile implements AsyncDisposable {
  static #count = 0;
  readonly #path: string;
  readonly #handle: FileHandle;
  #isOpen = true;
  #isKept = false;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** A file whose name begins as given. Names are not shared with another process that writes to the same directory. */
  static async create(beginning: string): Promise<TemporaryFile> {
    const path = `${beginning}.${process.pid}-${this.#count++}.tmp`;
    return new TemporaryFile(path, await open(path, "wx").catch(fail(path)));
  }

  async write(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    for await (const bytes of source) {
      for (let written = 0; written < bytes.length; ) {
        written += (await this.#handle.write(bytes, written).catch(fail(this.#path))).bytesWritten;
      }
    }
    await this.#handle.sync().catch(fail(this.#path));
  }

  async keepAs(path: string): Promise<void> {
    await this.#close();
    await rename(this.#path, path).catch(fail(path));
    this.#isKept = true;
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isKept) return;
    await this.#close();
    await unlink(this.#path).catch(() => undefined);
  }
}

async function writeWhole(path: string, source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
  await using file = await TemporaryFile.create(path);
  await file.write(source);
  await file.keepAs(path);
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((error: unknown) => {
    const isInTheWay = ["EEXIST", "ENOTDIR"].includes(codeOf(error));
    if (isInTheWay) throw new NarborError("ERR_STORE", `Cannot write ${JSON.stringify(path)}: a file is where a directory should be`, { cause: error });
    fail(path)(error);
  });
}

/** Undefined when there is none. */
async function readText(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch(undefinedWhenMissing(path));
}

/** Undefined when there is none. */
async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(undefinedWhenMissing(path)))?.size;
}

function undefinedWhenMissing(path: string): (error: unknown) => undefined {
  return (error) => (codeOf(error) === "ENOENT" ? undefined : fail(path)(error));
}

/** The system's errors as ours, whose codes say what a person can do about them. */
function fail(path: string): (error: unknown) => never {
  return (error) => {
    const what = `Cannot write ${JSON.stringify(path)}`;
    switch (codeOf(error)) {
      case "ENOSPC":
      case "EDQUOT":
      case "EFBIG":
        throw new NarborError("ERR_NO_SPACE", `${what}: no space left on the device`, { cause: error });
      case "EROFS":
      case "EACCES":
      case "EPERM":
        throw new NarborError("ERR_READ_ONLY", `${what}: it may not be written to (${errorMessage(error)})`, { cause: error });
      default:
        throw new NarborError("ERR_STORE", `${what}: ${errorMessage(error)}`, { cause: error });
    }
  };
}

function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

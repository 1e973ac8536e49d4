/** Image archives in: one pass over the bytes, whatever the order of what is in them. */
import { asBuffer } from "../bytes/as-buffer.ts";
import { collectBytes } from "../bytes/collect.ts";
import { toHex } from "../bytes/text-encoding.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import { toSmallBlob } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { detectCodec, type Codec } from "../compression/codec.ts";
import { decompress } from "../compression/decompress.ts";
import { SourceReader } from "../compression/source-reader.ts";
import type { LinkedSignal } from "../concurrency/linked-signal.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { abortable } from "../concurrency/abortable.ts";
import { NarborError, isNarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import type { BlobTally } from "../ingest/blob-uploader.ts";
import { BlobUploader } from "../ingest/blob-uploader.ts";
import { ClosureUpload } from "../ingest/closure-upload.ts";
import { ingestTar } from "../ingest/ingest-tar.ts";
import type { Store, StoreWork } from "../store/store.ts";
import { parseTarHeader, TAR_FIELD } from "../tar/tar-header.ts";
import type { ArchiveMember } from "./archive-members.ts";
import { tarMembers } from "./archive-members.ts";
import { findLayer, putImages } from "./image-catalog.ts";
import { familiarName, isImageName } from "./image-name.ts";
import type { ImageRecord, LayerRecord, NamedImages } from "./image-record.ts";
import type { OciDigest } from "./oci-schema.ts";
import type { ReadMember, ResolvedImage } from "./resolve-images.ts";
import { resolveImages } from "./resolve-images.ts";

/** What is told while an archive is read. */
export interface ImageProgress {
  /** Bytes of uncompressed layers so far. */
  readonly layerBytes: number;
  /** Layers that have been read to their end. */
  readonly layers: number;
}

export interface ImportImagesOptions extends CallOptions {
  /** Names to use instead of those in the archive; it must hold one image. */
  readonly name?: string | undefined;
  /** Bytes of everything together when it is uncompressed; more is ERR_LIMIT. @default 1099511627776 (1 TiB) */
  readonly maxBytes?: number | undefined;
  readonly onProgress?: (progress: ImageProgress) => void;
}

/** A layer that came. */
export interface ImportedLayer {
  readonly layer: LayerRecord;
  /** Bytes of its files that the store did not have, and of those that it had. A layer that was known by its digest was not looked into: all are shared. */
  readonly tally: BlobTally;
}

/** What was taken out of an archive. */
export interface ImportedImages {
  readonly images: readonly NamedImages[];
  readonly layers: ReadonlyMap<OciDigest, ImportedLayer>;
}

/** manifests and configurations; larger files are layers or nothing. */
const MAX_NAMES = 10_000;
const MAX_JSON_BYTES = 8 * 1024 * 1024;
const MAX_JSON_BYTES_IN_ALL = 64 * 1024 * 1024;
const MAX_MEMBERS = 100_000;
const DEFAULT_MAX_BYTES = 1024 ** 4;
/** What an archive may become, whatever its size, in bytes; and how many times that size on top of it: no more than gzip can make of anything. */
const FREE_BYTES = 16 * 1024 ** 3;
const MAX_RATIO = 1024;
/** Inflating goes on while what is compressible keeps the others busy, and is ahead when there is little to do with what comes then. */
const AHEAD_BYTES = 8 * 1024 * 1024;
/** What tells a tar archive, and a compression. */
const HEAD_BYTES = 512;

/**
 * Take images out of an archive while it streams in: what `docker save`, skopeo and Nix's dockerTools write, or an OCI layout in a tar archive, compressed
 * in any way that we read. It is inflated once; a layer's diffID, the digest of its file, and its files' blobs come of the same pass. Nothing is
 * listed before everything has been held against the manifests.
 *
 * @throws NarborError ERR_IMAGE_INVALID, ERR_TAR_INVALID, ERR_MISMATCH, ERR_LIMIT, ERR_COMPRESSION_INVALID, and what the source or the store throw
 */
export async function importImages(source: AsyncIterable<Uint8Array>, store: Store, options: ImportImagesOptions = {}): Promise<ImportedImages> {
  const came: Came = { bytes: 0, isOfMembers: false };
  return await takeMembers(tarMembers(inflate(source, came, options)), came, store, options);
}

/** The same from the members of an archive that is no single stream. */
export async function importMembers(members: AsyncIterable<ArchiveMember>, store: Store, options: ImportImagesOptions = {}): Promise<ImportedImages> {
  return await takeMembers(members, { bytes: 0, isOfMembers: true }, store, options);
}

/** How much of an archive has come, as it came: as one stream, or as members. */
interface Came {
  bytes: number;
  readonly isOfMembers: boolean;
}

async function takeMembers(members: AsyncIterable<ArchiveMember>, came: Came, store: Store, options: ImportImagesOptions): Promise<ImportedImages> {
  using stop = linkSignal(options.signal);
  const reading = new ArchiveImport(came, store, stop, options);
  try {
    for await (const member of abortable(members, stop.signal)) await reading.take(member);
    return await reading.finish();
  } catch (error) {
    stop.abort(error);
    throw stop.signal.reason;
  }
}

class ArchiveImport {
  readonly #store: Store;
  readonly #work: StoreWork;
  readonly #uploader: BlobUploader;
  readonly #stop: LinkedSignal;
  readonly #signal: AbortSignal;
  readonly #options: ImportImagesOptions;
  readonly #members = new Map<string, ReadMember | { readonly target: string }>();
  readonly #layers = new Map<OciDigest, ImportedLayer>();
  readonly #came: Came;
  #jsonBytes = 0;
  #layerBytes = 0;
  #madeBytes = 0;

  constructor(came: Came, store: Store, stop: ReturnType<typeof linkSignal>, options: ImportImagesOptions) {
    this.#came = came;
    this.#store = store;
    this.#work = store.begin();
    this.#uploader = new BlobUploader(this.#work.blobs, stop, { tallyBy: store.blobs });
    this.#stop = stop;
    this.#signal = stop.signal;
    this.#options = options;
  }

  async take(member: ArchiveMember): Promise<void> {
    if (this.#members.size >= MAX_MEMBERS) throw new NarborError("ERR_LIMIT", `Cannot take the image: its archive has more than ${MAX_MEMBERS} files`);
    this.#members.set(member.path, member.type === "link" ? { target: member.target } : await this.#read(member));
  }

  async finish(): Promise<ImportedImages> {
    const resolved = resolveImages(this.#members);
    const images = nameImages(resolved, this.#options.name);
    const configs = new Map<OciDigest, BlobRef>();
    // They are no layer's.
    this.#uploader.tally = { newBytes: 0, sharedBytes: 0 };
    for (const { id, config } of resolved) configs.set(id, await this.#uploader.addWhole(config));
    await this.#uploader.join();
    const named = [...images].map(([name, list]): NamedImages => ({ name, images: list.map((image) => toRecord(image, configs)) }));
    await this.#work.commit({ signal: this.#signal });
    await putImages(named, this.#store, { signal: this.#signal });
    return { images: named, layers: this.#layers };
  }

  async #read({ path, size, contents }: ArchiveMember & { readonly type: "file" }): Promise<ReadMember> {
    const archive = new WatchedSource(contents, this.#came.isOfMembers ? this.#came : undefined);
    const reader = new SourceReader(archive, this.#signal);
    try {
      const codec = layerCodec(await reader.peek(HEAD_BYTES));
      const known = codec && (await this.#findByName(path));
      if (codec === "none" && known === undefined) {
        // Its digest is the diffID, which is taken anyway.
        const layer = await this.#readLayer(rest(reader), codec);
        archive.throwIfFailed();
        return layer instanceof Error ? { size, layer } : { digest: layer.diffId, size, layer };
      }
      const file = new Sha256Tap();
      let bytes: Uint8Array | undefined;
      let layer: LayerRecord | Error | undefined;
      if (codec !== undefined && known === undefined) layer = await this.#readLayer(file.through(rest(reader)), codec);
      else if (codec === undefined && size <= MAX_JSON_BYTES && (this.#jsonBytes += size) <= MAX_JSON_BYTES_IN_ALL) bytes = await collectBytes(file.through(rest(reader)), size, JSON.stringify(path));
      archive.throwIfFailed();
      // What was not looked at, or not any more.
      for await (const left of file.through(rest(reader))) this.#allow(left.length);
      const digest: OciDigest = `sha256:${toHex(file.digest())}`;
      if (known !== undefined) layer = path.endsWith(digest.slice("sha256:".length)) ? this.#takeKnown(known) : new NarborError("ERR_MISMATCH", `its bytes have SHA-256 ${digest}`);
      return { digest, size: file.size, ...(bytes && { bytes }), ...(layer && { layer }) };
    } finally {
      await reader.close();
    }
  }

  #takeKnown(layer: LayerRecord): LayerRecord {
    this.#tell(layer.size);
    this.#add(layer, { newBytes: 0, sharedBytes: layer.size });
    return layer;
  }

  /** A layer, or why it is none; only a manifest that names it makes that an error. */
  async #readLayer(content: AsyncIterable<Uint8Array>, codec: Codec): Promise<LayerRecord | Error> {
    const tally: BlobTally = { newBytes: 0, sharedBytes: 0 };
    this.#uploader.tally = tally;
    try {
      const inner = codec === "none" ? content : decompress(content, { codec, signal: this.#signal, maxOutputBytes: this.#bytesLeft(), aheadBytes: AHEAD_BYTES });
      const { sha256, directories, ...tar } = await ingestTar(this.#counted(inner), {
        uploader: this.#uploader,
        directorySizeProfile: await this.#store.directorySizeProfile({ signal: this.#signal }),
        // Holes are not in the archive, and are hashed like everything else.
        maxFileBytes: this.#bytesLeft(),
        onEntry: ({ size, storedSize }) => this.#allow(size - storedSize),
      });
      using closure = new ClosureUpload(this.#work.directories, this.#stop);
      await closure.finish(directories);
      const layer: LayerRecord = { diffId: `sha256:${toHex(sha256)}`, ...tar };
      this.#add(layer, tally);
      return layer;
    } catch (error) {
      if (isNarborError(error, "ERR_TAR_INVALID", "ERR_COMPRESSION_INVALID", "ERR_COMPRESSION_UNSUPPORTED")) return error;
      throw error;
    }
  }

  /** In a layout that names files by their digests, a layer that is known need only be hashed. */
  async #findByName(path: string): Promise<LayerRecord | undefined> {
    const [hex] = /(?<=^blobs\/sha256\/)[0-9a-f]{64}$/.exec(path) ?? [];
    const options = { signal: this.#signal };
    const layer = hex === undefined ? undefined : await findLayer(`sha256:${hex}`, this.#store, options);
    // Where layers are noted is not always where their blobs are, and that may have lost them.
    return layer !== undefined && (await this.#store.blobs.findMissing([layer.recipe.digest], options)).length === 0 ? layer : undefined;
  }

  #add(layer: LayerRecord, tally: BlobTally): void {
    this.#layers.set(layer.diffId, { layer, tally });
    this.#options.onProgress?.({ layerBytes: this.#layerBytes, layers: this.#layers.size });
  }

  async *#counted(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of source) {
      this.#allow(bytes.length);
      this.#tell(bytes.length);
      yield bytes;
    }
  }

  /** Hold what is made of the archive against what has come of it: a few kB may tell of any number of zeros. */
  #allow(bytes: number): void {
    this.#madeBytes += bytes;
    if (this.#madeBytes <= FREE_BYTES + MAX_RATIO * this.#came.bytes) return;
    throw new NarborError("ERR_LIMIT", `Cannot take the image: the ${this.#came.bytes} bytes of its archive that have come would become more than ${FREE_BYTES} bytes and ${MAX_RATIO} times as many`);
  }

  #tell(bytes: number): void {
    this.#layerBytes += bytes;
    this.#options.onProgress?.({ layerBytes: this.#layerBytes, layers: this.#layers.size });
  }

  #bytesLeft(): number {
    return (this.#options.maxBytes ?? DEFAULT_MAX_BYTES) - this.#layerBytes;
  }
}

/** The archive's bytes, which may fail: that is not the fault of the layer that is read from them. */
class WatchedSource implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #came: Came | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param came where its bytes count, if anywhere */
  constructor(source: AsyncIterable<Uint8Array>, came: Came | undefined) {
    this.#source = source;
    this.#came = came;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const bytes of this.#source) {
        if (this.#came !== undefined) this.#came.bytes += bytes.length;
        yield bytes;
      }
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

async function* inflate(source: AsyncIterable<Uint8Array>, came: Came, { signal, maxBytes = DEFAULT_MAX_BYTES }: ImportImagesOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = new SourceReader(source, signal);
  try {
    const head = await reader.peek(HEAD_BYTES);
    if (head.length === 0) throw new NarborError("ERR_IMAGE_INVALID", "Cannot read the image: the input is empty");
    yield* decompress(rest(reader, came), { codec: detectCodec(head) ?? "none", signal, maxOutputBytes: maxBytes, aheadBytes: AHEAD_BYTES });
  } finally {
    await reader.close();
  }
}

/** @param came where they count, if anywhere */
async function* rest(reader: SourceReader, came?: Came): AsyncGenerator<Uint8Array, void, undefined> {
  for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) {
    if (came !== undefined) came.bytes += bytes.length;
    yield bytes;
  }
}

/** How a layer is compressed, or undefined for a file that begins neither like a compressed one nor like a tar archive. */
function layerCodec(head: Uint8Array): Codec | undefined {
  const codec = detectCodec(head);
  if (codec === "gzip" || codec === "zstd") return codec;
  return head.length === HEAD_BYTES && isTarHead(head) ? "none" : undefined;
}

/** Every tar archive since 1988 says so; of an older one the checksum tells, and the empty one is all zeros. */
function isTarHead(head: Uint8Array): boolean {
  const [magic] = TAR_FIELD.magic;
  if (asBuffer(head).toString("latin1", magic, magic + "ustar".length) === "ustar") return true;
  try {
    parseTarHeader({ bytes: head, start: 0, position: 0 });
    return true;
  } catch {
    return false;
  }
}

function nameImages(images: readonly ResolvedImage[], name: string | undefined): ReadonlyMap<string, readonly ResolvedImage[]> {
  const named = new Map<string, ResolvedImage[]>();
  if (name !== undefined && new Set(images.map(({ platform }) => platform)).size < images.length) {
    throw new NarborError("ERR_INVALID", `Cannot name the image ${JSON.stringify(name)}: its archive holds ${images.length} images of the same platform`);
  }
  for (const image of images) {
    const names = name !== undefined ? [name] : image.names.length > 0 ? image.names.map(familiarName) : [image.id];
    for (const each of names) {
      if (each !== image.id && !isImageName(each)) throw new NarborError("ERR_IMAGE_INVALID", `Cannot take the image ${image.id}: ${JSON.stringify(each)} is no name for an image`);
      if (named.size >= MAX_NAMES) throw new NarborError("ERR_LIMIT", `Cannot take the images: they have more than ${MAX_NAMES} names`);
      named.set(each, [...(named.get(each) ?? []).filter(({ platform }) => platform !== image.platform), image]);
    }
  }
  return named;
}

function toRecord({ id, platform, layers, config }: ResolvedImage, configs: ReadonlyMap<OciDigest, BlobRef>): ImageRecord {
  return { id, platform, layers, config: configs.get(id) ?? toSmallBlob(config) };
}


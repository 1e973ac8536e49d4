/** An OCI layout as a directory, which several images may share: what is there already is not made again. */
import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readdir, rename, stat, unlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { collectBytes } from "../bytes/collect.ts";
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import { mapItems } from "../concurrency/map-items.ts";
import { errorMessage, isNarborError, NarborError } from "../errors.ts";
import type { DescribedImage, ImageArchiveOptions, ImageSummary } from "./image-archive.ts";
import { blobPath, distinct, ociFiles, passLayer, sameLayer, summaryOf } from "./image-archive.ts";
import type { ImageSource, LayerSource } from "./image-source.ts";
import type { LayerDescriptor, LayerServices } from "./layer-digests.ts";
import { LayerDigests } from "./layer-digests.ts";

/** Of an index that others have written: some tens of thousands of images. */
const MAX_INDEX_BYTES = 16 * 1024 * 1024;

/** What was written to a layout. */
export interface WrittenLayout extends ImageSummary {
  readonly writtenBytes: number;
  /** Layers that were made, and those that were there. */
  readonly newLayers: number;
  readonly presentLayers: number;
}

const NAME = "org.opencontainers.image.ref.name";

/**
 * Put images into the layout in `directory`, beside those that are there under other names. Whatever it is cut off by, the layout holds whole blobs, and its
 * index the images that it held before, or these too.
 *
 * @throws NarborError ERR_INVALID for a directory that is something else, ERR_DATA_LOSS; what the filesystem does
 */
export async function writeLayout(directory: string, images: readonly ImageSource[], services: LayerServices, { name, compression, isToBeVerified, ...options }: ImageArchiveOptions): Promise<WrittenLayout> {
  const before = await readIndex(directory);
  const digests = new LayerDigests(services, compression, options, isToBeVerified);
  const layout = new Layout(directory, options.signal);
  const described = new Map<LayerSource, LayerDescriptor>();
  let newLayers = 0;
  for (const layer of distinct(images)) {
    const known = await digests.find(layer);
    if (known !== undefined && (await layout.has(known))) {
      await digests.confirm(layer, known);
      described.set(layer, known);
    } else {
      described.set(layer, await layout.addLayer(layer, digests));
      newLayers++;
    }
  }
  const all = images.map((image): DescribedImage => ({ image, layers: image.layers.map((layer) => described.get(sameLayer(layer, described.keys())) as LayerDescriptor) }));
  const { files, manifestDigest } = ociFiles(all, name, compression.codec);
  // The index comes last of them.
  for (const { path, bytes } of files) await layout.add(path, path === "index.json" ? mergeIndex(before, bytes) : bytes);
  return { manifestDigest, platforms: summaryOf(all), writtenBytes: layout.writtenBytes, newLayers, presentLayers: described.size - newLayers };
}

class Layout {
  readonly #directory: string;
  readonly #signal: AbortSignal | undefined;
  writtenBytes = 0;

  constructor(directory: string, signal: AbortSignal | undefined) {
    this.#directory = directory;
    this.#signal = signal;
  }

  async has({ digest, size }: LayerDescriptor): Promise<boolean> {
    const found = await stat(join(this.#directory, blobPath(digest))).catch(() => undefined);
    return found?.isFile() === true && found.size === size;
  }

  /** A layer gets its name, which is its digest, when it is whole. */
  async addLayer(layer: LayerSource, digests: LayerDigests): Promise<LayerDescriptor> {
    let descriptor: LayerDescriptor | undefined;
    async function* pieces(): AsyncGenerator<StreamPiece, void, undefined> {
      descriptor = yield* passLayer(layer, digests);
    }
    await this.#write(async (temporary) => {
      await pipeline(mapItems(pieces(), bytesOf), createWriteStream(temporary, { flags: "wx" }), { signal: this.#signal });
      return blobPath((descriptor as LayerDescriptor).digest);
    });
    return descriptor as LayerDescriptor;
  }

  async add(path: string, bytes: Uint8Array): Promise<void> {
    this.#signal?.throwIfAborted();
    await this.#write(async (temporary) => {
      await writeFile(temporary, bytes, { flag: "wx" });
      return path;
    });
  }

  /** @param fill writes the file, and says where it belongs */
  async #write(fill: (temporary: string) => Promise<string>): Promise<void> {
    const temporary = join(this.#directory, "blobs", "sha256", `.${randomBytes(6).toString("hex")}.tmp`);
    await mkdir(dirname(temporary), { recursive: true });
    try {
      const path = await fill(temporary);
      this.writtenBytes += (await stat(temporary)).size;
      await rename(temporary, join(this.#directory, path));
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw namingDirectory(this.#directory, error);
    }
  }
}

/** What the system says of a write, with where that was and the system's code, by which a command ends; anything else as it is. */
function namingDirectory(directory: string, error: unknown): unknown {
  const code = error instanceof Error && "syscall" in error && "code" in error ? error.code : undefined;
  return code === undefined ? error : Object.assign(new Error(`Cannot write to ${JSON.stringify(directory)}: ${errorMessage(error)}`, { cause: error }), { code });
}

interface RawIndex {
  readonly manifests: readonly { readonly digest?: unknown; readonly annotations?: Readonly<Record<string, unknown>> | null }[];
}

/** The index of a layout that is there; undefined for a directory that is not there, or empty. */
async function readIndex(directory: string): Promise<RawIndex | undefined> {
  const names: readonly string[] = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  if (names.length === 0) return undefined;
  const cannot = `Cannot write an OCI layout to ${JSON.stringify(directory)}`;
  // One that was begun has nothing else.
  if (!names.includes("index.json")) {
    if (names.every((found) => found === "blobs" || found === "oci-layout")) return undefined;
    throw new NarborError("ERR_INVALID", `${cannot}: it holds ${JSON.stringify(names[0])}, and is no layout`);
  }
  try {
    const text = await collectBytes(createReadStream(join(directory, "index.json")), MAX_INDEX_BYTES, "index.json");
    const index = JSON.parse(Buffer.from(text).toString()) as RawIndex;
    if (Array.isArray(index.manifests)) return index;
  } catch (error) {
    throw new NarborError("ERR_INVALID", `${cannot}: its index.json is ${isNarborError(error, "ERR_LIMIT") ? "too large" : "not JSON"}`, { cause: error });
  }
  throw new NarborError("ERR_INVALID", `${cannot}: its index.json is no index`);
}

/** Ours, and those of before that have another name. */
function mergeIndex(before: RawIndex | undefined, ours: Uint8Array): Uint8Array {
  if (before === undefined) return ours;
  const index = JSON.parse(Buffer.from(ours).toString()) as RawIndex;
  const names = new Set(index.manifests.map(({ annotations }) => annotations?.[NAME]));
  const digests = new Set(index.manifests.map(({ digest }) => digest));
  const others = before.manifests.filter(({ digest, annotations }) => {
    const name = annotations?.[NAME];
    return name === undefined ? !digests.has(digest) : !names.has(name);
  });
  return Buffer.from(JSON.stringify({ ...index, manifests: [...others, ...index.manifests] }));
}

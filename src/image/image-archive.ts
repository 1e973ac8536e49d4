/** Images out: the archives that docker, podman, containerd, skopeo and crane read, in one pass and without anything in between. */
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import { toHex } from "../bytes/text-encoding.ts";
import { mapItems } from "../concurrency/map-items.ts";
import { Semaphore } from "../concurrency/semaphore.ts";
import { NarborError } from "../errors.ts";
import { sha256 } from "../hash/sha256.ts";
import { TAR_END, encodeTarHeader, tarPadding } from "../tar/tar-encoder.ts";
import { repoTags } from "./image-name.ts";
import type { ImageSource, LayerSource } from "./image-source.ts";
import type { LayerCompression, LayerDescriptor, LayerDigestsOptions, LayerServices } from "./layer-digests.ts";
import { LayerDigests } from "./layer-digests.ts";
import type { OciDigest } from "./oci-schema.ts";

export type ImageFormat = "docker" | "oci";

export interface ImageArchiveOptions extends LayerDigestsOptions {
  /** Such as `hello:latest`; undefined for an image without a name. */
  readonly name: string | undefined;
  /** Of the layers of an OCI layout. A docker archive has them uncompressed, to be compressed as a whole. */
  readonly compression: LayerCompression;
  /** See LayerDigests. */
  readonly isToBeVerified?: () => boolean;
}

/** What an archive turned out to hold. */
export interface ImageSummary {
  /** Of the OCI manifest, or of the index when there are several platforms; undefined for docker's format, which has none. */
  readonly manifestDigest: OciDigest | undefined;
  readonly platforms: readonly { readonly platform: string; readonly id: OciDigest; readonly layers: readonly LayerDescriptor[] }[];
}

const MEDIA_TYPE = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: { none: "application/vnd.oci.image.layer.v1.tar", gzip: "application/vnd.oci.image.layer.v1.tar+gzip", zstd: "application/vnd.oci.image.layer.v1.tar+zstd" },
} as const;
/** Of a layer whose digest is not known yet, and must stand before it, in bytes when it is compressed: a larger one is rendered twice, unless its digest is remembered. */
const HELD_LAYER_BYTES = 128 * 1024 * 1024;
/** The same of all archives that are written at once. */
const heldBytes = new Semaphore(256 * 1024 * 1024);
const UNKNOWN: OciDigest = `sha256:${"0".repeat(64)}`;

/** Bytes of an archive of uncompressed layers, which are the same whatever their digests are. */
export async function imageArchiveSize(images: readonly ImageSource[], format: ImageFormat, name: string | undefined): Promise<number> {
  const layers = await sizesOf(distinct(images));
  const described = await Promise.all((format === "docker" ? [onlyImage(images)] : images).map(uncompressed));
  const [first] = described;
  const files = format === "docker" && first !== undefined ? dockerFiles(first, name) : ociFiles(described, name, "none").files;
  const sizes = [...layers, ...files.map(({ bytes }) => bytes.length)];
  // Every path is short enough for a header without anything before it, unless a layer is of 8 GiB.
  const headers = [...layers.map((size, index) => headerOf(layerPath(index), size).length), ...files.map(({ path, bytes }) => headerOf(path, bytes.length).length)];
  return [...headers, ...sizes.map((size) => size + tarPadding(size).length)].reduce((sum, length) => sum + length, TAR_END.length);
}

/** Uncompressed bytes of all layers of an archive. A layer that is rendered twice counts once. */
export async function layerBytes(images: readonly ImageSource[]): Promise<number> {
  return (await sizesOf(distinct(images))).reduce((sum, size) => sum + size, 0);
}

async function sizesOf(layers: readonly LayerSource[]): Promise<readonly number[]> {
  const sizes: number[] = [];
  for (const layer of layers) sizes.push(await layer.size());
  return sizes;
}

/** Write an image for docker. Layers are named by their number, since their digests are known when they have passed. */
export async function* dockerArchive(images: readonly ImageSource[], services: LayerServices, { name, ...options }: ImageArchiveOptions): AsyncGenerator<StreamPiece, ImageSummary, undefined> {
  const image = onlyImage(images);
  const digests = new LayerDigests(services, { codec: "none", level: undefined }, options);
  const described = new Map<LayerSource, LayerDescriptor>();
  for (const [index, layer] of distinct([image]).entries()) {
    const size = await layer.size();
    yield headerOf(layerPath(index), size);
    described.set(layer, yield* passLayer(layer, digests));
    yield tarPadding(size);
  }
  const layers = image.layers.map((layer) => described.get(sameLayer(layer, described.keys())) as LayerDescriptor);
  for (const file of dockerFiles({ image, layers }, name)) yield* fileBytes(file);
  yield TAR_END;
  return { manifestDigest: undefined, platforms: [{ platform: image.platform, id: digestOf(image.config(layers.map(({ diffId }) => diffId))), layers }] };
}

/** Write an OCI layout. */
export async function* ociArchive(images: readonly ImageSource[], services: LayerServices, { name, compression, ...options }: ImageArchiveOptions): AsyncGenerator<Uint8Array, ImageSummary, undefined> {
  const digests = new LayerDigests(services, compression, options);
  const described = new Map<LayerSource, LayerDescriptor>();
  for (const layer of distinct(images)) described.set(layer, yield* layerFile(layer, digests));
  const all = images.map((image): DescribedImage => ({ image, layers: image.layers.map((layer) => described.get(sameLayer(layer, described.keys())) as LayerDescriptor) }));
  const { files, manifestDigest } = ociFiles(all, name, compression.codec);
  for (const file of files) yield* fileBytes(file);
  yield TAR_END;
  return { manifestDigest, platforms: summaryOf(all) };
}

/** What an archive would hold, without making it, as far as that is remembered. */
export async function describeImages(images: readonly ImageSource[], services: LayerServices, { name, compression, isToBeVerified, ...options }: ImageArchiveOptions): Promise<ImageSummary & { readonly manifests: readonly Uint8Array[] }> {
  const digests = new LayerDigests(services, compression, options, isToBeVerified);
  const all: DescribedImage[] = [];
  for (const image of images) {
    const layers: LayerDescriptor[] = [];
    for (const layer of image.layers) layers.push(await digests.compute(layer));
    all.push({ image, layers });
  }
  const { manifestDigest, manifests } = ociFiles(all, name, compression.codec);
  return { manifestDigest, manifests, platforms: summaryOf(all) };
}

/** A layer on its way, and its digests. */
export async function* passLayer(layer: LayerSource, digests: LayerDigests): AsyncGenerator<StreamPiece, LayerDescriptor, undefined> {
  const begun = performance.now();
  const rendering = digests.render(layer);
  yield* rendering.bytes;
  const found = rendering.digests();
  await digests.remember(layer, found, (performance.now() - begun) / 1000);
  return found;
}

/** A layer's file, which is named by its digest: it must be known before the first byte goes out. */
async function* layerFile(layer: LayerSource, digests: LayerDigests): AsyncGenerator<Uint8Array, LayerDescriptor, undefined> {
  // A smaller one is rendered once whether its digest is remembered or not.
  const known = digests.isNamed(layer) || (await layer.size()) > HELD_LAYER_BYTES ? await digests.find(layer) : undefined;
  if (known !== undefined) return yield* knownFile(layer, known, digests);
  const file = new HeldFile();
  try {
    const passing = passLayer(layer, digests);
    let result = await passing.next();
    for (; result.done !== true; result = await passing.next()) file.add(bytesOf(result.value));
    if (file.pieces === undefined) return yield* knownFile(layer, result.value, digests);
    yield headerOf(blobPath(result.value.digest), result.value.size);
    yield* file.pieces;
    yield tarPadding(result.value.size);
    return result.value;
  } finally {
    file.drop();
  }
}

async function* knownFile(layer: LayerSource, known: LayerDescriptor, digests: LayerDigests): AsyncGenerator<Uint8Array, LayerDescriptor, undefined> {
  yield headerOf(blobPath(known.digest), known.size);
  yield* mapItems(digests.renderKnown(layer, known), bytesOf);
  yield tarPadding(known.size);
  return known;
}

/** A compressed layer in memory, as long as there is room for it. */
class HeldFile {
  pieces: Uint8Array[] | undefined = [];
  readonly #releases: (() => void)[] = [];
  #size = 0;

  add(piece: Uint8Array): void {
    if (this.pieces === undefined) return;
    this.#size += piece.length;
    const release = this.#size > HELD_LAYER_BYTES ? undefined : heldBytes.tryAcquire(piece.length);
    if (release === undefined) {
      this.drop();
      return;
    }
    this.#releases.push(release);
    this.pieces.push(piece);
  }

  drop(): void {
    this.pieces = undefined;
    for (const release of this.#releases.splice(0)) release();
  }
}

export interface DescribedImage {
  readonly image: ImageSource;
  readonly layers: readonly LayerDescriptor[];
}

interface ArchiveFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

function dockerFiles({ image, layers }: DescribedImage, name: string | undefined): readonly ArchiveFile[] {
  const different = distinct([image]);
  const paths = image.layers.map((layer) => layerPath(different.indexOf(sameLayer(layer, different))));
  const manifest = [{ Config: "config.json", RepoTags: name === undefined ? null : repoTags(name), Layers: paths }];
  return [{ path: "config.json", bytes: image.config(layers.map(({ diffId }) => diffId)) }, json("manifest.json", manifest)];
}

export function ociFiles(images: readonly DescribedImage[], name: string | undefined, codec: LayerCompression["codec"]): { readonly files: readonly ArchiveFile[]; readonly manifestDigest: OciDigest; readonly manifests: readonly Uint8Array[] } {
  const configs = images.map(({ image, layers }) => image.config(layers.map(({ diffId }) => diffId)));
  const manifests = images.map(({ layers }, index) => {
    const config = configs[index] as Uint8Array;
    return jsonBytes({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.manifest,
      config: { mediaType: MEDIA_TYPE.config, digest: digestOf(config), size: config.length },
      layers: layers.map(({ digest, size }) => ({ mediaType: MEDIA_TYPE.layer[codec], digest, size })),
    });
  });
  const descriptors = images.map(({ image }, index) => {
    const manifest = manifests[index] as Uint8Array;
    const [os, architecture, variant] = image.platform.split("/");
    return { mediaType: MEDIA_TYPE.manifest, digest: digestOf(manifest), size: manifest.length, platform: { architecture, os, ...(variant !== undefined && { variant }) } };
  });
  const index = jsonBytes({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: descriptors });
  const [only] = descriptors;
  const top = descriptors.length === 1 && only !== undefined ? only : { mediaType: MEDIA_TYPE.index, digest: digestOf(index), size: index.length };
  const annotations = name === undefined ? undefined : { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name };
  const files = [
    ...uniquely([...configs, ...manifests, ...(descriptors.length === 1 ? [] : [index])]).map((bytes) => ({ path: blobPath(digestOf(bytes)), bytes })),
    json("oci-layout", { imageLayoutVersion: "1.0.0" }),
    json("index.json", { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [{ ...top, ...(annotations && { annotations }) }] }),
  ];
  return { files, manifestDigest: top.digest, manifests };
}

export function summaryOf(images: readonly DescribedImage[]): ImageSummary["platforms"] {
  return images.map(({ image, layers }) => ({ platform: image.platform, id: digestOf(image.config(layers.map(({ diffId }) => diffId))), layers }));
}

/** A layer may stand in an image, or in several, more than once, and its file only once in an archive. */
export function distinct(images: readonly ImageSource[]): readonly LayerSource[] {
  const layers = images.flatMap((image) => image.layers);
  return layers.filter((layer, index) => layers.indexOf(sameLayer(layer, layers)) === index);
}

/** The first of `layers` that is the same one. */
export function sameLayer(layer: LayerSource, layers: Iterable<LayerSource>): LayerSource {
  for (const other of layers) if (other === layer || (layer.diffId !== undefined && other.diffId === layer.diffId)) return other;
  return layer;
}

function onlyImage(images: readonly ImageSource[]): ImageSource {
  const [image] = images;
  if (image !== undefined && images.length === 1) return image;
  throw new NarborError("ERR_INVALID", `Cannot export an image for docker: it has ${images.length} platforms (${images.map(({ platform }) => platform).join(", ")}), and the format knows none; choose one, or the OCI format`);
}

/** An image of uncompressed layers before their digests are known. */
async function uncompressed(image: ImageSource): Promise<DescribedImage> {
  const sizes = await sizesOf(image.layers);
  return { image, layers: image.layers.map(({ diffId = UNKNOWN }, index) => ({ diffId, digest: diffId, size: sizes[index] ?? 0 })) };
}

function uniquely(files: readonly Uint8Array[]): readonly Uint8Array[] {
  return [...new Map(files.map((bytes) => [digestOf(bytes), bytes])).values()];
}

function* fileBytes({ path, bytes }: ArchiveFile): Generator<Uint8Array, void, undefined> {
  yield headerOf(path, bytes.length);
  yield bytes;
  yield tarPadding(bytes.length);
}

function headerOf(path: string, size: number): Uint8Array {
  return encodeTarHeader({ kind: "file", path: Buffer.from(path), size, mode: 0o444 });
}

function layerPath(index: number): string {
  return `layers/${String(index + 1).padStart(4, "0")}.tar`;
}

export function blobPath(digest: OciDigest): string {
  return `blobs/sha256/${digest.slice("sha256:".length)}`;
}

function json(path: string, value: unknown): ArchiveFile {
  return { path, bytes: jsonBytes(value) };
}

function jsonBytes(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

function digestOf(bytes: Uint8Array): OciDigest {
  return `sha256:${toHex(sha256(bytes))}`;
}

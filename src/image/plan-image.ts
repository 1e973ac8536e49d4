/** Images out: the archives that docker, podman, skopeo and crane read, made of recipes and blobs without anything in between. */
import { toHex } from "../bytes/text-encoding.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { Segment } from "../castore/recipe.ts";
import { readRecipe } from "../castore/recipe.ts";
import { NarborError } from "../errors.ts";
import { sha256 } from "../hash/sha256.ts";
import { loadRecipe } from "../render/render-recipe.ts";
import type { ReadBlobs, RenderPlan } from "../render/segments.ts";
import { planSegments } from "../render/segments.ts";
import { TAR_END, encodeTarHeader, tarPadding } from "../tar/tar-encoder.ts";
import type { ImageRecord, LayerRecord, NamedImages } from "./image-record.ts";
import type { OciDigest } from "./oci-schema.ts";

export type ImageFormat = "docker" | "oci";

export interface PlannedImage {
  readonly plan: RenderPlan;
  /** Of the OCI manifest, or of the index when there are several platforms; undefined for docker's format, which has none. */
  readonly digest: OciDigest | undefined;
}

export const MEDIA_TYPE = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
} as const;

/** A file of the archive: its bytes, one blob, or a layer. */
interface ArchiveFile {
  readonly path: string;
  readonly content: Uint8Array | BlobRef | LayerRecord;
}

/**
 * Look up all that an image's archive needs.
 *
 * @param images one of them for docker's format, which knows no platforms
 * @throws NarborError ERR_INVALID for several platforms in docker's format, ERR_DATA_LOSS when something is not stored any more
 */
export async function planImage(images: NamedImages, format: ImageFormat, blobs: ReadBlobs, options?: CallOptions): Promise<PlannedImage> {
  const { files, digest } = format === "docker" ? dockerFiles(images) : ociFiles(images);
  const recipes = new Map<LayerRecord, Uint8Array>();
  for (const { content } of files) {
    if (isLayer(content)) recipes.set(content, await loadRecipe(content.recipe, blobs, options));
  }
  const plan = await planSegments(() => tarSegments(files, recipes), blobs, "ERR_DATA_LOSS", options);
  return { plan, digest };
}

function* tarSegments(files: readonly ArchiveFile[], recipes: ReadonlyMap<LayerRecord, Uint8Array>): Generator<Segment, void, undefined> {
  for (const { path, content } of files) {
    const size = content instanceof Uint8Array ? content.length : content.size;
    yield encodeTarHeader({ kind: "file", path: Buffer.from(path), size, mode: 0o444 });
    if (isLayer(content)) yield* readRecipe(recipes.get(content) ?? new Uint8Array(0), size);
    else yield content;
    yield tarPadding(size);
  }
  yield TAR_END;
}

function dockerFiles({ name, images }: NamedImages): { readonly files: readonly ArchiveFile[]; readonly digest: undefined } {
  const [image] = images;
  if (image === undefined || images.length > 1) {
    throw new NarborError("ERR_INVALID", `Cannot export ${name} for docker: it has ${images.length} platforms (${images.map(({ platform }) => platform).join(", ")}), and the format knows none; choose one, or the OCI format`);
  }
  const configPath = `${hexOf(image.id)}.json`;
  const layerPath = ({ diffId }: LayerRecord): string => `${hexOf(diffId)}.tar`;
  const layers = image.layers.map(({ layer }) => layer);
  const manifest = [{ Config: configPath, RepoTags: name === image.id ? null : [name], Layers: layers.map(layerPath) }];
  return {
    // A loader that goes by the manifest has it first.
    files: [json("manifest.json", manifest), { path: configPath, content: image.config }, ...distinct(layers).map((layer) => ({ path: layerPath(layer), content: layer }))],
    digest: undefined,
  };
}

function ociFiles({ name, images }: NamedImages): { readonly files: readonly ArchiveFile[]; readonly digest: OciDigest } {
  const manifests = images.map((image) => ({ image, file: blobFile(ociManifest(image)) }));
  const descriptors = manifests.map(({ image, file }) => ({ mediaType: MEDIA_TYPE.manifest, digest: file.digest, size: file.content.length, platform: platformJson(image.platform) }));
  const annotations = { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name };
  const inner = blobFile({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: descriptors });
  const [only] = descriptors;
  const top = images.length === 1 && only !== undefined ? only : { mediaType: MEDIA_TYPE.index, digest: inner.digest, size: inner.content.length };
  const isNamed = !images.some(({ id }) => id === name);
  const files: ArchiveFile[] = [
    json("oci-layout", { imageLayoutVersion: "1.0.0" }),
    json("index.json", { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [isNamed ? { ...top, annotations } : top] }),
    ...(images.length === 1 ? [] : [inner]),
    ...manifests.map(({ file }) => file),
    ...images.map(({ id, config }) => ({ path: blobPath(id), content: config })),
    ...distinct(images.flatMap(({ layers }) => layers.map(({ layer }) => layer))).map((layer) => ({ path: blobPath(layer.diffId), content: layer })),
  ];
  return { files, digest: top.digest };
}

function ociManifest({ id, config, layers }: ImageRecord): object {
  return {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: { mediaType: MEDIA_TYPE.config, digest: id, size: config.size },
    layers: layers.map(({ layer }) => ({ mediaType: MEDIA_TYPE.layer, digest: layer.diffId, size: layer.size })),
  };
}

function platformJson(platform: string): object {
  const [os, architecture, variant] = platform.split("/");
  return { architecture, os, ...(variant !== undefined && { variant }) };
}

function blobFile(value: object): { readonly path: string; readonly content: Uint8Array; readonly digest: OciDigest } {
  const content = Buffer.from(JSON.stringify(value));
  const digest: OciDigest = `sha256:${toHex(sha256(content))}`;
  return { path: blobPath(digest), content, digest };
}

function json(path: string, value: object): ArchiveFile {
  return { path, content: Buffer.from(JSON.stringify(value)) };
}

/** A layer may stand in an image more than once, and its file only once in an archive. */
function distinct(layers: readonly LayerRecord[]): readonly LayerRecord[] {
  return [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
}

function isLayer(content: ArchiveFile["content"]): content is LayerRecord {
  return "recipe" in content;
}

export function blobPath(digest: OciDigest): string {
  return `blobs/sha256/${hexOf(digest)}`;
}

function hexOf(digest: OciDigest): string {
  return digest.slice("sha256:".length);
}

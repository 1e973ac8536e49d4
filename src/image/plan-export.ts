/** What is given out, in any format: looked up beforehand, and then rendered, hashed, compressed and hashed again in one pass. */
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import { toHex } from "../bytes/text-encoding.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import type { Codec } from "../compression/codec.ts";
import { compress } from "../compression/compress.ts";
import { mapItems } from "../concurrency/map-items.ts";
import { NarborError } from "../errors.ts";
import { StreamedSha256 } from "../compression/streamed-sha256.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { formatStorePath, storePathHashPart } from "../nix/store-path.ts";
import { planNar } from "../render/render-nar.ts";
import { planTar } from "../render/render-tar.ts";
import { renderArchive, renderChunks } from "../render/segments.ts";
import { findClosure } from "../store/closure.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { Store } from "../store/store.ts";
import type { ImageFormat, ImageSummary } from "./image-archive.ts";
import { dockerArchive, imageArchiveSize, layerBytes, ociArchive } from "./image-archive.ts";
import { isImageName, repoTags } from "./image-name.ts";
import type { NamedImages } from "./image-record.ts";
import type { ImageSource } from "./image-source.ts";
import { closureImage, importedImage } from "./image-source.ts";
import type { LayerCompression } from "./layer-digests.ts";
import type { WrittenLayout } from "./layout-directory.ts";
import { writeLayout } from "./layout-directory.ts";

export type ExportFormat = "nar" | "tar" | ImageFormat;
export type ExportCodec = Extract<Codec, "none" | "gzip" | "zstd" | "xz">;

export interface ExportOptions {
  readonly format: ExportFormat;
  readonly compression: ExportCodec;
  /** Of gzip and zstd. @default 6, and 1, as contents are stored unless told otherwise */
  readonly level?: number | undefined;
  /** A store path with all that it refers to. */
  readonly closure?: boolean | undefined;
  /** Of an image. @default the store path's name and hash */
  readonly name?: string | undefined;
  /** Of an image that is made. @default that of this machine */
  readonly platform?: string | undefined;
  /** Of an image that is made. @default 100 */
  readonly maxLayers?: number | undefined;
}

/** What was written. */
export interface WrittenArchive extends Partial<ImageSummary> {
  /** Bytes before compression as a whole. */
  readonly size: number;
  /** `sha256:…` before compression as a whole: a layer's diffID, when it is one. Of an image that is compressed as a whole no one needs it. */
  readonly uncompressedDigest?: string;
  readonly writtenBytes: number;
  /** `sha256:…` of what was written. */
  readonly digest: string;
}

/** An archive that can be given out, once. */
export interface PlannedExport {
  /** Bytes to be rendered: those of the archive before compression as a whole; of an OCI layout with compressed layers, whose own size no one knows, those of the layers. */
  readonly size: number;
  /** Bytes that go out, where that is known. */
  readonly outputSize: number | undefined;
  /** @param onBytes told how many bytes, of `size`, have passed */
  render(onBytes?: (bytes: number) => void): AsyncIterable<Uint8Array>;
  /** Instead of an archive: as a directory, where that is what the format is. Layers that are there are not made again. */
  readonly writeDirectory?: (directory: string, onBytes: (bytes: number) => void) => Promise<WrittenLayout>;
  /** When all has been rendered. */
  written(): Promise<WrittenArchive>;
}

const LEVELS = { gzip: { lowest: 1, highest: 9, usual: 6 }, zstd: { lowest: -7, highest: 19, usual: 1 } } as const;
const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, string>>> = { x64: "amd64", ia32: "386" };
/** Of images that are made here. */
export const DEFAULT_PLATFORM = `linux/${ARCHITECTURES[process.arch] ?? process.arch}`;
const PLATFORM = /^[\w.-]+\/[\w.-]+(\/[\w.-]+)?$/;
/** As dockerTools has it. */
export const DEFAULT_MAX_LAYERS = 100;
/** Docker takes no more. */
const MAX_LAYERS = 127;

/** @throws NarborError ERR_INVALID for options that do not go together, or that there are not */
export function checkExportOptions({ format, compression, level, closure, maxLayers, name, platform }: ExportOptions): void {
  if (name !== undefined && !(format === "docker" ? repoTags(name) !== null : isImageName(name))) throw invalid(`${JSON.stringify(name.slice(0, 200))} is no name for an image, such as hello:latest`);
  if (platform !== undefined && !PLATFORM.test(platform)) throw invalid(`${JSON.stringify(platform.slice(0, 200))} is no platform, such as linux/arm64 or linux/arm/v7`);
  if (format === "nar" && closure === true) throw invalid("a NAR holds one tree, a closure goes with tar, docker or oci");
  if (format === "oci" && compression === "xz") throw invalid("layers of an OCI layout are compressed with none, gzip or zstd");
  if (maxLayers !== undefined && !(Number.isInteger(maxLayers) && maxLayers >= 1 && maxLayers <= MAX_LAYERS)) throw invalid(`there are 1 to ${MAX_LAYERS} layers, found ${maxLayers}`);
  if (level === undefined) return;
  if (compression !== "gzip" && compression !== "zstd") throw invalid(`a level goes with gzip and zstd, not with ${compression}`);
  const { lowest, highest } = LEVELS[compression];
  if (!(Number.isInteger(level) && level >= lowest && level <= highest)) throw invalid(`the level of ${compression} is ${lowest} to ${highest}, found ${level}`);
}

/**
 * Look up all that it takes to give out a tree, a store path or a closure.
 *
 * @param path when the tree is a store path's
 * @throws NarborError ERR_INVALID, ERR_NOT_FOUND, ERR_DATA_LOSS
 */
export async function planExport(root: Node, path: PathInfo | undefined, options: ExportOptions, store: Store, callOptions: CallOptions = {}): Promise<PlannedExport> {
  checkExportOptions(options);
  const { format } = options;
  if (path === undefined && (options.closure === true || format === "docker" || format === "oci")) throw invalid("only a store path has a closure, or becomes an image");
  const paths = path === undefined ? [] : options.closure === true ? await findWholeClosure(path, store, callOptions) : [path];
  if (format === "docker" || format === "oci") return await planImages([closureImage(paths, store, closureOptions(options), callOptions)], { ...options, format, name: options.name ?? (path && imageNameOf(path)) }, store, callOptions);
  const trees = path === undefined ? [{ root, path: "" }] : paths.map(({ root: tree, storePath }) => ({ root: tree, path: formatStorePath(storePath).slice(1) }));
  const plan = format === "tar" ? await planTar(trees, store, callOptions) : await planNar(root, store, callOptions);
  const frameLevel = frameLevelOf(options);
  const render = (): AsyncGenerator<StreamPiece, void, undefined> => (frameLevel === undefined ? renderArchive(plan, store, callOptions) : renderChunks(plan, store, frameLevel, callOptions));
  return toExport(plan.size, render, options.compression, levelOf(options), callOptions);
}

/** Look up all that it takes to give out an image that was imported. @throws NarborError ERR_INVALID, ERR_NOT_FOUND, ERR_DATA_LOSS */
export async function planImageExport(named: NamedImages, options: ExportOptions & { readonly format: ImageFormat }, store: Store, callOptions: CallOptions = {}): Promise<PlannedExport> {
  checkExportOptions(options);
  // It may have been imported under a name that docker would not give; then it has none there.
  return await planImages(await importedImages(named, options.platform, store, callOptions), { ...options, name: options.name ?? nameOf(named) }, store, callOptions);
}

/** The images of a name, or the one for a platform. @throws NarborError ERR_NOT_FOUND */
export async function importedImages({ name, images }: NamedImages, platform: string | undefined, store: Store, callOptions: CallOptions): Promise<readonly ImageSource[]> {
  const chosen = images.filter((image) => platform === undefined || image.platform === platform);
  if (chosen.length === 0) throw new NarborError("ERR_NOT_FOUND", `${name} is not here for ${platform}, but for ${images.map((image) => image.platform).join(", ")}`);
  const sources: ImageSource[] = [];
  for (const image of chosen) sources.push(await importedImage(image, store, callOptions));
  return sources;
}

/** An image of a store path with all that it refers to. @throws NarborError ERR_NOT_FOUND, ERR_DATA_LOSS */
export async function imageOfClosure(path: PathInfo, options: Pick<ExportOptions, "platform" | "maxLayers">, store: Store, callOptions: CallOptions): Promise<ImageSource> {
  return closureImage(await findWholeClosure(path, store, callOptions), store, closureOptions(options), callOptions);
}

/** The name of imported images; undefined for those that have none. */
export function nameOf({ name, images }: NamedImages): string | undefined {
  return images.some(({ id }) => id === name) ? undefined : name;
}

/** As dockerTools does it: a path's name, and its hash as the tag. */
export function imageNameOf({ storePath: { name, digest } }: PathInfo): string {
  // Docker's names have no capitals, and begin and end with a letter or digit.
  return `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "") || "image"}:${storePathHashPart(digest)}`;
}

/** How layers of an OCI layout are compressed. */
export function layerCompression({ compression, level }: Pick<ExportOptions, "compression" | "level">): LayerCompression {
  return compression === "gzip" || compression === "zstd" ? { codec: compression, level: levelOf({ compression, level }) } : { codec: "none", level: undefined };
}

async function planImages(images: readonly ImageSource[], options: ExportOptions & { readonly format: ImageFormat }, store: Store, callOptions: CallOptions): Promise<PlannedExport> {
  const { format, name } = options;
  if (format === "docker") {
    return toExport(await imageArchiveSize(images, format, name), () => dockerArchive(images, store, { name, compression: { codec: "none", level: undefined }, outerLevel: frameLevelOf(options), ...callOptions }), options.compression, levelOf(options), callOptions, true);
  }
  const compression = layerCompression(options);
  let rendered = 0;
  let tell: ((bytes: number) => void) | undefined;
  const ociOptions = { name, compression, onRendered: (bytes: number) => tell?.((rendered += bytes)), ...callOptions };
  const isPlain = compression.codec === "none";
  const plan = toExport(await (isPlain ? imageArchiveSize(images, format, name) : layerBytes(images)), () => ociArchive(images, store, ociOptions), "none", undefined, callOptions);
  return {
    ...plan,
    outputSize: isPlain ? plan.size : undefined,
    render: (onBytes) => {
      if (isPlain) return plan.render(onBytes);
      tell = onBytes;
      return plan.render();
    },
    writeDirectory: async (directory, onBytes) => {
      tell = onBytes;
      return await writeLayout(directory, images, store, ociOptions);
    },
  };
}

/** @param isImage whether its layers have digests of their own, so that no one needs that of all of them before compression */
function toExport(size: number, begin: () => AsyncGenerator<StreamPiece, ImageSummary | void, undefined>, codec: ExportCodec, level: number | undefined, { signal }: CallOptions, isImage = false): PlannedExport {
  const output = new StreamedSha256();
  const archive = codec === "none" || isImage ? undefined : new Sha256Tap();
  let summary: Partial<ImageSummary> = {};
  let rendered = 0;
  async function* plain(onBytes: ((bytes: number) => void) | undefined): AsyncGenerator<StreamPiece, void, undefined> {
    const rendering = begin();
    try {
      let result = await rendering.next();
      for (; result.done !== true; result = await rendering.next()) {
        const bytes = bytesOf(result.value);
        rendered += bytes.length;
        archive?.update(bytes);
        onBytes?.(rendered);
        yield result.value;
      }
      summary = result.value ?? {};
    } finally {
      await rendering.return(undefined);
    }
  }
  return {
    size,
    outputSize: codec === "none" ? size : undefined,
    render: (onBytes) => output.through(codec === "none" ? mapItems(plain(onBytes), bytesOf) : (compress(plain(onBytes), codec, { signal, level }))),
    written: async () => {
      const digest = `sha256:${toHex(await output.digest())}`;
      const uncompressedDigest = codec === "none" ? digest : archive && `sha256:${toHex(archive.digest())}`;
      return { size: rendered, ...(uncompressedDigest !== undefined && { uncompressedDigest }), writtenBytes: output.size, digest, ...summary };
    },
  };
}

/** In the order of their names, so that an archive does not depend on how they were found. */
async function findWholeClosure(path: PathInfo, store: Store, { signal }: CallOptions): Promise<readonly PathInfo[]> {
  const closure = await findClosure([path], store, signal);
  const known = new Set(closure.map(({ storePath }) => formatStorePath(storePath)));
  const missing = closure.flatMap(({ references }) => references.map(formatStorePath)).find((reference) => !known.has(reference));
  if (missing !== undefined) throw new NarborError("ERR_NOT_FOUND", `Cannot export the closure: ${missing}, which it refers to, is not in the store`);
  return [...closure].sort((a, b) => (formatStorePath(a.storePath) < formatStorePath(b.storePath) ? -1 : 1));
}

function closureOptions({ platform = DEFAULT_PLATFORM, maxLayers = DEFAULT_MAX_LAYERS }: Pick<ExportOptions, "platform" | "maxLayers">): { readonly platform: string; readonly maxLayers: number } {
  return { platform, maxLayers };
}

/** What was asked for, or what is sensible. */
function levelOf({ compression, level }: Pick<ExportOptions, "compression" | "level">): number | undefined {
  return level ?? (compression === "gzip" || compression === "zstd" ? LEVELS[compression].usual : undefined);
}

/** That of frames of which the archive is going to be made. */
function frameLevelOf(options: Pick<ExportOptions, "compression" | "level">): number | undefined {
  return options.compression === "zstd" ? levelOf(options) : undefined;
}

function invalid(why: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot export that: ${why}`);
}

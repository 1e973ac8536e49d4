/** Images as archives, with what is known of them when they have been written. */
import { InvalidArgumentError } from "commander";
import type { CallOptions } from "../castore/call-options.ts";
import { NarborError } from "../errors.ts";
import type { ImageFormat, ImageSummary } from "../image/image-archive.ts";
import { dockerArchive, imageArchiveSize, ociArchive } from "../image/image-archive.ts";
import type { ImageSource } from "../image/image-source.ts";
import type { LayerCompression } from "../image/layer-digests.ts";
import { formatStorePath, storePathHashPart } from "../nix/store-path.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { Store } from "../store/store.ts";
import { findClosure } from "../transfer/pull-closure.ts";
import type { Archive, OutputOptions } from "./write-output.ts";
import { levelOf } from "./write-output.ts";

const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, string>>> = { x64: "amd64", ia32: "386" };
/** Of images that are made here. */
export const DEFAULT_PLATFORM = `linux/${ARCHITECTURES[process.arch] ?? process.arch}`;
/** As dockerTools has it; docker takes 127. */
export const DEFAULT_MAX_LAYERS = 100;
const MAX_LAYERS = 127;

export interface ImageOutputOptions extends Pick<OutputOptions, "compression" | "level"> {
  readonly format: ImageFormat;
  readonly name: string | undefined;
}

/** @throws NarborError ERR_INVALID for several platforms in docker's format */
export function imageArchiveOf(label: string, images: readonly ImageSource[], options: ImageOutputOptions, store: Store, callOptions: CallOptions): { readonly archive: Archive; readonly summary: () => Partial<ImageSummary> } {
  const { format, name, compression } = options;
  const isOci = format === "oci";
  const level = levelOf(options);
  const ofLayers = isOci ? layerCompression(compression, level) : { codec: "none" as const, level: undefined };
  const size = ofLayers.codec === "none" ? imageArchiveSize(images, format, name) : undefined;
  let summary: Partial<ImageSummary> = {};
  async function* bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    summary = yield* (isOci ? ociArchive : dockerArchive)(images, store, { name, compression: ofLayers, ...callOptions });
  }
  return { archive: { label, size, bytes: bytes(), codec: isOci ? "none" : compression, level }, summary: () => summary };
}

/** OCI layers are not compressed with anything else. */
export function layerCompression(codec: OutputOptions["compression"], level: number | undefined): LayerCompression {
  return codec === "gzip" || codec === "zstd" ? { codec, level } : { codec: "none", level: undefined };
}

/** In the order of their names, so that the archive does not depend on how they were found. */
export async function findWholeClosure(path: PathInfo, store: Store, { signal }: CallOptions): Promise<readonly PathInfo[]> {
  const closure = await findClosure([path], store, signal);
  const known = new Set(closure.map(({ storePath }) => formatStorePath(storePath)));
  const missing = closure.flatMap(({ references }) => references.map(formatStorePath)).find((reference) => !known.has(reference));
  if (missing !== undefined) throw new NarborError("ERR_NOT_FOUND", `Cannot export the closure: ${missing}, which it refers to, is not in the store`);
  return [...closure].sort((a, b) => (formatStorePath(a.storePath) < formatStorePath(b.storePath) ? -1 : 1));
}

/** As dockerTools does it: the path's name, and its hash as the tag. */
export function imageNameOf({ storePath: { name, digest } }: PathInfo): string {
  // Docker's names have no capitals, and begin and end with a letter or digit.
  return `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "") || "image"}:${storePathHashPart(digest)}`;
}

export function parseLayers(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > MAX_LAYERS) throw new InvalidArgumentError(`It is a number from 1 to ${MAX_LAYERS}.`);
  return number;
}

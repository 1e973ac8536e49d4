/** Images of closures: one layer for each of the store paths that most others need, and one for the rest, as Nix's dockerTools makes them. */
import { toHex } from "../bytes/text-encoding.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap, sha256 } from "../hash/sha256.ts";
import { formatStorePath, storePathHashPart } from "../nix/store-path.ts";
import type { TreeServices } from "../render/render-nar.ts";
import type { PlacedTree } from "../render/render-tar.ts";
import { planTar } from "../render/render-tar.ts";
import type { RenderPlan } from "../render/segments.ts";
import { renderArchive } from "../render/segments.ts";
import type { PathInfo } from "../store/path-info.ts";
import { TAR_END, encodeTarHeader, tarPadding } from "../tar/tar-encoder.ts";
import type { OciDigest } from "./oci-schema.ts";
import type { ImageFormat } from "./plan-image.ts";
import { MEDIA_TYPE, blobPath } from "./plan-image.ts";

export interface ClosureImageOptions {
  readonly format: ImageFormat;
  /** Such as `hello:latest`. */
  readonly name: string;
  /** Such as `linux/amd64`. */
  readonly platform: string;
  /** Most layers. */
  readonly maxLayers: number;
}

/** What an image turned out to be, which is known when all of it has been rendered. */
export interface ClosureImageDigests {
  readonly id: OciDigest;
  readonly layers: readonly { readonly diffId: OciDigest; readonly size: number }[];
}

/** An image's archive that can be rendered, in one pass. */
export interface ClosureImage {
  /** Bytes. */
  readonly size: number;
  render(services: TreeServices, options?: CallOptions): AsyncGenerator<Uint8Array, ClosureImageDigests, undefined>;
}

/** Stands for a digest that is not known yet, and is as long. */
const UNKNOWN: OciDigest = `sha256:${"0".repeat(64)}`;

/**
 * Plan an image of a closure. Layers are named by their numbers, since no one knows their digests before they have passed; an OCI layout has hard links
 * to them under their digests.
 *
 * @param closure with all that it refers to
 */
export async function planClosureImage(closure: readonly PathInfo[], services: TreeServices, options: ClosureImageOptions, callOptions?: CallOptions): Promise<ClosureImage> {
  const plans: RenderPlan[] = [];
  for (const layer of layersOf(closure, options.maxLayers)) plans.push(await planTar(layer.map(placed), services, callOptions));
  const sizes = plans.map(({ size }) => size);
  const head = layerHeaders(sizes);
  const tail = tailOf(sizes.map((size) => ({ diffId: UNKNOWN, size })), options).bytes.length;
  const size = sizes.reduce((sum, layer, index) => sum + (head[index]?.length ?? 0) + layer + tarPadding(layer).length, tail);

  async function* render(renderFrom: TreeServices, renderOptions?: CallOptions): AsyncGenerator<Uint8Array, ClosureImageDigests, undefined> {
    const layers: { readonly diffId: OciDigest; readonly size: number }[] = [];
    for (const [index, plan] of plans.entries()) {
      yield head[index] ?? new Uint8Array(0);
      const tar = new Sha256Tap();
      yield* tar.through(renderArchive(plan, renderFrom, renderOptions));
      if (tar.size !== plan.size) throw new NarborError("ERR_DATA_LOSS", `Cannot render a layer: it has ${tar.size} bytes, expected ${plan.size}`);
      layers.push({ diffId: `sha256:${toHex(tar.digest())}`, size: tar.size });
      yield tarPadding(tar.size);
    }
    const { bytes, id } = tailOf(layers, options);
    yield bytes;
    return { id, layers };
  }
  return { size, render };
}

/** Paths by layer. */
export function layersOf(closure: readonly PathInfo[], maxLayers: number): readonly (readonly PathInfo[])[] {
  const byPopularity = sortByPopularity(closure);
  if (byPopularity.length <= maxLayers) return byPopularity.map((path) => [path]);
  const alone = byPopularity.slice(0, maxLayers - 1).map((path) => [path]);
  const rest = byPopularity.slice(maxLayers - 1).sort(compareStorePaths);
  return [...alone, rest];
}

/** Those that most others need come first: they are most likely to be in another image, too. */
function sortByPopularity(closure: readonly PathInfo[]): PathInfo[] {
  const paths = new Map(closure.map((path) => [storePathHashPart(path.storePath.digest), path]));
  const needed = new Map<string, number>();
  for (const path of closure) {
    const reached = new Set<string>();
    const queue = [path];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      for (const { digest } of next.references) {
        const key = storePathHashPart(digest);
        const reference = paths.get(key);
        if (reference === undefined || reference === path || reached.has(key)) continue;
        reached.add(key);
        queue.push(reference);
      }
    }
    for (const key of reached) needed.set(key, (needed.get(key) ?? 0) + 1);
  }
  const popularity = ({ storePath }: PathInfo): number => needed.get(storePathHashPart(storePath.digest)) ?? 0;
  return [...closure].sort((a, b) => popularity(b) - popularity(a) || compareStorePaths(a, b));
}

function compareStorePaths(a: PathInfo, b: PathInfo): number {
  return formatStorePath(a.storePath) < formatStorePath(b.storePath) ? -1 : 1;
}

function placed({ storePath, root }: PathInfo): PlacedTree {
  return { root, path: formatStorePath(storePath).slice(1) };
}

function layerPath(index: number): string {
  return `layers/${String(index + 1).padStart(4, "0")}.tar`;
}

function layerHeaders(sizes: readonly number[]): readonly Uint8Array[] {
  return sizes.map((size, index) => encodeTarHeader({ kind: "file", path: Buffer.from(layerPath(index)), size, mode: 0o444 }));
}

/** What follows the layers: always of the same length, whatever the digests are. */
function tailOf(layers: readonly { readonly diffId: OciDigest; readonly size: number }[], { format, name, platform }: ClosureImageOptions): { readonly bytes: Uint8Array; readonly id: OciDigest } {
  const [os, architecture, variant] = platform.split("/");
  const config = json({ architecture, os, ...(variant !== undefined && { variant }), config: {}, rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) } });
  const id = digestOf(config);
  if (format === "docker") {
    const manifest = json([{ Config: "config.json", RepoTags: [name], Layers: layers.map((_, index) => layerPath(index)) }]);
    return { bytes: Buffer.concat([file("config.json", config), file("manifest.json", manifest), TAR_END]), id };
  }
  const manifest = json({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: { mediaType: MEDIA_TYPE.config, digest: id, size: config.length },
    layers: layers.map(({ diffId, size }) => ({ mediaType: MEDIA_TYPE.layer, digest: diffId, size })),
  });
  const index = json({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    manifests: [{ mediaType: MEDIA_TYPE.manifest, digest: digestOf(manifest), size: manifest.length, platform: { architecture, os, ...(variant !== undefined && { variant }) }, annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name } }],
  });
  const links = layers.map(({ diffId }, layer) => encodeTarHeader({ kind: "hardlink", path: Buffer.from(blobPath(diffId)), linkTarget: Buffer.from(layerPath(layer)), mode: 0o444 }));
  const files = [file(blobPath(id), config), file(blobPath(digestOf(manifest)), manifest), file("oci-layout", json({ imageLayoutVersion: "1.0.0" })), file("index.json", index)];
  return { bytes: Buffer.concat([...links, ...files, TAR_END]), id };
}

function file(path: string, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([encodeTarHeader({ kind: "file", path: Buffer.from(path), size: bytes.length, mode: 0o444 }), bytes, tarPadding(bytes.length)]);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function digestOf(bytes: Uint8Array): OciDigest {
  return `sha256:${toHex(sha256(bytes))}`;
}

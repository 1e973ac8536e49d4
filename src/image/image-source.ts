/** What an image's archive is made from: layers that can be rendered, and a configuration that follows from their digests. */
import { collectBytes } from "../bytes/collect.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { encodeEntry } from "../castore/directory-proto.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { formatStorePath, storePathHashPart } from "../nix/store-path.ts";
import type { TreeServices } from "../render/render-nar.ts";
import { planRecipe } from "../render/render-recipe.ts";
import type { PlacedTree } from "../render/render-tar.ts";
import { planTar } from "../render/render-tar.ts";
import type { RenderPlan } from "../render/segments.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { ImageRecord, LayerRecord } from "./image-record.ts";
import type { OciDigest } from "./oci-schema.ts";

export interface LayerSource {
  /** Bytes of the uncompressed layer. @throws as `plan`, where it takes that to know them */
  size(): Promise<number>;
  /** How the uncompressed layer is made. Whoever only wants to know what is remembered of it needs none. @throws NarborError ERR_NOT_FOUND and ERR_DATA_LOSS when something of it is not stored */
  plan(): Promise<RenderPlan>;
  /** Of a layer that was imported. */
  readonly diffId: OciDigest | undefined;
  /** SHA-256 of all that the layer depends on, by which its diffID is remembered; of one that is made of trees. */
  readonly treesDigest: Uint8Array | undefined;
}

/** An image for one platform. */
export interface ImageSource {
  /** Such as `linux/amd64`. */
  readonly platform: string;
  readonly layers: readonly LayerSource[];
  /** The configuration, always of the same length for as many layers. */
  config(diffIds: readonly OciDigest[]): Uint8Array;
}

/** How layers are made of trees. To be changed with anything that changes their bytes. */
const LAYER_LAYOUT = "narbor-layer-1";
const MAX_CONFIG_BYTES = 8 * 1024 * 1024;

/** An image that was imported. @throws NarborError ERR_DATA_LOSS when its configuration is not stored any more */
export async function importedImage({ id, config, platform, layers }: ImageRecord, { blobs }: Pick<TreeServices, "blobs">, options?: CallOptions): Promise<ImageSource> {
  const content = await blobs.openRead(config.digest, options);
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: the configuration of image ${id} is not stored any more`);
  const bytes = await collectBytes(content, MAX_CONFIG_BYTES, "a configuration");
  const toSource = ({ recipe, size, diffId }: LayerRecord): LayerSource => ({
    size: async () => size,
    plan: async () => await planRecipe(recipe, size, blobs, options),
    diffId,
    treesDigest: undefined,
  });
  return { platform, layers: layers.map(({ layer }) => toSource(layer)), config: () => bytes };
}

export interface ClosureImageOptions {
  /** Such as `linux/amd64`. */
  readonly platform: string;
  /** Most layers. */
  readonly maxLayers: number;
}

/**
 * An image of store paths with all that they refer to: one layer for each path that most others need, and one for the rest, as Nix's dockerTools makes
 * them.
 */
export function closureImage(closure: readonly PathInfo[], services: TreeServices, { platform, maxLayers }: ClosureImageOptions, options?: CallOptions): ImageSource {
  const layers = layersOf(closure, maxLayers).map((paths): LayerSource => {
    const trees = paths.map(({ storePath, root }): PlacedTree => ({ root, path: formatStorePath(storePath).slice(1) }));
    // Kept, since its size is asked for before it is rendered.
    let planned: Promise<RenderPlan> | undefined;
    const plan = (): Promise<RenderPlan> => (planned ??= planTar(trees, services, options));
    return { size: async () => (await plan()).size, plan, diffId: undefined, treesDigest: digestOfTrees(trees) };
  });
  const [os, architecture, variant] = platform.split("/");
  const about = { architecture, os, ...(variant !== undefined && { variant }), config: {} };
  return { platform, layers, config: (diffIds) => Buffer.from(JSON.stringify({ ...about, rootfs: { type: "layers", diff_ids: diffIds } })) };
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

function digestOfTrees(trees: readonly PlacedTree[]): Uint8Array {
  const hash = new Sha256Tap();
  hash.update(Buffer.from(LAYER_LAYOUT));
  for (const { root, path } of trees) {
    const entry = encodeEntry(root);
    // A path has no NUL, and an entry says how long it is in all.
    hash.update(Buffer.from(`\0${path}\0${entry.length}\0`));
    hash.update(entry);
  }
  return hash.digest();
}

/** What a store path refers to, and what that refers to. */
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import type { StorePath } from "../nix/store-path.ts";
import { storePathHashPart } from "../nix/store-path.ts";
import type { PathInfo } from "./path-info.ts";
import type { StoreServices } from "./store.ts";

/** Lookups under way at once. */
const LOOKUPS = 64;

/**
 * `roots` and all that they refer to, as far as it is in the store. What is not is left out, and then missed by whoever refers to it.
 */
export async function findClosure(roots: readonly PathInfo[], { pathInfos }: Pick<StoreServices, "pathInfos">, signal?: AbortSignal): Promise<readonly PathInfo[]> {
  const closure = new Map(roots.map((root) => [storePathHashPart(root.storePath.digest), root]));
  const asked = new Set(closure.keys());
  // Nearest first; all of one distance are asked for together.
  for (let layer: readonly PathInfo[] = roots; layer.length > 0; ) {
    const unknown = new Map<string, StorePath>();
    for (const { references } of layer) {
      for (const reference of references) unknown.set(storePathHashPart(reference.digest), reference);
    }
    for (const key of asked) unknown.delete(key);
    for (const key of unknown.keys()) asked.add(key);
    const found: PathInfo[] = [];
    for await (const pathInfo of mapConcurrent(unknown.values(), LOOKUPS, async ({ digest }) => await pathInfos.get(digest, { signal }))) {
      signal?.throwIfAborted();
      if (pathInfo !== undefined) found.push(pathInfo);
    }
    for (const pathInfo of found) closure.set(storePathHashPart(pathInfo.storePath.digest), pathInfo);
    layer = found;
  }
  return [...closure.values()];
}

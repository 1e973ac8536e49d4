import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import { errorMessage, isNarborError } from "../errors.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { hashNar } from "../render/known-nar.ts";
import { formatStorePath } from "../nix/store-path.ts";
import type { Tree } from "../render/tree.ts";
import { loadTree, walkTree } from "../render/tree.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { CheckableStore, StoreCheck } from "../store/store-check.ts";
import type { StoreServices } from "../store/store.ts";

/** What a verification tells as it goes. */
export type VerifyEvent =
  | StoreCheck
  /** A store path that cannot be served any more, and why. */
  | { readonly type: "hurtPath"; readonly storePath: string; readonly message: string }
  /** The last one. */
  | { readonly type: "summary"; readonly damages: number; readonly paths: number; readonly hurtPaths: number };

/** Blobs asked for in one call. */
const DIGESTS_PER_CALL = 65_536;

/**
 * Check everything a store holds, and then every store path: are all its directories and files there, and is none of them damaged?
 * Of a store that cannot check itself, because its bytes are elsewhere, every path is read as a client would read it, and its NAR hashed.
 */
export async function* verifyStore(store: StoreServices & Partial<CheckableStore>, signal?: AbortSignal): AsyncGenerator<VerifyEvent, void, undefined> {
  const damaged = new Set<string>();
  let damages = 0;
  for await (const event of store.check?.(signal) ?? []) {
    if (event.type === "damage") {
      damages++;
      if (event.digest !== undefined) damaged.add(digestKey(event.digest));
    }
    yield event;
  }
  let paths = 0;
  let hurtPaths = 0;
  for await (const pathInfo of store.pathInfos.list({ signal })) {
    paths++;
    const message = await told(store.check === undefined ? checkNar(pathInfo, store, signal) : findHurt(pathInfo, store, damaged, signal));
    if (message === undefined) continue;
    hurtPaths++;
    yield { type: "hurtPath", storePath: formatStorePath(pathInfo.storePath), message };
  }
  yield { type: "summary", damages, paths, hurtPaths };
}

async function told(check: Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await check;
  } catch (error) {
    if (!isNarborError(error, "ERR_NOT_FOUND", "ERR_DATA_LOSS", "ERR_CASTORE_INVALID")) throw error;
    return errorMessage(error);
  }
}

async function findHurt(pathInfo: PathInfo, store: StoreServices, damaged: ReadonlySet<string>, signal: AbortSignal | undefined): Promise<string | undefined> {
  const tree = await loadTree(pathInfo.root, store.directories, { signal });
  for (const digests of filesOf(tree)) {
    const [missing] = await store.blobs.findMissing(digests, { signal });
    if (missing !== undefined) return `blob ${formatDigest(missing)} is not stored`;
    // Only then does it matter what chunks each file is made of.
    if (damaged.size === 0) continue;
    for (const digest of digests) {
      const stat = damaged.has(digestKey(digest)) ? { chunks: [{ digest }] } : await store.blobs.stat(digest, { signal });
      const chunk = stat?.chunks.find((part) => damaged.has(digestKey(part.digest)));
      if (chunk !== undefined) return `blob ${formatDigest(digest)} is damaged`;
    }
  }
  return undefined;
}

async function checkNar({ root, narSize, narSha256 }: PathInfo, store: StoreServices, signal: AbortSignal | undefined): Promise<string | undefined> {
  const nar = await hashNar(root, store, { signal });
  if (nar.narSize !== narSize) return `its NAR has ${nar.narSize} bytes, its path info says ${narSize}`;
  return equalBytes(nar.narSha256, narSha256) ? undefined : "its NAR has another hash than its path info says";
}

function* filesOf(tree: Tree): Generator<readonly B3Digest[], void, undefined> {
  let digests: B3Digest[] = [];
  for (const step of walkTree(tree)) {
    if (step.type === "file") digests.push(step.node.digest);
    if (digests.length < DIGESTS_PER_CALL) continue;
    yield digests;
    digests = [];
  }
  if (digests.length > 0) yield digests;
}

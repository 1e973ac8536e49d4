/** How a person names a tree, or something in it: a store path, its hash part, or an entry as `import` prints it. */
import { fromBase64Url, unescapeBytes } from "../bytes/text-encoding.ts";
import { decodeRootNode } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import { resolvePath } from "../castore/resolve-path.ts";
import { NarborError } from "../errors.ts";
import { parseStorePath, parseStorePathBaseName, parseStorePathHashPart, STORE_DIR } from "../nix/store-path.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { Store } from "../store/store.ts";

/** For `--help`. */
export const TREE_ADDRESS_HELP = `
A tree is named by a store path (/nix/store/…-hello, or without /nix/store/, or its 32-character hash alone),
or by an entry as "narbor import" prints it. A path below it follows after a slash: /nix/store/…-hello/bin.
Bytes of a name that are not UTF-8 are written as "ls" writes them: caf\\xe9 (a name that holds such a text itself has \\x5c for its backslash).`;

/** What an address stands for. */
export interface FoundTree {
  readonly node: Node;
  /** When it was named by a store path, which it is itself or lies below. */
  readonly pathInfo: PathInfo | undefined;
  /** Whether something below the named tree is meant. */
  readonly isBelow: boolean;
}

/** @throws NarborError ERR_NOT_FOUND when it is not stored, ERR_NIX_INVALID or ERR_CASTORE_INVALID when it is no address */
export async function findTree(address: string, store: Store): Promise<FoundTree> {
  const { name, below } = split(address);
  const pathInfo = await findPathInfo(name, address, store);
  const root = pathInfo?.root ?? parseEntry(name, address);
  const path = below.filter((part) => part !== "" && part !== ".");
  // As "ls" writes names first: whatever it lists can be named then.
  const node = (await resolvePath(root, path.map(unescapeBytes), store.directories)) ?? (await resolvePath(root, path.map((part) => Buffer.from(part)), store.directories));
  if (node === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(address)} in the store`);
  return { node, pathInfo, isBelow: path.length > 0 };
}

/**
 * What is known of a path that is named by a store path, by its base name or by its hash part alone.
 *
 * @throws NarborError ERR_NOT_FOUND when it is not stored, ERR_NIX_INVALID or ERR_INVALID when it is no store path
 */
export async function findStorePath(address: string, store: Store): Promise<PathInfo> {
  const pathInfo = await findPathInfo(split(address).name, address, store);
  if (pathInfo === undefined) throw new NarborError("ERR_INVALID", `Cannot read ${JSON.stringify(address)}: it is no store path`);
  return pathInfo;
}

function split(address: string): { readonly name: string; readonly below: readonly string[] } {
  const isAbsolute = address.startsWith(`${STORE_DIR}/`);
  const [name = "", ...below] = (isAbsolute ? address.slice(STORE_DIR.length + 1) : address).split("/");
  return { name: isAbsolute ? `${STORE_DIR}/${name}` : name, below };
}

async function findPathInfo(name: string, address: string, store: Store): Promise<PathInfo | undefined> {
  const digest = storePathDigest(name);
  if (digest === undefined) return undefined;
  const pathInfo = await store.pathInfos.get(digest);
  if (pathInfo === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no store path ${JSON.stringify(address)} in the store`);
  return pathInfo;
}

function storePathDigest(name: string): Uint8Array | undefined {
  if (name.startsWith("/")) return parseStorePath(name).digest;
  if (/^[0-9a-z]{32}$/.test(name)) return parseStorePathHashPart(name);
  return /^[0-9a-z]{32}-/.test(name) ? parseStorePathBaseName(name).digest : undefined;
}

function parseEntry(name: string, address: string): Node {
  const bytes = fromBase64Url(name);
  try {
    if (bytes !== undefined && bytes.length > 0) return decodeRootNode(bytes);
  } catch (error) {
    throw new NarborError("ERR_INVALID", `Cannot read ${JSON.stringify(address)}: it is neither a store path nor an entry`, { cause: error });
  }
  throw new NarborError("ERR_INVALID", `Cannot read ${JSON.stringify(address)}: it is neither a store path nor an entry`);
}

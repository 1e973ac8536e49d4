/**
 * Store paths: `/nix/store/`, 32 characters of Nix32 (20 bytes), a dash and a name.
 * See https://nix.dev/manual/nix/latest/protocols/store-path
 *
 * The 20 bytes are a SHA-256 folded onto itself: Nix decides what is hashed, and for most paths it cannot be computed from
 * their contents. Where it can (content-addressed paths), see also content-address.ts.
 */
import { toHex } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import { sha256 } from "../hash/sha256.ts";
import { decodeNix32, encodeNix32, nix32Length } from "./nix32.ts";

/** The one store directory that is served: a path's hash depends on it. */
export const STORE_DIR = "/nix/store";

/** Bytes in the hash part of a store path. */
export const STORE_PATH_DIGEST_LENGTH = 20;

/** Characters in a name: with hash, dash and a suffix of Nix's own it still fits the 255 of a file name. */
export const STORE_PATH_NAME_LIMIT = 211;

declare const storePath: unique symbol;

/** A checked store path. Made by the functions of this file only. */
export interface StorePath {
  /** The hash part, 20 bytes. */
  readonly digest: Uint8Array;
  /** What follows the dash: 1 to 211 ASCII letters, digits and `+-._?=`. */
  readonly name: string;
  readonly [storePath]: true;
}

const HASH_PART_LENGTH = nix32Length(STORE_PATH_DIGEST_LENGTH);

/** A store path of its two parts. @throws NarborError ERR_NIX_INVALID */
export function toStorePath(digest: Uint8Array, name: string): StorePath {
  if (digest.length !== STORE_PATH_DIGEST_LENGTH) {
    const found = `a hash of ${digest.length} bytes, expected ${STORE_PATH_DIGEST_LENGTH}`;
    throw new NarborError("ERR_NIX_INVALID", `Cannot read store path: found ${found}`);
  }
  checkName(name);
  return { digest, name } as StorePath;
}

/** Read an absolute path, `/nix/store/<hash>-<name>` and nothing below it. @throws NarborError ERR_NIX_INVALID */
export function parseStorePath(text: string): StorePath {
  if (!text.startsWith(`${STORE_DIR}/`)) throw invalid(text, `expected it to begin with ${STORE_DIR}/`);
  return parseStorePathBaseName(text.slice(STORE_DIR.length + 1));
}

/** Read `<hash>-<name>`. @throws NarborError ERR_NIX_INVALID */
export function parseStorePathBaseName(text: string): StorePath {
  if (text.charAt(HASH_PART_LENGTH) !== "-") throw invalid(text, `expected ${HASH_PART_LENGTH} characters of Nix32, a dash and a name`);
  return toStorePath(parseStorePathHashPart(text.slice(0, HASH_PART_LENGTH)), text.slice(HASH_PART_LENGTH + 1));
}

/** Read the 32 characters that stand for a store path, as in `<hash>.narinfo`. @returns 20 bytes @throws NarborError ERR_NIX_INVALID */
export function parseStorePathHashPart(text: string): Uint8Array {
  if (text.length !== HASH_PART_LENGTH) throw invalid(text, `expected ${HASH_PART_LENGTH} characters of Nix32`);
  return decodeNix32(text);
}

/** `/nix/store/<hash>-<name>` */
export function formatStorePath(path: StorePath): string {
  return `${STORE_DIR}/${storePathBaseName(path)}`;
}

/** `<hash>-<name>` */
export function storePathBaseName(path: StorePath): string {
  return `${storePathHashPart(path.digest)}-${path.name}`;
}

/** The 32 characters that stand for a store path's 20 bytes. */
export function storePathHashPart(digest: Uint8Array): string {
  return encodeNix32(digest);
}

/** Whether two store paths are the same, their names included. */
export function equalStorePaths(a: StorePath, b: StorePath): boolean {
  return storePathBaseName(a) === storePathBaseName(b);
}

/** Store paths in Nix's order, that of their base names, each once. (Nix32 runs backwards: the digests' order is another.) */
export function sortStorePaths(paths: Iterable<StorePath>): readonly StorePath[] {
  const byBaseName = new Map<string, StorePath>();
  for (const path of paths) byBaseName.set(storePathBaseName(path), path);
  // Base names are ASCII, so the order of UTF-16 units, which sort() goes by, is that of bytes.
  return [...byBaseName.keys()].sort().map((baseName) => byBaseName.get(baseName) as StorePath);
}

/**
 * The store path that Nix computes from a type (`source`, `text`, `output:out`, …), a SHA-256 and a name.
 *
 * @throws NarborError ERR_NIX_INVALID when the name is not one
 */
export function makeStorePath(type: string, innerSha256: Uint8Array, name: string): StorePath {
  checkName(name);
  const hash = sha256(Buffer.from(`${type}:sha256:${toHex(innerSha256)}:${STORE_DIR}:${name}`));
  const digest = new Uint8Array(STORE_PATH_DIGEST_LENGTH);
  for (const [index, byte] of hash.entries()) digest[index % digest.length] = (digest[index % digest.length] ?? 0) ^ byte;
  return toStorePath(digest, name);
}

/**
 * The store path that `nix-store --add` gives a tree: content-addressed by its NAR, without references.
 *
 * @throws NarborError ERR_NIX_INVALID when the name is not one
 */
export function makeSourceStorePath(name: string, narSha256: Uint8Array): StorePath {
  return makeStorePath("source", narSha256, name);
}

/** Nix's `checkName`: the characters, the length, and nothing that reads as `.` or `..` up to its first dash. */
function checkName(name: string): void {
  if (name.length > STORE_PATH_NAME_LIMIT) {
    const found = `a name of ${name.length} characters, at most ${STORE_PATH_NAME_LIMIT} are allowed`;
    throw new NarborError("ERR_NIX_INVALID", `Cannot read store path: found ${found}`);
  }
  if (!/^[0-9a-zA-Z+\-._?=]+$/.test(name)) throw invalid(name, "expected a name of letters, digits and +-._?=");
  if (/^\.\.?(-|$)/.test(name)) throw invalid(name, "expected a name that does not begin with . or .. alone");
}

function invalid(text: string, expected: string): NarborError {
  // What is shown is bounded: the text may be megabytes from outside.
  return new NarborError("ERR_NIX_INVALID", `Cannot read store path: found ${JSON.stringify(text.slice(0, 300))}, ${expected}`);
}

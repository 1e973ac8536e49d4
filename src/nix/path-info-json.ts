/**
 * What `nix path-info --json` prints. Its shape has changed with Nix's versions:
 *
 * - up to 2.18, an array of objects with a `path`; fields that have no value are left out;
 * - from 2.19, an object keyed by path, `null` for a path that is not valid; fields without a value are `null`;
 * - with `--json-format 2` (from 2.33), such an object under `info`, with base names in place of store paths.
 *
 * In between and after, hashes, content addresses and signatures became objects and texts again, so each is read in either form.
 * See https://nix.dev/manual/nix/latest/protocols/json/store-object-info
 */
import { NarborError, errorMessage, isNarborError } from "../errors.ts";
import { type ContentAddress, parseContentAddress } from "./content-address.ts";
import { type NixHash, parseNixHash } from "./nix-hash.ts";
import { type Signature, parseSignature } from "./signature.ts";
import { STORE_DIR, type StorePath, formatStorePath, parseStorePath, parseStorePathBaseName, sortStorePaths } from "./store-path.ts";

/** What Nix knows of a path in its store. */
export interface NixPathInfo {
  readonly storePath: StorePath;
  /** NarHash: SHA-256 of the path's NAR, 32 bytes. */
  readonly narSha256: Uint8Array;
  /** Bytes of the path's NAR. */
  readonly narSize: number;
  /** In the order of their base names, each once. */
  readonly references: readonly StorePath[];
  readonly signatures: readonly Signature[];
  /** The derivation it was built from. */
  readonly deriver?: StorePath;
  readonly ca?: ContentAddress;
}

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Read the output of `nix path-info --json`, of any version.
 *
 * @throws NarborError ERR_NOT_FOUND for a path that Nix says is not valid, ERR_NIX_INVALID for all else that cannot be read
 */
export function parsePathInfoJson(text: string): readonly NixPathInfo[] {
  return entriesOf(parseJson(text)).map(([name, entry]) => {
    if (entry === null || (isObject(entry) && entry["valid"] === false)) throw new NarborError("ERR_NOT_FOUND", `${fullPath(name)} is not in the Nix store`);
    try {
      return toPathInfo(name, asObject(entry, "a path info"));
    } catch (error) {
      if (!isNarborError(error)) throw error;
      throw new NarborError("ERR_NIX_INVALID", `Cannot read what Nix knows of ${name.slice(0, 300)}: ${errorMessage(error)}`, { cause: error });
    }
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot read what Nix says of paths: ${errorMessage(error)}`, { cause: error });
  }
}

function entriesOf(json: unknown): (readonly [name: string, entry: unknown])[] {
  if (Array.isArray(json)) return json.map((entry) => [asText(asObject(entry, "a path info")["path"], "path"), entry] as const);
  const object = asObject(json, "what Nix says of paths");
  // No store path is called "info": it has no hash.
  return Object.entries("info" in object ? asObject(object["info"], "path infos") : object);
}

function toPathInfo(name: string, entry: JsonObject): NixPathInfo {
  const { storeDir = STORE_DIR, narSize, deriver, ca, signatures } = entry;
  if (storeDir !== STORE_DIR) throw invalid("storeDir", storeDir, `expected ${STORE_DIR}`);
  if (typeof narSize !== "number" || !Number.isSafeInteger(narSize) || narSize < 1) throw invalid("narSize", narSize, "expected a number of bytes");
  const narHash = readHash(entry["narHash"]);
  if (narHash.algorithm !== "sha256") throw invalid("narHash", entry["narHash"], "expected sha256");
  return {
    storePath: readPath(name),
    narSha256: narHash.digest,
    narSize,
    references: sortStorePaths(asArray(entry["references"], "references").map((reference) => readPath(asText(reference, "a reference")))),
    signatures: asArray(signatures ?? [], "signatures").map(readSignature),
    ...(isGiven(deriver) && deriver !== "unknown-deriver" && { deriver: readPath(asText(deriver, "deriver")) }),
    ...(isGiven(ca) && { ca: readContentAddress(ca) }),
  };
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && value !== "";
}

function readPath(text: string): StorePath {
  return text.startsWith("/") ? parseStorePath(text) : parseStorePathBaseName(text);
}

function fullPath(name: string): string {
  return formatStorePath(readPath(name));
}

function readHash(value: unknown): NixHash {
  if (typeof value === "string") return parseNixHash(value);
  const { algorithm, format, hash } = asObject(value, "a hash");
  const digest = asText(hash, "hash");
  return parseNixHash(format === "sri" ? digest : `${asText(algorithm, "algorithm")}:${digest}`);
}

function readSignature(value: unknown): Signature {
  if (typeof value === "string") return parseSignature(value);
  const { keyName, sig } = asObject(value, "a signature");
  return parseSignature(`${asText(keyName, "keyName")}:${asText(sig, "sig")}`);
}

function readContentAddress(value: unknown): ContentAddress {
  if (typeof value === "string") return parseContentAddress(value);
  const { method, hash: hashValue } = asObject(value, "a content address");
  const hash = readHash(hashValue);
  if (method === "nar" || method === "flat") return { method, hash };
  if (method === "text" && hash.algorithm === "sha256") return { method, hash: { algorithm: "sha256", digest: hash.digest } };
  throw invalid("ca", method, "expected text with sha256, flat or nar");
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asObject(value: unknown, what: string): JsonObject {
  if (!isObject(value)) throw invalid(what, value, "expected an object");
  return value;
}

function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(what, value, "expected an array");
  return value;
}

function asText(value: unknown, what: string): string {
  if (typeof value !== "string") throw invalid(what, value, "expected a text");
  return value;
}

function invalid(what: string, found: unknown, expected: string): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot read ${what}: found ${(JSON.stringify(found) ?? "nothing").slice(0, 200)}, ${expected}`);
}

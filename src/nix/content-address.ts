/**
 * Content addresses: what the hash part of a content-addressed store path was computed from. The `CA` line of a narinfo.
 * See https://nix.dev/manual/nix/latest/store/store-object/content-address
 *
 * Such a path vouches for itself and needs no signature; any other path's hash is a promise of whoever built it.
 */
import { NarborError } from "../errors.ts";
import { sha256 } from "../hash/sha256.ts";
import { type NixHash, formatBase16Hash, formatNixHash, parseNixHash } from "./nix-hash.ts";
import { type StorePath, formatStorePath, makeStorePath, sortStorePaths } from "./store-path.ts";

/**
 * What was hashed: `text`, the bytes of a file that may have references (derivations, `builtins.toFile`);
 * `flat`, the bytes of a file that may not; `nar`, the NAR of any tree.
 */
export type ContentAddress =
  | { readonly method: "text"; readonly hash: NixHash & { readonly algorithm: "sha256" } }
  | { readonly method: "flat"; readonly hash: NixHash }
  | { readonly method: "nar"; readonly hash: NixHash };

/**
 * Read `text:sha256:…`, `fixed:<algorithm>:…` or `fixed:r:<algorithm>:…`.
 *
 * @throws NarborError ERR_NIX_INVALID
 */
export function parseContentAddress(text: string): ContentAddress {
  const [, kind, rest = ""] = /^(text|fixed:r|fixed:git|fixed):(.*)$/s.exec(text) ?? [];
  if (kind === undefined) throw invalid(text, "expected text:sha256:…, fixed:… or fixed:r:…");
  if (kind === "fixed:git") throw invalid(text, "paths addressed by a Git tree hash are an experiment of Nix that is not supported");
  // Nix takes no SRI hash here, for all that it does elsewhere.
  if (!/^[a-z0-9]+:/.test(rest)) throw invalid(text, "expected an algorithm and a colon before the digest");
  const hash = parseNixHash(rest);
  if (kind !== "text") return { method: kind === "fixed:r" ? "nar" : "flat", hash };
  if (!isSha256(hash)) throw invalid(text, "expected sha256 after text:");
  return { method: "text", hash };
}

/** The text of a content address, its digest in Nix32. */
export function formatContentAddress({ method, hash }: ContentAddress): string {
  const prefix = method === "text" ? "text" : method === "flat" ? "fixed" : "fixed:r";
  return `${prefix}:${formatNixHash(hash)}`;
}

/** Options of `makeContentAddressedPath`. */
export interface ContentAddressedPathOptions {
  /** Other paths that the contents refer to. Only `text` and `nar` with SHA-256 can have any. @default none */
  readonly references?: readonly StorePath[];
  /** Whether the contents refer to their own path. Only `nar` with SHA-256 can. @default false */
  readonly selfReference?: boolean;
}

/**
 * The store path of contents with this address.
 *
 * @throws NarborError ERR_NIX_INVALID when the name is not one, or the address cannot go with references
 */
export function makeContentAddressedPath(name: string, ca: ContentAddress, options: ContentAddressedPathOptions = {}): StorePath {
  const { references = [], selfReference = false } = options;
  const others = sortStorePaths(references).map(formatStorePath);
  if (ca.method === "text" && !selfReference) return makeStorePath(["text", ...others].join(":"), ca.hash.digest, name);
  if (ca.method === "nar" && ca.hash.algorithm === "sha256") {
    return makeStorePath(["source", ...others, ...(selfReference ? ["self"] : [])].join(":"), ca.hash.digest, name);
  }
  if (others.length > 0 || selfReference) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot compute store path: found references with ${formatContentAddress(ca)}, which allows none`);
  }
  const inner = `fixed:out:${ca.method === "nar" ? "r:" : ""}${formatBase16Hash(ca.hash)}:`;
  return makeStorePath("output:out", sha256(Buffer.from(inner)), name);
}

function isSha256(hash: NixHash): hash is NixHash & { readonly algorithm: "sha256" } {
  return hash.algorithm === "sha256";
}

function invalid(text: string, expected: string): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot parse content address: found ${JSON.stringify(text.slice(0, 200))}, ${expected}`);
}

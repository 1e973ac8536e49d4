/**
 * Hashes as Nix writes them: `sha256:` and base16, Nix32 or base64, told apart by their length, or SRI, `sha256-` and base64.
 * See https://nix.dev/manual/nix/latest/command-ref/nix-hash
 */
import { fromBase64, fromHex, toBase64, toHex } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import { decodeNix32, encodeNix32, nix32Length } from "./nix32.ts";

/** The hash algorithms of store objects. Nix has BLAKE3 as an experiment; no binary cache uses it. */
export type HashAlgorithm = "md5" | "sha1" | "sha256" | "sha512";

/** A digest and how it was made. */
export interface NixHash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Uint8Array;
}

/** Bytes in a digest. */
export const HASH_LENGTHS: Readonly<Record<HashAlgorithm, number>> = { md5: 16, sha1: 20, sha256: 32, sha512: 64 };

/** A NixHash, its length checked. @throws NarborError ERR_NIX_INVALID */
export function toNixHash(algorithm: HashAlgorithm, digest: Uint8Array): NixHash {
  if (digest.length !== HASH_LENGTHS[algorithm]) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot read hash: found ${digest.length} bytes, expected ${HASH_LENGTHS[algorithm]} for ${algorithm}`);
  }
  return { algorithm, digest };
}

/**
 * Read `sha256:<base16, Nix32 or base64>` or `sha256-<base64>`, with any of the algorithms.
 *
 * @throws NarborError ERR_NIX_INVALID
 */
export function parseNixHash(text: string): NixHash {
  const [, name = "", separator, rest = ""] = /^([^:-]*)([:-])(.*)$/s.exec(text) ?? [];
  if (separator === undefined) throw invalid(text, "expected an algorithm, a colon and a digest");
  const algorithm = parseHashAlgorithm(name);
  const digest = separator === ":" ? decodeDigest(algorithm, rest) : fromBase64(rest);
  if (digest?.length !== HASH_LENGTHS[algorithm]) {
    throw invalid(text, separator === ":" ? `expected ${algorithm} in base16, Nix32 or base64` : `expected ${algorithm} in base64`);
  }
  return { algorithm, digest };
}

/** As `parseNixHash`, for where only SHA-256 has a meaning. @returns the 32 bytes @throws NarborError ERR_NIX_INVALID */
export function parseSha256(text: string): Uint8Array {
  const { algorithm, digest } = parseNixHash(text);
  if (algorithm !== "sha256") throw invalid(text, "expected sha256");
  return digest;
}

/** The name of an algorithm. @throws NarborError ERR_NIX_INVALID */
export function parseHashAlgorithm(text: string): HashAlgorithm {
  if (!Object.hasOwn(HASH_LENGTHS, text)) throw invalid(text, "expected md5, sha1, sha256 or sha512");
  return text as HashAlgorithm;
}

/** `sha256:` and Nix32, as in narinfos and fingerprints. */
export function formatNixHash({ algorithm, digest }: NixHash): string {
  return `${algorithm}:${encodeNix32(digest)}`;
}

/** `sha256-` and base64, as in JSON and in Nix expressions. */
export function formatSriHash({ algorithm, digest }: NixHash): string {
  return `${algorithm}-${toBase64(digest)}`;
}

/** `sha256:` and base16, as in what store paths are computed from. */
export function formatBase16Hash({ algorithm, digest }: NixHash): string {
  return `${algorithm}:${toHex(digest)}`;
}

/** No two of the three encodings of a digest are equally long. */
function decodeDigest(algorithm: HashAlgorithm, text: string): Uint8Array | undefined {
  const length = HASH_LENGTHS[algorithm];
  if (text.length === length * 2) return fromHex(text);
  if (text.length === nix32Length(length)) return decodeNix32(text);
  return fromBase64(text);
}

function invalid(text: string, expected: string): NarborError {
  // What is shown is bounded: the text may be megabytes from outside.
  return new NarborError("ERR_NIX_INVALID", `Cannot parse hash: found ${JSON.stringify(text.slice(0, 150))}, ${expected}`);
}

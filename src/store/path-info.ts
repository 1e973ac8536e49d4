import type { Node } from "../castore/node.ts";
import { NarborError } from "../errors.ts";
import type { ContentAddress } from "../nix/content-address.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { type Signature, fingerprint, formatSignature } from "../nix/signature.ts";
import { type StorePath, formatStorePath } from "../nix/store-path.ts";

/** What is known of a store path: its contents, and what its narinfo says of them wherever the NAR is served from. */
export interface PathInfo {
  readonly storePath: StorePath;
  /** The root of the contents. */
  readonly root: Node;
  /** In the order of their base names, each once. A path may refer to itself. */
  readonly references: readonly StorePath[];
  /** Bytes in the NAR of `root`. */
  readonly narSize: number;
  /** SHA-256 of the NAR of `root`, 32 bytes. */
  readonly narSha256: Uint8Array;
  readonly signatures: readonly Signature[];
  /** The derivation it was built from; its name ends in `.drv`. */
  readonly deriver?: StorePath;
  readonly ca?: ContentAddress;
}

/** How and where a NAR is served. */
export interface ServedNar {
  /** Relative to the cache's URL. */
  readonly url: string;
  /** Nix's name of the compression, `none` if there is none. */
  readonly compression: string;
  /** SHA-256 of what is served, compressed as it is. */
  readonly fileHash: Uint8Array;
  /** Bytes of what is served. */
  readonly fileSize: number;
}

/** The narinfo of a path whose NAR is served like that. What is signed stays as it was, so signatures stay valid. */
export function narInfoFromPathInfo(pathInfo: PathInfo, served: ServedNar): NarInfo {
  const { root: _root, narSha256, ...shared } = pathInfo;
  return { ...shared, ...served, narHash: narSha256 };
}

/**
 * The PathInfo of a narinfo whose NAR was read and found to be `root`. That NarHash and NarSize are those of `root` is for the
 * caller to see to.
 *
 * @throws NarborError ERR_NIX_INVALID when the deriver is not a derivation
 */
export function pathInfoFromNarInfo(narInfo: NarInfo, root: Node): PathInfo {
  const { url: _url, compression: _compression, fileHash: _fileHash, fileSize: _fileSize, narHash, ...shared } = narInfo;
  checkDeriver(narInfo.deriver);
  return { ...shared, root, narSha256: narHash };
}

/** A path with more would hold up everyone else while it is read and written. */
const REFERENCE_LIMIT = 10_000;
/** Signatures of one path that are kept; more cannot come from honest clients. */
const SIGNATURE_LIMIT = 256;

/** Bound what a client may put, before it is looked at and again when it is merged with what is there. @throws NarborError ERR_LIMIT */
export function checkPathInfoCounts(referenceCount: number, signatureCount: number): void {
  if (referenceCount > REFERENCE_LIMIT) throw new NarborError("ERR_LIMIT", `Cannot store the path info: ${referenceCount} references, more than ${REFERENCE_LIMIT}`);
  if (signatureCount > SIGNATURE_LIMIT) throw new NarborError("ERR_LIMIT", `Cannot store the path info: ${signatureCount} signatures, more than ${SIGNATURE_LIMIT}`);
}

/** Bound what a path would have after `later` is put beside `earlier`. @throws NarborError ERR_LIMIT */
export function checkMergedPathInfo(earlier: PathInfo | undefined, later: PathInfo): void {
  const { references, signatures } = earlier === undefined ? later : mergePathInfo(earlier, later);
  checkPathInfoCounts(references.length, signatures.length);
}

/** What the signatures of a path are made over. */
export function pathInfoFingerprint(pathInfo: PathInfo): string {
  return fingerprint(pathInfo.storePath, pathInfo.narSha256, pathInfo.narSize, pathInfo.references);
}

/** All of `a`, then those of `b` that are not in `a`. None is dropped for another under the same key name. */
export function mergeSignatures(a: readonly Signature[], b: readonly Signature[]): readonly Signature[] {
  // By text, not pair by pair: a narinfo may have thousands.
  const known = new Set(a.map(formatSignature));
  const added = new Map(b.map((signature) => [formatSignature(signature), signature]));
  return [...a, ...[...added].filter(([text]) => !known.has(text)).map(([, signature]) => signature)];
}

/** Nix takes any store path for a deriver, but the store protocol has no way to say that it is not a derivation. */
export function checkDeriver(deriver: StorePath | undefined): void {
  if (deriver !== undefined && !/.\.drv$/.test(deriver.name)) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot read path info: found deriver ${formatStorePath(deriver)}, expected a name that ends in .drv`);
  }
}

/**
 * What is kept when `later` is put in place of `earlier`: `later`, and the signatures of `earlier` too when they are made over the same
 * NAR and references.
 */
export function mergePathInfo(earlier: PathInfo, later: PathInfo): PathInfo {
  if (pathInfoFingerprint(earlier) !== pathInfoFingerprint(later)) return later;
  return { ...later, signatures: mergeSignatures(earlier.signatures, later.signatures) };
}

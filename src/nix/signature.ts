/**
 * Signatures: Ed25519 over the fingerprint of a store path. Keys and signatures are written `<key name>:<base64>`.
 * See https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo
 *
 * The fingerprint covers path, NarHash, NarSize and references. URL, compression, FileHash, deriver and CA are not signed:
 * a cache may rewrite them.
 */
import { type KeyObject, createPrivateKey, createPublicKey, sign as signBytes, verify as verifyBytes } from "node:crypto";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { fromBase64, fromBase64Url, toBase64, toBase64Url } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import { formatNixHash, toNixHash } from "./nix-hash.ts";
import { type StorePath, formatStorePath, sortStorePaths } from "./store-path.ts";

/** A signature and the name of the key that made it. */
export interface Signature {
  /** Not empty, no colon, no control characters. A name proves nothing: anyone can call a key so. */
  readonly keyName: string;
  /** 64 bytes. */
  readonly bytes: Uint8Array;
}

/** A key to verify with. */
export interface PublicKey {
  readonly name: string;
  readonly key: KeyObject;
}

/** A key to sign with. */
export interface SecretKey {
  readonly name: string;
  readonly key: KeyObject;
}

/** Bytes in a signature. */
export const SIGNATURE_LENGTH = 64;

/** A signature of its parts. @throws NarborError ERR_NIX_INVALID */
export function toSignature(keyName: string, bytes: Uint8Array): Signature {
  // A control character would break the line of a narinfo, a colon its field.
  if (!/^[^:\p{Cc}]+$/u.test(keyName)) {
    throw invalid("signature", `found the key name ${JSON.stringify(keyName.slice(0, 100))}`);
  }
  if (bytes.length !== SIGNATURE_LENGTH) {
    throw invalid("signature", `found ${bytes.length} bytes by "${keyName.slice(0, 100)}", expected ${SIGNATURE_LENGTH}`);
  }
  return { keyName, bytes };
}

/** Read `<key name>:<base64>`. @throws NarborError ERR_NIX_INVALID */
export function parseSignature(text: string): Signature {
  const { name, bytes } = splitKeyText(text, "signature");
  return toSignature(name, bytes);
}

/** `<key name>:<base64>` */
export function formatSignature(signature: Signature): string {
  return `${signature.keyName}:${toBase64(signature.bytes)}`;
}

/** Whether two signatures are the same, key name and bytes. */
export function equalSignatures(a: Signature, b: Signature): boolean {
  return a.keyName === b.keyName && equalBytes(a.bytes, b.bytes);
}

/** Read `<key name>:<base64 of 32 bytes>`, as in `trusted-public-keys`. @throws NarborError ERR_NIX_INVALID */
export function parsePublicKey(text: string): PublicKey {
  // Keys come from files that people edit, with a final newline.
  const { name, bytes } = splitKeyText(text.trim(), "public key");
  if (bytes.length !== 32) throw invalid(`public key "${name}"`, `found ${bytes.length} bytes, expected 32`);
  return { name, key: createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: toBase64Url(bytes) }, format: "jwk" }) };
}

/** `<key name>:<base64 of 32 bytes>` */
export function formatPublicKey(publicKey: PublicKey): string {
  return `${publicKey.name}:${toBase64(publicBytes(publicKey.key))}`;
}

/**
 * Read `<key name>:<base64 of 64 bytes>`, as `nix key generate-secret` writes it: the seed, then the public key.
 * No error shows any of it but the name.
 *
 * @throws NarborError ERR_NIX_INVALID
 */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = splitKeyText(text.trim(), "secret key");
  if (bytes.length !== 64) throw invalid(`secret key "${name}"`, `found ${bytes.length} bytes, expected 64`);
  const [seed, publicHalf] = [bytes.subarray(0, 32), bytes.subarray(32)];
  const key = createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", d: toBase64Url(seed), x: toBase64Url(publicHalf) }, format: "jwk" });
  // node:crypto does not compare the halves, and a signature made with the wrong one verifies nowhere.
  if (!equalBytes(publicBytes(createPublicKey(key)), publicHalf)) {
    throw invalid(`secret key "${name}"`, "its public half does not belong to it");
  }
  return { name, key };
}

/** The public key that goes with a secret key. */
export function publicKeyOf(secretKey: SecretKey): PublicKey {
  return { name: secretKey.name, key: createPublicKey(secretKey.key) };
}

/** What is signed: `1;<store path>;sha256:<Nix32>;<NarSize>;<references, joined by commas>`. */
export function fingerprint(storePath: StorePath, narSha256: Uint8Array, narSize: number, references: readonly StorePath[]): string {
  const fields = ["1", formatStorePath(storePath), formatNixHash(toNixHash("sha256", narSha256)), String(narSize)];
  return [...fields, sortStorePaths(references).map(formatStorePath).join(",")].join(";");
}

/** Sign a fingerprint. Always the same signature for the same key and text. */
export function signFingerprint(text: string, secretKey: SecretKey): Signature {
  return toSignature(secretKey.name, new Uint8Array(signBytes(null, Buffer.from(text), secretKey.key)));
}

/** Whether `signature` was made by `publicKey`, going by its name too, over this fingerprint. */
export function verifySignature(text: string, signature: Signature, publicKey: PublicKey): boolean {
  return signature.keyName === publicKey.name && verifyBytes(null, Buffer.from(text), publicKey.key, signature.bytes);
}

function publicBytes(key: KeyObject): Uint8Array {
  return fromBase64Url(key.export({ format: "jwk" }).x ?? "") ?? new Uint8Array();
}

function splitKeyText(text: string, what: string): { name: string; bytes: Uint8Array } {
  const colon = text.indexOf(":");
  // The text is not shown: it may be a secret.
  if (colon < 1) throw invalid(what, "expected a key name, a colon and base64");
  const name = text.slice(0, colon);
  const bytes = fromBase64(text.slice(colon + 1));
  if (bytes === undefined) throw invalid(`${what} "${name.slice(0, 100)}"`, "what follows the colon is not base64");
  return { name, bytes };
}

function invalid(what: string, reason: string): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot read ${what}: ${reason}`);
}

import fc from "fast-check";
import type { ContentAddress } from "../../src/nix/content-address.ts";
import type { NarInfo } from "../../src/nix/narinfo.ts";
import { HASH_LENGTHS, type HashAlgorithm, type NixHash } from "../../src/nix/nix-hash.ts";
import { type Signature, toSignature } from "../../src/nix/signature.ts";
import { type StorePath, sortStorePaths, toStorePath } from "../../src/nix/store-path.ts";

export function arbitraryBytes(length: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: length, maxLength: length });
}

export const arbitraryStorePathName: fc.Arbitrary<string> = fc
  .stringMatching(/^[0-9a-zA-Z+\-._?=]{1,211}$/)
  .filter((name) => !/^\.\.?(-|$)/.test(name));

export const arbitraryStorePath: fc.Arbitrary<StorePath> = fc
  .tuple(arbitraryBytes(20), arbitraryStorePathName)
  .map(([digest, name]) => toStorePath(digest, name));

export const arbitraryDeriver: fc.Arbitrary<StorePath> = fc
  .tuple(arbitraryBytes(20), arbitraryStorePathName)
  .map(([digest, name]) => toStorePath(digest, `${name.slice(0, 207)}.drv`));

export const arbitraryHash: fc.Arbitrary<NixHash> = fc
  .constantFrom<HashAlgorithm>("md5", "sha1", "sha256", "sha512")
  .chain((algorithm) => fc.record({ algorithm: fc.constant(algorithm), digest: arbitraryBytes(HASH_LENGTHS[algorithm]) }));

export const arbitraryContentAddress: fc.Arbitrary<ContentAddress> = fc.oneof(
  fc.record({ method: fc.constantFrom("flat" as const, "nar" as const), hash: arbitraryHash }),
  arbitraryBytes(32).map((digest) => ({ method: "text" as const, hash: { algorithm: "sha256" as const, digest } })),
);

export const arbitrarySignature: fc.Arbitrary<Signature> = fc
  .tuple(fc.stringMatching(/^[a-zA-Z0-9.\- äß]{1,20}$/), arbitraryBytes(64))
  .map(([keyName, bytes]) => toSignature(keyName, bytes));

export const arbitraryReferences: fc.Arbitrary<readonly StorePath[]> = fc.array(arbitraryStorePath, { maxLength: 5 }).map(sortStorePaths);

export const arbitraryNarInfo: fc.Arbitrary<NarInfo> = fc
  .record(
    {
      storePath: arbitraryStorePath,
      url: fc.stringMatching(/^[!-~][ -~]{0,40}$/),
      compression: fc.constantFrom("none", "xz", "zstd", "bzip2"),
      fileHash: arbitraryBytes(32),
      fileSize: fc.maxSafeNat(),
      narHash: arbitraryBytes(32),
      narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      references: arbitraryReferences,
      deriver: arbitraryStorePath,
      signatures: fc.array(arbitrarySignature, { maxLength: 3 }),
      ca: arbitraryContentAddress,
    },
    { requiredKeys: ["storePath", "url", "compression", "narHash", "narSize", "references", "signatures"] },
  )
  .map((info) => info as NarInfo);

import { createHash } from "node:crypto";
import type { Signature } from "../../src/nix/signature.ts";
import { toSignature } from "../../src/nix/signature.ts";
import type { StorePath } from "../../src/nix/store-path.ts";
import { toStorePath } from "../../src/nix/store-path.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import { symlinkNode } from "./castore.ts";
import { sampleBytes } from "./bytes.ts";

/** A SHA-256 that stands for nothing. */
export function sha256Of(text: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(text).digest());
}

/** A store path of that name; names that differ have other digests. */
export function storePathOf(name: string): StorePath {
  return toStorePath(sha256Of(name).subarray(0, 20), name);
}

/** A signature that is not one of anything. */
export function signatureOf(keyName: string, seed = 1): Signature {
  return toSignature(keyName, sampleBytes(64, seed));
}

/** A path info with the least in it, and what is given. */
export function pathInfoOf(name: string, parts: Partial<PathInfo> = {}): PathInfo {
  return {
    storePath: storePathOf(name),
    root: symlinkNode("/nix/store/somewhereelse"),
    references: [],
    narSize: 136,
    narSha256: sha256Of(`NAR of ${name}`),
    signatures: [],
    ...parts,
  };
}

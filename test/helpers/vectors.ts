import { readFileSync } from "node:fs";
import type { DirectorySizeProfile } from "../../src/castore/directory.ts";

/** A node as castore.json writes it. */
export interface VectorNode {
  readonly type: "file" | "directory" | "symlink";
  readonly digest?: string;
  readonly size?: number;
  readonly executable?: boolean;
  readonly target?: string;
}

interface VectorTree {
  readonly root: VectorNode;
  readonly entryBase64Url: string;
  readonly directories?: readonly { readonly path: string; readonly digest: string; readonly size: number; readonly encodedBytes: number }[];
}

interface VectorNar extends Readonly<Record<DirectorySizeProfile, VectorTree>> {
  readonly file: string;
  readonly narSize: number;
  readonly narSha256: string;
}

interface CastoreVectors {
  readonly directories: Readonly<Record<string, Readonly<Record<DirectorySizeProfile, { readonly size: number; readonly digest: string; readonly encodedHex: string }>>>>;
  readonly nars: Readonly<Record<string, VectorNar>>;
  readonly fastcdc: {
    readonly cuts: readonly { readonly input: string; readonly chunks: readonly { readonly offset: number; readonly length: number; readonly blake3: string }[] }[];
  };
}

export const PROFILES: readonly DirectorySizeProfile[] = ["documented", "doubled"];

const VECTORS = new URL("../fixtures/vectors/", import.meta.url);

/** test/fixtures/vectors/castore.json */
export const CASTORE_VECTORS = JSON.parse(readFileSync(new URL("castore.json", VECTORS), "utf8")) as CastoreVectors;

/** A file of test/fixtures/vectors/nar. */
export function narVector(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`nar/${name}`, VECTORS)));
}

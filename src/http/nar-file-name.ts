import { encodeNix32, decodeNix32 } from "../nix/nix32.ts";

/** A file under `nar/`: the SHA-256 in its name, and whether its name says that it is compressed. */
export interface NarFileName {
  /** 32 bytes. */
  readonly sha256: Uint8Array;
  /** What follows `.nar`, such as `.xz`, or nothing. The codec itself is told by the bytes. */
  readonly suffix: string;
}

const PATTERN = /^nar\/([0-9a-z]{52})\.nar(\.[a-z0-9]{1,8})?$/;

/** Undefined when it is no such name. */
export function parseNarFileName(path: string): NarFileName | undefined {
  const [, hash, suffix = ""] = PATTERN.exec(path) ?? [];
  if (hash === undefined) return undefined;
  try {
    return { sha256: decodeNix32(hash), suffix };
  } catch {
    return undefined;
  }
}

/** Of a NAR in zstd frames. */
export const FRAMED_SUFFIX = ".zst";

/** Where we serve a NAR: by its NarHash. Clients remember these for 30 days. */
export function narUrl(narSha256: Uint8Array, suffix: "" | typeof FRAMED_SUFFIX = ""): string {
  return `nar/${encodeNix32(narSha256)}.nar${suffix}`;
}

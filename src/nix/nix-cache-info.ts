/**
 * `nix-cache-info`: the first thing a client asks a binary cache for.
 * See https://nix.dev/manual/nix/latest/protocols/binary-cache/nix-cache-info
 */
import { NarborError } from "../errors.ts";

/** What a binary cache says of itself. */
export interface NixCacheInfo {
  /** Must be the client's own, or the client will not use the cache. */
  readonly storeDir?: string;
  /** Whether clients may ask for many paths that are likely not there. */
  readonly wantMassQuery: boolean;
  /** Caches with a lower number are asked first. Nix takes 0 when there is none; cache.nixos.org says 40. */
  readonly priority?: number;
}

/**
 * Read a `nix-cache-info`. As Nix does: values are trimmed, unknown keys and lines without a colon are ignored.
 *
 * @throws NarborError ERR_NIX_INVALID when the priority is not an integer
 */
export function parseNixCacheInfo(text: string): NixCacheInfo {
  let storeDir: string | undefined;
  let wantMassQuery = false;
  let priority: number | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const value = line.slice(colon + 1).trim();
    switch (line.slice(0, colon)) {
      case "StoreDir":
        storeDir = value;
        break;
      case "WantMassQuery":
        wantMassQuery = value === "1";
        break;
      case "Priority": {
        if (!/^-?\d{1,9}$/.test(value)) {
          const found = JSON.stringify(value.slice(0, 100));
          throw new NarborError("ERR_NIX_INVALID", `Cannot parse nix-cache-info: Priority, found ${found}, at line ${index + 1}`);
        }
        priority = Number(value);
        break;
      }
    }
  }
  return { ...(storeDir !== undefined && { storeDir }), wantMassQuery, ...(priority !== undefined && { priority }) };
}

/** The text of a `nix-cache-info`. */
export function formatNixCacheInfo(info: NixCacheInfo): string {
  const lines = [
    ...(info.storeDir === undefined ? [] : [`StoreDir: ${info.storeDir}`]),
    ...(info.wantMassQuery ? ["WantMassQuery: 1"] : []),
    ...(info.priority === undefined ? [] : [`Priority: ${info.priority}`]),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

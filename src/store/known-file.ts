/** Whether a file is one that was taken in before. To know that it must be hashed, which is worth it only when a file of its size was. */
import type { CallOptions } from "../castore/call-options.ts";
import { sha256 } from "../hash/sha256.ts";
import type { ComputedKey } from "./computed-cache.ts";
import type { NarRecord } from "./nar-index.ts";
import type { StoreServices } from "./store.ts";

/** A smaller one is as quickly taken in again. */
const MIN_BYTES = 1024 * 1024;

/** To be called when a file's record is in the NAR index. */
export async function rememberFile(fileSize: number, { computed }: Pick<StoreServices, "computed">, options?: CallOptions): Promise<void> {
  if (fileSize >= MIN_BYTES) await computed.put(keyOf(fileSize), new Uint8Array(0), 0, options);
}

/**
 * What NAR a file holds, if that is known.
 *
 * @param hash gives the file's SHA-256; called when there was a file of that size
 */
export async function findKnownFile(fileSize: number, hash: () => Promise<Uint8Array>, { computed, nars }: Pick<StoreServices, "computed" | "nars">, options?: CallOptions): Promise<NarRecord | undefined> {
  if (fileSize < MIN_BYTES || (await computed.get(keyOf(fileSize), options)) === undefined) return undefined;
  return await nars.byFileHash(await hash(), options);
}

function keyOf(fileSize: number): ComputedKey {
  return { kind: "file-size", digest: sha256(Buffer.from(String(fileSize))) };
}

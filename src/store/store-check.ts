import type { B3Digest } from "../castore/digest.ts";

/** What a check of a whole store tells as it goes. */
export type StoreCheck =
  /** Stored bytes read so far, of how many. */
  | { readonly type: "progress"; readonly bytes: number; readonly totalBytes: number }
  /** Something is not as it was stored. `digest` names the blob, chunk or directory that cannot be read any more, where one is known. */
  | { readonly type: "damage"; readonly message: string; readonly digest?: B3Digest }
  /** Bytes that were never part of the store: a write that a crash cut off. No harm. */
  | { readonly type: "torn"; readonly message: string };

/** A store that can check itself. */
export interface CheckableStore {
  /** Read everything again and hold it against its digests. */
  check(signal?: AbortSignal): AsyncIterable<StoreCheck>;
}

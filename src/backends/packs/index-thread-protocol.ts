/** What the main thread and the index's thread say to each other. Every request but "end" is answered once. */
import type { ErrorCode } from "../../errors.ts";
import type { IndexedBlock } from "./index-database.ts";

export type IndexRequest =
  | BlocksRequest
  /** End the thread. */
  | "end";

export interface BlocksRequest {
  readonly blocks: readonly BlockMessage[];
}

/** A block, with its chunks and its records as they are in packs: thousands of objects would take longer to pass on than to insert. */
export interface BlockMessage extends Pick<IndexedBlock, "pack" | "offset" | "length"> {
  readonly chunks: Uint8Array<ArrayBuffer>;
  readonly records: Uint8Array<ArrayBuffer>;
}

export type IndexAnswer = { readonly type: "added" } | { readonly type: "error"; readonly code: ErrorCode; readonly message: string };

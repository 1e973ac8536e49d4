import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";

/** A small file that is known by a name: a build log of a binary cache, a realisation, debug information, the record of an image. Its bytes are a blob. */
export interface DocumentRecord {
  /** Its path in the cache, such as `log/0abc…-hello.drv`; or `image/` and an image's name. */
  readonly name: string;
  readonly digest: B3Digest;
  /** Bytes. */
  readonly size: number;
}

/**
 * Documents by name; the last one put counts. Every backend passes the same suite (test/conformance/document-index.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface DocumentIndex {
  get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined>;
  /** Must resolve when the record is durable. The blob is put before. */
  put(document: DocumentRecord, options?: CallOptions): Promise<void>;
  /** Documents whose names begin so, each once, in the order of their names' UTF-8 bytes. A store that holds millions must not take memory for them. */
  list(prefix: string, options?: CallOptions): AsyncIterable<DocumentRecord>;
  /** Forget a document, and say whether there was one. Must resolve when that is durable. Its blob stays. */
  delete(name: string, options?: CallOptions): Promise<boolean>;
}

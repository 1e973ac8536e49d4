import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";

/** A small file beside the NARs of a binary cache: a build log, a realisation, debug information. Its bytes are a blob. */
export interface DocumentRecord {
  /** Its path in the cache, such as `log/0abc…-hello.drv`. */
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
}

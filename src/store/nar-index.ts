import { equalBytes } from "../bytes/compare-bytes.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { encodeEntry } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import type { Codec } from "../compression/codec.ts";

/** What a NAR turned out to be. */
export interface NarRecord {
  /** NarHash: SHA-256 of the NAR, 32 bytes. */
  readonly narSha256: Uint8Array;
  /** NarSize, in bytes. */
  readonly narSize: number;
  readonly root: Node;
}

/** A file that was uploaded as a NAR. */
export interface NarFileRecord {
  /** FileHash: SHA-256 of the file as it was uploaded, 32 bytes. */
  readonly fileSha256: Uint8Array;
  /** FileSize, in bytes. */
  readonly fileSize: number;
  readonly codec: Codec;
}

/**
 * Remembers NARs by content: what tree a NarHash stands for, and what NAR an uploaded file held. A record is written only when the
 * tree is stored, so whoever finds one may rely on the tree. Every backend passes the same suite (test/conformance/nar-index.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface NarIndex {
  /** Of several trees that give one NAR, as those do whose directory sizes are counted differently, the one that was put last. */
  byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined>;
  byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined>;
  /** What NAR a tree gives, where that is known. A root of another size, or executable where this one is not, is another root. */
  byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined>;
  /**
   * Record a NAR and, where there is one, the file it came in. Must resolve when both are durable; putting the same again is no error. Where two
   * records contradict each other, because one of them was wrong, the last one put counts: whoever has seen a NAR must be able to set right what
   * was only said of it.
   */
  put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void>;
}

/** Whether two records say the same. */
export function equalNars(a: NarRecord, b: NarRecord): boolean {
  return a.narSize === b.narSize && equalBytes(a.narSha256, b.narSha256) && equalBytes(encodeEntry(a.root), encodeEntry(b.root));
}

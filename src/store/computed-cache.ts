import type { CallOptions } from "../castore/call-options.ts";
import { NarborError } from "../errors.ts";

/** By what something computed is known: what kind of thing it is, and everything that it depends on, hashed. */
export interface ComputedKey {
  /** 1 to 64 characters. */
  readonly kind: string;
  /** 32 bytes. */
  readonly digest: Uint8Array;
}

/** What there is of one kind, and what it was good for. */
export interface ComputedStats {
  readonly kind: string;
  readonly entries: number;
  readonly hits: number;
  readonly misses: number;
  /** What it took to compute what was found instead. */
  readonly secondsSaved: number;
}

/** What a NAR in the frames in which it lies is as a file: it depends on where it lies, and is forgotten when that is found anew. */
export const FRAMED_NAR_KIND = "framed-nar";

/** Most bytes of a value. */
export const MAX_COMPUTED_BYTES = 4096;
const MAX_KIND_LENGTH = 64;
const DIGEST_LENGTH = 32;

/**
 * What was computed from content, to be found again by that content. It may be forgotten at any time, which costs the time to compute it again and
 * nothing else: by age, by number, or on request. Every backend passes the same suite (test/conformance/computed-cache.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface ComputedCache {
  /** What was computed, or undefined. Counted as a hit or a miss. */
  get(key: ComputedKey, options?: CallOptions): Promise<Uint8Array | undefined>;
  /**
   * Remember what was computed, in place of what is there.
   *
   * @param value at most MAX_COMPUTED_BYTES
   * @param seconds that it took
   * @throws NarborError ERR_INVALID for a kind, key or value of another length
   */
  put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void>;
  /** In the order of kinds. */
  stats(options?: CallOptions): Promise<readonly ComputedStats[]>;
  /** Forget everything, the counts too. Gives how many values there were. */
  clear(options?: CallOptions): Promise<number>;
}

/** @throws NarborError ERR_INVALID for what no cache takes */
export function checkComputed({ kind, digest }: ComputedKey, value?: Uint8Array, seconds = 0): void {
  if (kind.length === 0 || kind.length > MAX_KIND_LENGTH) throw invalid(`a kind of ${kind.length} characters, expected 1 to ${MAX_KIND_LENGTH}`);
  if (digest.length !== DIGEST_LENGTH) throw invalid(`a key of ${digest.length} bytes, expected ${DIGEST_LENGTH}`);
  if (value !== undefined && value.length > MAX_COMPUTED_BYTES) throw invalid(`a value of ${value.length} bytes, expected ${MAX_COMPUTED_BYTES} at most`);
  if (!(seconds >= 0 && seconds < Infinity)) throw invalid(`${seconds} seconds`);
}

function invalid(found: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot use the cache of what was computed: found ${found}`);
}

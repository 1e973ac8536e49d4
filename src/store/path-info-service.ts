import type { CallOptions } from "../castore/call-options.ts";
import type { PathInfo } from "./path-info.ts";

/**
 * Path infos by the 20-byte digest in a store path. Every backend passes the same suite (test/conformance/path-info-service.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface PathInfoService {
  /** @param digest the 20 bytes of the store path's hash part */
  get(digest: Uint8Array, options?: CallOptions): Promise<PathInfo | undefined>;
  /**
   * Store a path info in place of what is there for its path, and give what is stored then. Signatures that are there for the same
   * NarHash and references must be kept beside the new ones, also when two puts race.
   */
  put(pathInfo: PathInfo, options?: CallOptions): Promise<PathInfo>;
  /** All path infos, in the order of their digests. */
  list(options?: CallOptions): AsyncIterable<PathInfo>;
  /** Forget a path. False when there was none. */
  delete(digest: Uint8Array, options?: CallOptions): Promise<boolean>;
}

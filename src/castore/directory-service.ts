import type { CallOptions } from "./call-options.ts";
import type { B3Digest } from "./digest.ts";
import type { NamedDirectory } from "./directory-order.ts";

/**
 * Directories by the BLAKE3 digest of their canonical message. Every backend passes the same suite
 * (test/conformance/directory-service.ts).
 *
 * Every method must reject with `signal.reason` once the signal fires, and with ERR_CLOSED after the service was closed.
 */
export interface DirectoryService {
  /** Whether a closure may take its time to come: it is put aside until its end. A service that is elsewhere may give up one who sends nothing for a while. @default false */
  readonly putsClosuresAside?: boolean;

  /** One directory's message, verified, or undefined when it is not stored. */
  get(digest: B3Digest, options?: CallOptions): Promise<Uint8Array | undefined>;

  /**
   * A directory and all below it, root first, each distinct one once and after one that holds it, all verified;
   * or undefined when the root is not stored. One that is missing below it is ERR_DATA_LOSS.
   */
  getClosure(root: B3Digest, options?: CallOptions): Promise<AsyncIterable<NamedDirectory> | undefined>;

  /**
   * Store a closure that comes leaves to root (see `ClosureValidator` for the rules) and give its root's digest when it is durable and can be read back.
   * Nothing of it must be readable before its end, nor at all when it fails. One that is too large for the service is ERR_LIMIT.
   */
  putClosure(directories: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: CallOptions): Promise<B3Digest>;
}

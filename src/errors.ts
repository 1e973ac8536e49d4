/**
 * One error class, one closed list of codes.
 *
 * Everything Narbor throws on purpose is a `NarborError`; a built-in `TypeError` or `RangeError` is a programmer's
 * mistake. Borders (HTTP, gRPC, the command line) turn the code into their own status in one table each and never
 * turn an error they do not know into "not found".
 */

/** What went wrong, as far as a caller can act on it. */
export type ErrorCode =
  /** A NAR breaks a rule of its format. */
  | "ERR_NAR_INVALID"
  /** An image's manifest, configuration or archive breaks a rule. */
  | "ERR_IMAGE_INVALID"
  /** A tar archive breaks a rule of its format. */
  | "ERR_TAR_INVALID"
  /** A castore directory, node or closure breaks a rule. */
  | "ERR_CASTORE_INVALID"
  /** A narinfo, store path, hash or signature cannot be read. */
  | "ERR_NIX_INVALID"
  /** Compressed input is damaged, cut short or followed by something else. */
  | "ERR_COMPRESSION_INVALID"
  /** The input's compression is one we do not read. */
  | "ERR_COMPRESSION_UNSUPPORTED"
  /** Bytes or metadata are not what a digest or a size promised. */
  | "ERR_MISMATCH"
  /** Something from outside is larger than what is allowed. */
  | "ERR_LIMIT"
  /** Any other bad request or argument from outside. */
  | "ERR_INVALID"
  /** An offset lies beyond the end of what is read. */
  | "ERR_OUT_OF_RANGE"
  /** The store or the other side has no way to do that. */
  | "ERR_UNSUPPORTED"
  /** What was asked for is not here. */
  | "ERR_NOT_FOUND"
  /** What was stored can no longer be read back as it was. */
  | "ERR_DATA_LOSS"
  /** No space left where it is to be stored. */
  | "ERR_NO_SPACE"
  /** The store may not be written to. */
  | "ERR_READ_ONLY"
  /** The store's format is newer than this program. */
  | "ERR_STORE_VERSION"
  /** The store cannot be opened or written for another reason. */
  | "ERR_STORE"
  /** The service is closed. */
  | "ERR_CLOSED"
  /** The other side cannot be reached or did not answer in time. */
  | "ERR_UNAVAILABLE"
  /** The other side sent nothing for too long. */
  | "ERR_TIMEOUT"
  /** The caller may not do this. */
  | "ERR_FORBIDDEN";

export interface NarborErrorOptions {
  /** What led to this error. Kept for logs, never sent to a peer. */
  readonly cause?: unknown;
}

/**
 * The one error class. `message` reads: what could not be done, colon, what was found, where.
 *
 * @example
 * try { await importNar(source, services) }
 * catch (error) { if (isNarborError(error, "ERR_NAR_INVALID")) console.error(error.message) }
 */
export class NarborError extends Error {
  override readonly name = "NarborError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: NarborErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Whether `error` is ours and, where codes are given, carries one of them. */
export function isNarborError(error: unknown, ...codes: readonly ErrorCode[]): error is NarborError {
  return error instanceof NarborError && (codes.length === 0 || codes.includes(error.code));
}

/** The message of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Errors as statuses, in one table. Nix shows a client the body of an error when it is short, so the message goes out as it is. */
import type { ErrorCode } from "../errors.ts";
import { NarborError } from "../errors.ts";

/**
 * 202, 408, 429 and 5xx make Nix try again, and versions before 2.34 do that badly with uploads: they are for what may
 * really be better the next time.
 */
const STATUS_OF_CODE: Readonly<Record<ErrorCode, number>> = {
  ERR_NAR_INVALID: 400,
  ERR_IMAGE_INVALID: 400,
  ERR_TAR_INVALID: 400,
  ERR_CASTORE_INVALID: 400,
  ERR_NIX_INVALID: 400,
  ERR_COMPRESSION_INVALID: 400,
  ERR_COMPRESSION_UNSUPPORTED: 415,
  ERR_MISMATCH: 400,
  ERR_LIMIT: 413,
  ERR_INVALID: 400,
  ERR_OUT_OF_RANGE: 416,
  ERR_UNSUPPORTED: 501,
  ERR_NOT_FOUND: 404,
  ERR_FORBIDDEN: 403,
  ERR_TIMEOUT: 408,
  ERR_DATA_LOSS: 500,
  ERR_NO_SPACE: 507,
  ERR_READ_ONLY: 500,
  ERR_STORE_VERSION: 500,
  ERR_STORE: 500,
  ERR_CLOSED: 503,
  ERR_UNAVAILABLE: 503,
};

/** Bytes of an error's body: Nix shows what is below 1 KiB. */
const MESSAGE_LIMIT = 1000;

/** The status and the sentence for anything that was thrown. What is not ours to explain is said to be a fault and no more. */
export function toHttpError(error: unknown): { readonly status: number; readonly message: string } {
  if (!(error instanceof NarborError)) return { status: 500, message: "Internal error\n" };
  return { status: STATUS_OF_CODE[error.code], message: `${error.message.slice(0, MESSAGE_LIMIT)}\n` };
}

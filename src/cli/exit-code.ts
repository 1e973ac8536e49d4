/** How a command ends, for programs that run it. */
import type { ErrorCode } from "../errors.ts";
import { NarborError } from "../errors.ts";

export const EXIT_OK = 0;
/** Something else went wrong. */
export const EXIT_FAILURE = 1;
/** The command line is wrong. */
export const EXIT_USAGE = 2;
/** What was asked for is not there. */
export const EXIT_NOT_FOUND = 3;
/** The input is damaged or breaks a rule. */
export const EXIT_INVALID_INPUT = 4;
/** What was stored is damaged. */
export const EXIT_DAMAGED = 5;
/** The store cannot be opened or written, or not by us. */
export const EXIT_STORE = 6;
/** No space left. */
export const EXIT_NO_SPACE = 7;
/** An address cannot be listened at or reached, or Nix cannot be asked. */
export const EXIT_UNAVAILABLE = 8;
/** Ended by SIGINT (128 + 2). */
export const EXIT_INTERRUPTED = 130;
/** Whoever was to read an archive has gone: as if ended by SIGPIPE (128 + 13). */
export const EXIT_READER_GONE = 141;
/** Ended by SIGTERM (128 + 15). */
export const EXIT_TERMINATED = 143;

const EXIT_OF_CODE: Readonly<Record<ErrorCode, number>> = {
  ERR_NAR_INVALID: EXIT_INVALID_INPUT,
  ERR_IMAGE_INVALID: EXIT_INVALID_INPUT,
  ERR_TAR_INVALID: EXIT_INVALID_INPUT,
  ERR_CASTORE_INVALID: EXIT_INVALID_INPUT,
  ERR_NIX_INVALID: EXIT_INVALID_INPUT,
  ERR_COMPRESSION_INVALID: EXIT_INVALID_INPUT,
  ERR_COMPRESSION_UNSUPPORTED: EXIT_INVALID_INPUT,
  ERR_MISMATCH: EXIT_INVALID_INPUT,
  ERR_LIMIT: EXIT_INVALID_INPUT,
  ERR_INVALID: EXIT_INVALID_INPUT,
  ERR_OUT_OF_RANGE: EXIT_INVALID_INPUT,
  ERR_UNSUPPORTED: EXIT_FAILURE,
  ERR_NOT_FOUND: EXIT_NOT_FOUND,
  ERR_DATA_LOSS: EXIT_DAMAGED,
  ERR_NO_SPACE: EXIT_NO_SPACE,
  ERR_READ_ONLY: EXIT_STORE,
  ERR_STORE_VERSION: EXIT_STORE,
  ERR_STORE: EXIT_STORE,
  ERR_CLOSED: EXIT_STORE,
  ERR_UNAVAILABLE: EXIT_UNAVAILABLE,
  ERR_TIMEOUT: EXIT_UNAVAILABLE,
  ERR_FORBIDDEN: EXIT_STORE,
};

/** The exit code for anything that was thrown. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof NarborError) return EXIT_OF_CODE[error.code];
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  if (code === "ENOENT" || code === "ENOTDIR") return EXIT_NOT_FOUND;
  if (code === "ENOSPC" || code === "EDQUOT") return EXIT_NO_SPACE;
  return EXIT_FAILURE;
}

/** For `--help`. */
export const EXIT_CODES_HELP = `
Exit codes:
  0    done
  1    something else went wrong
  2    the command line is wrong
  3    not found
  4    the input is damaged or breaks a rule
  5    what was stored is damaged
  6    the store cannot be opened or written
  7    no space left
  8    an address cannot be listened at or reached, or Nix cannot be asked
  130  interrupted (Ctrl-C)
  141  whoever was to read an archive has gone
  143  told to end (SIGTERM)`;

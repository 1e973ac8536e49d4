import { errorMessage, isNarborError, NarborError } from "../../errors.ts";

/** A fault of the disk or of SQLite as an error whose code says what a person can do about it. */
export function toStoreError(what: string, error: unknown): NarborError {
  if (isNarborError(error)) return error;
  const code = codeOf(error);
  const options = { cause: error };
  if (code === "ENOSPC" || code === "EDQUOT" || code === "SQLITE_FULL" || code === "EFBIG") {
    return new NarborError("ERR_NO_SPACE", `${what}: no space left on the device`, options);
  }
  if (code === "EROFS" || code === "EACCES" || code === "EPERM" || code.startsWith("SQLITE_READONLY") || code === "SQLITE_CANTOPEN") {
    return new NarborError("ERR_READ_ONLY", `${what}: it may not be written to (${errorMessage(error)})`, options);
  }
  if (isDamageCode(code)) {
    return new NarborError("ERR_STORE", `${what}: the index is damaged; "narbor verify --rebuild-index" makes it anew from the packs`, options);
  }
  return new NarborError("ERR_STORE", `${what}: ${errorMessage(error)}`, options);
}

/** Whether an error from `toStoreError` says that the index is damaged as a file, and not only out of reach. */
export function isDamagedDatabase(error: unknown): boolean {
  return error instanceof NarborError && isDamageCode(codeOf(error.cause));
}

/** Whether anything that was thrown carries this code of the system. */
export function hasErrorCode(error: unknown, code: string): boolean {
  return codeOf(error) === code;
}

function isDamageCode(code: string): boolean {
  return code === "SQLITE_NOTADB" || code.startsWith("SQLITE_CORRUPT");
}

function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
}

import { NarborError } from "../errors.ts";

/** What is wrong with an archive, and where. */
export function tarError(what: string, at: number): NarborError {
  return new NarborError("ERR_TAR_INVALID", `Cannot parse tar: ${what} at byte ${at}`);
}

import { quoteBytes } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import { MAX_NAME_LENGTH, MAX_TARGET_LENGTH } from "../nar/nar-event.ts";

/** Whether `bytes` may name a directory entry: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`. Any other bytes may stand in it. */
export function isPathComponent(bytes: Uint8Array): boolean {
  if (bytes.length === 0 || bytes.length > MAX_NAME_LENGTH) return false;
  if (bytes.length <= 2 && bytes.every((byte) => byte === 0x2e)) return false;
  return !bytes.includes(0) && !bytes.includes(0x2f);
}

/** Whether `bytes` may be a symlink's target: 1 to 4095 bytes, no NUL. */
export function isSymlinkTarget(bytes: Uint8Array): boolean {
  return bytes.length > 0 && bytes.length <= MAX_TARGET_LENGTH && !bytes.includes(0);
}

/** @throws NarborError ERR_CASTORE_INVALID */
export function checkPathComponent(bytes: Uint8Array): void {
  if (!isPathComponent(bytes)) throw new NarborError("ERR_CASTORE_INVALID", `Cannot read a directory: found invalid name ${quoteBytes(bytes)}`);
}

/** @throws NarborError ERR_CASTORE_INVALID */
export function checkSymlinkTarget(bytes: Uint8Array): void {
  if (!isSymlinkTarget(bytes)) {
    throw new NarborError("ERR_CASTORE_INVALID", `Cannot read a symlink: found an invalid target of ${bytes.length} bytes`);
  }
}

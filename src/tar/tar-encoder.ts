/**
 * The bytes of a tar archive that we write ourselves: what stands before and after contents. The same entries give the same bytes everywhere.
 *
 * A header is ustar's, with the times, ids and names of no machine. What ustar has no room for goes into a PAX header before it, and only that:
 * long paths that have no slash in the right place, bytes that are not ASCII, sizes of 8 GiB and more, large ids, times with a fraction.
 */
import { asBuffer } from "../bytes/as-buffer.ts";
import { NarborError } from "../errors.ts";
import { encodePaxRecord } from "./pax-records.ts";
import type { TarEntryKind } from "./tar-event.ts";
import { MAX_PATH_LENGTH } from "./tar-event.ts";
import type { TarField } from "./tar-header.ts";
import { BLOCK_LENGTH, paddingLength, TAR_FIELD } from "./tar-header.ts";

/** What is written of an entry. */
export interface TarHeaderFields {
  /** Neither empty nor with a NUL in it. A directory's gets a slash at its end, if it has none. */
  readonly path: Uint8Array;
  readonly kind: Extract<TarEntryKind, "file" | "directory" | "symlink" | "hardlink">;
  /** Permissions with set-user-ID, set-group-ID and sticky bit: 0 to 0o7777. */
  readonly mode: number;
  /** Bytes of contents that follow: of files only. @default 0 */
  readonly size?: number;
  /** Of symlinks and hard links, and of nothing else. */
  readonly linkTarget?: Uint8Array;
  /** Seconds since 1970. @default 1, as in a Nix store */
  readonly mtime?: number;
  /** @default 0 */
  readonly uid?: number;
  /** @default 0 */
  readonly gid?: number;
}

/** Two blocks of zeros. */
export const TAR_END = new Uint8Array(2 * BLOCK_LENGTH);

const NO_BYTES = new Uint8Array(0);
const SPACE = 0x20;
const ZERO = 0x30;
const SLASH = 0x2f;
/** The name of PAX headers, as Python's tarfile writes it: a reader that knows nothing of them makes one file of all of them. */
const PAX_NAME = Buffer.from("././@PaxHeader");
const MAGIC_AND_VERSION = Buffer.from("ustar\x0000", "latin1");
const TYPE_FLAG = { file: 0x30, hardlink: 0x31, symlink: 0x32, directory: 0x35, extendedHeader: 0x78 } as const;

/** What is the same in all headers. */
const EMPTY_HEADER = emptyHeader();

function emptyHeader(): Uint8Array {
  const header = new Uint8Array(BLOCK_LENGTH);
  writeText(header, TAR_FIELD.magic, MAGIC_AND_VERSION);
  writeNumber(header, TAR_FIELD.deviceMajor, 0);
  writeNumber(header, TAR_FIELD.deviceMinor, 0);
  return header;
}

/**
 * What stands before an entry's contents: its header, and before that a PAX header where it needs one.
 *
 * @throws NarborError ERR_LIMIT when the path or the link target is longer than `MAX_PATH_LENGTH`
 */
export function encodeTarHeader(fields: TarHeaderFields): Uint8Array {
  const { kind, mode, size = 0, mtime = 1, uid = 0, gid = 0 } = fields;
  checkNumbers(fields);
  const path = kind === "directory" ? withSlash(fields.path) : fields.path;
  const linkTarget = fields.linkTarget ?? NO_BYTES;
  checkPath(path, "path");
  if ((kind === "symlink" || kind === "hardlink") !== linkTarget.length > 0) throw new RangeError(`A ${kind} with a link target of ${linkTarget.length} bytes`);
  if (linkTarget.length > 0) checkPath(linkTarget, "link target");

  const records: Uint8Array[] = [];
  const header = beginHeader(TYPE_FLAG[kind]);
  writeNumber(header, TAR_FIELD.mode, mode);
  const split = splitPath(path);
  if (split === undefined) records.push(encodePaxRecord("path", path));
  writeText(header, TAR_FIELD.prefix, split?.prefix ?? NO_BYTES);
  writeText(header, TAR_FIELD.name, split?.name ?? standIn(path, TAR_FIELD.name));
  const isShortTarget = linkTarget.length <= TAR_FIELD.linkName[1] && isAscii(linkTarget);
  if (!isShortTarget) records.push(encodePaxRecord("linkpath", linkTarget));
  writeText(header, TAR_FIELD.linkName, isShortTarget ? linkTarget : standIn(linkTarget, TAR_FIELD.linkName));
  for (const [key, value] of [["size", size], ["uid", uid], ["gid", gid], ["mtime", mtime]] as const) {
    if (!writeNumber(header, TAR_FIELD[key], value)) records.push(encodePaxRecord(key, Buffer.from(decimal(value))));
  }
  if (records.length === 0) return finishHeader(header);
  if (!isUtf8(path) || !isUtf8(linkTarget)) records.unshift(encodePaxRecord("hdrcharset", Buffer.from("BINARY")));
  return Buffer.concat([encodePaxHeader(records), finishHeader(header)]);
}

/** The zeros that stand after contents of `size` bytes. */
export function tarPadding(size: number): Uint8Array {
  return TAR_END.subarray(0, paddingLength(size));
}

function encodePaxHeader(records: readonly Uint8Array[]): Uint8Array {
  const contents = Buffer.concat(records);
  const header = beginHeader(TYPE_FLAG.extendedHeader);
  writeText(header, TAR_FIELD.name, PAX_NAME);
  writeNumber(header, TAR_FIELD.mode, 0o644);
  writeNumber(header, TAR_FIELD.size, contents.length);
  writeNumber(header, TAR_FIELD.uid, 0);
  writeNumber(header, TAR_FIELD.gid, 0);
  writeNumber(header, TAR_FIELD.mtime, 0);
  return Buffer.concat([finishHeader(header), contents, tarPadding(contents.length)]);
}

/** A header to be filled in, and finished. It is no class: one whose objects live so short is compiled again after each garbage collection. */
function beginHeader(typeFlag: number): Uint8Array {
  const header = Buffer.from(EMPTY_HEADER);
  header[TAR_FIELD.typeFlag[0]] = typeFlag;
  return header;
}

function writeText(header: Uint8Array, [start]: TarField, bytes: Uint8Array): void {
  header.set(bytes, start);
}

/** Octal digits and a NUL. Zero, and false, when the number does not fit. */
function writeNumber(header: Uint8Array, [start, length]: TarField, value: number): boolean {
  const fits = Number.isInteger(value) && value >= 0 && value < 8 ** (length - 1);
  for (let at = start + length - 2, rest = fits ? value : 0; at >= start; at--, rest = Math.floor(rest / 8)) header[at] = ZERO + (rest % 8);
  return fits;
}

function finishHeader(header: Uint8Array): Uint8Array {
  const [start, length] = TAR_FIELD.checksum;
  // Its own bytes count as spaces. Six digits, a NUL and a space: in that order, unlike all other numbers.
  let sum = length * SPACE;
  for (let at = 0; at < BLOCK_LENGTH; at++) sum += header[at] as number;
  writeNumber(header, [start, length - 1], sum);
  header[start + length - 1] = SPACE;
  return header;
}

/** A path as ustar has it, or undefined when it has no room for it. */
function splitPath(path: Uint8Array): { readonly prefix: Uint8Array; readonly name: Uint8Array } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= TAR_FIELD.name[1]) return { prefix: NO_BYTES, name: path };
  // As Go and GNU tar do it: as much in the prefix as there is room for, and something in the name.
  const end = Math.min(path.length - 1, TAR_FIELD.prefix[1] + 1);
  const slash = path.lastIndexOf(SLASH, end - 1);
  const name = path.subarray(slash + 1);
  return slash > 0 && name.length <= TAR_FIELD.name[1] ? { prefix: path.subarray(0, slash), name } : undefined;
}

/** What a reader sees who does not know of PAX: as much of the path as ustar has room for. */
function standIn(path: Uint8Array, [, length]: TarField): Uint8Array {
  const part = path.slice(0, length).map((byte) => (byte < 0x80 ? byte : 0x5f));
  if (part.length === path.length) return part;
  // Without a slash at its end, which some take for a directory's whatever the PAX path says.
  let end = part.length;
  while (end > 1 && part[end - 1] === SLASH) end--;
  return part.subarray(0, end);
}

function withSlash(path: Uint8Array): Uint8Array {
  return path.at(-1) === SLASH || path.length === 0 ? path : Buffer.concat([path, Uint8Array.of(SLASH)]);
}

function isAscii(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) if ((bytes[at] as number) >= 0x80) return false;
  return true;
}

function isUtf8(bytes: Uint8Array): boolean {
  return isAscii(bytes) || asBuffer(bytes).equals(Buffer.from(asBuffer(bytes).toString("utf8")));
}

function decimal(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(9).replace(/\.?0+$/, "");
}

function checkPath(path: Uint8Array, what: string): void {
  if (path.length === 0 || path.includes(0)) throw new RangeError(`The ${what} of an entry must have bytes, none of them NUL`);
  if (path.length > MAX_PATH_LENGTH) throw new NarborError("ERR_LIMIT", `Cannot write tar: ${what} of ${path.length} bytes is longer than ${MAX_PATH_LENGTH}`);
}

function checkNumbers({ kind, mode, size = 0, mtime = 1, uid = 0, gid = 0 }: TarHeaderFields): void {
  const isPermissions = Number.isInteger(mode) && mode >= 0 && mode <= 0o7777;
  if (!isPermissions) throw new RangeError(`mode must be 0 to 0o7777, found ${mode}`);
  for (const [name, value] of [["size", size], ["uid", uid], ["gid", gid]] as const) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} must be a whole number, found ${value}`);
  }
  if (Math.abs(mtime) > Number.MAX_SAFE_INTEGER || Number.isNaN(mtime)) throw new RangeError(`mtime must be a number of seconds, found ${mtime}`);
  if (size > 0 && kind !== "file") throw new RangeError(`A ${kind} with a size of ${size}`);
}

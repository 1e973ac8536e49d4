/**
 * The records of a PAX extended header, `LENGTH KEY=VALUE\n` each: the length in decimal digits, of all of it, itself and the newline too.
 *
 * As Go's archive/tar reads them: the last of several records with one key counts; keys may not hold a NUL, nor may paths and names of users;
 * nothing need be UTF-8; an empty value is as none, and takes back what a global header said.
 * See https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03
 */
import { asBuffer } from "../bytes/as-buffer.ts";
import { copyBytes } from "../bytes/collect.ts";
import { tarError } from "./tar-error.ts";

/** The records that matter here. A value that is undefined was not said; an empty array or null was said to be nothing. */
export interface PaxRecords {
  path?: Uint8Array;
  linkPath?: Uint8Array;
  size?: number | null;
  uid?: number | null;
  gid?: number | null;
  mtime?: number | null;
  /** By the names after `SCHILY.xattr.`; an empty value is one. */
  xattrs?: Map<string, Uint8Array>;
  /** By the names after `GNU.sparse.`. The ranges of version 0.0, a record for each number, are `map`, as in version 0.1. */
  sparse?: Map<string, Uint8Array>;
}

const XATTR_PREFIX = "SCHILY.xattr.";
const SPARSE_PREFIX = "GNU.sparse.";
const [SPACE, NEWLINE, EQUALS, COMMA] = [0x20, 0x0a, 0x3d, 0x2c];

/**
 * The records in the contents of an extended header. Nothing in the result is a view of `bytes`.
 *
 * @param position where the contents are in the archive, for errors
 * @throws NarborError ERR_TAR_INVALID
 */
export function parsePaxRecords(bytes: Uint8Array, position: number): PaxRecords {
  const text = asBuffer(bytes);
  const records: PaxRecords = {};
  const sparseNumbers: string[] = [];
  for (let start = 0; start < bytes.length; ) {
    let length = 0;
    let at = start;
    for (; isDigit(bytes[at]); at++) length = length * 10 + (bytes[at] as number) - 0x30;
    const end = start + length;
    const keyStart = at + 1;
    const isWhole = at > start && bytes[at] === SPACE && end > keyStart && end <= bytes.length && bytes[end - 1] === NEWLINE;
    if (!isWhole) throw malformed(position + start);
    let equals = keyStart;
    while (equals < end && bytes[equals] !== EQUALS) if (bytes[equals++] === 0) throw malformed(position + start);
    if (equals === keyStart || equals === end) throw malformed(position + start);
    addRecord(records, sparseNumbers, text.toString("latin1", keyStart, equals), bytes.subarray(equals + 1, end - 1), position + start);
    start = end;
  }
  if (sparseNumbers.length > 0) (records.sparse ??= new Map()).set("map", Buffer.from(sparseNumbers.join(",")));
  return records;
}

/** `local` where it says something, and `global` where it does not. Extended attributes and sparse maps are one file's alone. */
export function overGlobal(local: PaxRecords, global: PaxRecords): PaxRecords {
  // Not a loop over names: each entry of an archive comes by here.
  const { path = global.path, linkPath = global.linkPath, size = global.size, uid = global.uid, gid = global.gid, mtime = global.mtime } = local;
  return {
    ...local,
    ...(path !== undefined && { path }),
    ...(linkPath !== undefined && { linkPath }),
    ...(size !== undefined && { size }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(mtime !== undefined && { mtime }),
  };
}

/** An integer in decimal digits, perhaps with a sign. NaN when it is none, infinite when it is beyond 2^53. */
export function parseDecimal(text: string): number {
  if (!/^[+-]?[0-9]+$/.test(text)) return Number.NaN;
  const value = Number(text);
  if (!Number.isSafeInteger(value)) return value < 0 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  // Not -0.
  return value + 0;
}

/** Encode one record. */
export function encodePaxRecord(key: string, value: Uint8Array): Uint8Array {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from("\n")]);
  // The length counts its own digits, which may make it one longer.
  let length = rest.length + String(rest.length).length;
  if (String(length).length > String(rest.length).length) length++;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function addRecord(records: PaxRecords, sparseNumbers: string[], key: string, value: Uint8Array, at: number): void {
  switch (key) {
    case "path":
      records.path = copyWithoutNul(key, value, at);
      return;
    case "linkpath":
      records.linkPath = copyWithoutNul(key, value, at);
      return;
    case "uname":
    case "gname":
      copyWithoutNul(key, value, at);
      return;
    case "size":
    case "uid":
    case "gid":
      records[key] = parseNumber(key, value, parseDecimal, at);
      return;
    case "mtime":
      records.mtime = parseNumber(key, value, parseTime, at);
      return;
    case "atime":
    case "ctime":
      parseNumber(key, value, parseTime, at);
      return;
    case "GNU.sparse.offset":
    case "GNU.sparse.numbytes":
      // In turn, and no comma in them: they are joined with commas.
      if ((key === "GNU.sparse.offset") !== (sparseNumbers.length % 2 === 0) || value.includes(COMMA)) throw tarError(`PAX record "${key}" out of order`, at);
      sparseNumbers.push(asBuffer(value).toString("latin1"));
      return;
    default:
      if (key.startsWith(XATTR_PREFIX)) (records.xattrs ??= new Map()).set(asUtf8(key.slice(XATTR_PREFIX.length)), copyBytes(value));
      else if (key.startsWith(SPARSE_PREFIX)) (records.sparse ??= new Map()).set(key.slice(SPARSE_PREFIX.length), copyBytes(value));
  }
}

function asUtf8(latin1: string): string {
  return Buffer.from(latin1, "latin1").toString("utf8");
}

function copyWithoutNul(key: string, value: Uint8Array, at: number): Uint8Array {
  if (value.includes(0)) throw tarError(`PAX record "${key}" holds a NUL byte`, at);
  return copyBytes(value);
}

function parseNumber(key: string, value: Uint8Array, parse: (text: string) => number, at: number): number | null {
  if (value.length === 0) return null;
  const number = parse(asBuffer(value).toString("latin1"));
  if (Number.isNaN(number)) throw tarError(`PAX record "${key}" is not a number`, at);
  if (Math.abs(number) > Number.MAX_SAFE_INTEGER) throw tarError(`PAX record "${key}" is beyond 2^53`, at);
  return number;
}

/** Seconds with a fraction, of which nanoseconds count. */
function parseTime(text: string): number {
  const match = /^([+-]?[0-9]+)(?:\.([0-9]*))?$/.exec(text);
  if (match === null) return Number.NaN;
  return Number(`${match[1]}.${(match[2] ?? "").slice(0, 9)}`) + 0;
}

function malformed(at: number): Error {
  return tarError("malformed PAX record", at);
}

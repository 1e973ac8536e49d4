/**
 * The 512 bytes that every entry of a tar archive begins with: where its fields are, and how to read them.
 *
 * Four formats share the first 257 bytes and differ in the rest, which a magic tells apart: V7 has nothing more; ustar, and PAX with it,
 * has 155 bytes that go before the name; GNU has times and a sparse map in their place; star has 131 bytes and two times.
 * See https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_06 and
 * https://www.gnu.org/software/tar/manual/html_node/Standard.html
 */
import { copyBytes } from "../bytes/collect.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import { tarError } from "./tar-error.ts";

/** Everything in an archive begins at a multiple of this. */
export const BLOCK_LENGTH = 512;

/** 512 bytes of an archive: those from `start` of `bytes` on. */
export interface TarBlock {
  readonly bytes: Uint8Array;
  readonly start: number;
  /** Where they are in the archive, for errors. */
  readonly position: number;
}

/** A field's first byte and its length. */
export type TarField = readonly [start: number, length: number];

/** Fields by their names in POSIX; those of GNU and star alone come last. */
export const TAR_FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  typeFlag: [156, 1],
  linkName: [157, 100],
  magic: [257, 6],
  version: [263, 2],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
  gnuAccessTime: [345, 12],
  gnuChangeTime: [357, 12],
  gnuRealSize: [483, 12],
  starPrefix: [345, 131],
  starAccessTime: [476, 12],
  starChangeTime: [488, 12],
  starTrailer: [508, 4],
} as const satisfies Readonly<Record<string, TarField>>;

/** What a header says by itself, extended headers aside. Nothing in it is a view of the block. */
export interface TarHeader {
  readonly path: Uint8Array;
  readonly linkPath: Uint8Array;
  /** The header's letter, as a byte. */
  readonly typeFlag: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Never negative. */
  readonly size: number;
  readonly mtime: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Whether the bytes that are a prefix in ustar are GNU's. */
  readonly isGnu: boolean;
}

const NO_BYTES = new Uint8Array(0);
const SPACE = 0x20;
const SLASH = 0x2f;

/** Zero bytes that follow contents of `length` bytes. */
export function paddingLength(length: number): number {
  return (BLOCK_LENGTH - (length % BLOCK_LENGTH)) % BLOCK_LENGTH;
}

/**
 * The header in a block, or undefined when all of the block is zero.
 *
 * @throws NarborError ERR_TAR_INVALID
 */
export function parseTarHeader(block: TarBlock): TarHeader | undefined {
  const sum = sumOf(block);
  if (sum === 0) return undefined;
  checkSum(block, sum);
  const isUstar = startsWith(block, TAR_FIELD.magic, "ustar\0");
  const isStar = isUstar && startsWith(block, TAR_FIELD.starTrailer, "tar\0");
  const isGnu = !isUstar && startsWith(block, TAR_FIELD.magic, "ustar  \0");
  const path = readPath(block, prefixField(block, isUstar, isStar, isGnu));
  if (isStar) {
    readNumber(block, TAR_FIELD.starAccessTime, "access time", path);
    readNumber(block, TAR_FIELD.starChangeTime, "change time", path);
  }
  const size = readNumber(block, TAR_FIELD.size, "size", path);
  if (size < 0) throw tarError(`size of entry ${quoteBytes(path)} is ${size}`, block.position);
  return {
    path,
    linkPath: readText(block, TAR_FIELD.linkName),
    typeFlag: block.bytes[block.start + TAR_FIELD.typeFlag[0]] as number,
    mode: readNumber(block, TAR_FIELD.mode, "mode", path),
    uid: readNumber(block, TAR_FIELD.uid, "uid", path),
    gid: readNumber(block, TAR_FIELD.gid, "gid", path),
    size,
    mtime: readNumber(block, TAR_FIELD.mtime, "mtime", path),
    deviceMajor: isUstar || isGnu ? readNumber(block, TAR_FIELD.deviceMajor, "device number", path) : 0,
    deviceMinor: isUstar || isGnu ? readNumber(block, TAR_FIELD.deviceMinor, "device number", path) : 0,
    isGnu,
  };
}

/** What is wrong with a number that `parseTarNumber` could not give. */
export function wrongNumber(what: string, path: Uint8Array, value: number, position: number): Error {
  return tarError(`${what} of entry ${quoteBytes(path)} is ${Number.isNaN(value) ? "not a number" : "beyond 2^53"}`, position);
}

/**
 * The number in a field: octal digits between spaces and NULs, nothing for 0; or, with the first bit set, base 256 in two's complement.
 * NaN when it is neither, infinite when it is beyond 2^53.
 */
export function parseTarNumber(block: TarBlock, field: TarField): number {
  const isBase256 = ((block.bytes[block.start + field[0]] as number) & 0x80) !== 0;
  return isBase256 ? parseBase256(block, field) : parseOctal(block, field);
}

function readNumber(block: TarBlock, field: TarField, what: string, path: Uint8Array): number {
  const value = parseTarNumber(block, field);
  if (!Number.isSafeInteger(value)) throw wrongNumber(what, path, value, block.position);
  return value;
}

function parseOctal({ bytes, start }: TarBlock, [offset, length]: TarField): number {
  let at = start + offset;
  let end = at + length;
  while (at < end && isBlank(bytes[at])) at++;
  while (end > at && isBlank(bytes[end - 1])) end--;
  let value = 0;
  for (; at < end && bytes[at] !== 0; at++) {
    const digit = (bytes[at] as number) - 0x30;
    if (digit < 0 || digit > 7) return Number.NaN;
    value = value * 8 + digit;
  }
  return value;
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === 0;
}

function parseBase256({ bytes, start }: TarBlock, [offset, length]: TarField): number {
  const first = start + offset;
  // A negative number's bits are inverted: -a - 1 is ~a.
  const isNegative = ((bytes[first] as number) & 0x40) !== 0;
  let value = 0;
  for (let at = first; at < first + length; at++) {
    const byte = (bytes[at] as number) ^ (isNegative ? 0xff : 0);
    value = value * 256 + (at === first ? byte & 0x7f : byte);
    if (value > Number.MAX_SAFE_INTEGER) return isNegative ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  }
  return isNegative ? -value - 1 : value;
}

/** The sum of a block's bytes: 0 means that all of them are. */
function sumOf({ bytes, start }: TarBlock): number {
  let sum = 0;
  for (let at = start; at < start + BLOCK_LENGTH; at += 4) {
    sum += (bytes[at] as number) + (bytes[at + 1] as number) + (bytes[at + 2] as number) + (bytes[at + 3] as number);
  }
  return sum;
}

/** Hold the checksum against the header's bytes, its own taken for spaces. Sun's tar added them up as signed bytes. */
function checkSum(block: TarBlock, sum: number): void {
  const { bytes, start, position } = block;
  const [offset, length] = TAR_FIELD.checksum;
  const said = parseOctal(block, TAR_FIELD.checksum);
  const first = start + offset;
  let expected = sum;
  for (let at = first; at < first + length; at++) expected += SPACE - (bytes[at] as number);
  if (said === expected) return;
  let signed = expected;
  for (let at = start; at < start + BLOCK_LENGTH; at++) {
    const isOwn = at >= first && at < first + length;
    if (!isOwn && (bytes[at] as number) >= 0x80) signed -= 0x100;
  }
  if (said === signed) return;
  if (Number.isNaN(said)) throw tarError("header checksum is not a number", position);
  throw tarError(`header checksum is ${said}, its fields give ${expected},`, position);
}

/** Where the beginning of a long name is, if there may be one. */
function prefixField(block: TarBlock, isUstar: boolean, isStar: boolean, isGnu: boolean): TarField | undefined {
  if (isStar) return TAR_FIELD.starPrefix;
  if (isUstar) return TAR_FIELD.prefix;
  // Go before 1.8 wrote a prefix into GNU's headers too, and Docker with it. It is told from times by its not being numbers.
  const isPrefix = isGnu && !(isGnuTime(block, TAR_FIELD.gnuAccessTime) && isGnuTime(block, TAR_FIELD.gnuChangeTime));
  return isPrefix && readText(block, TAR_FIELD.prefix).every((byte) => byte < 0x80) ? TAR_FIELD.prefix : undefined;
}

function isGnuTime(block: TarBlock, field: TarField): boolean {
  if (block.bytes[block.start + field[0]] === 0) return true;
  const time = parseTarNumber(block, field);
  if (Number.isNaN(time)) return false;
  if (!Number.isSafeInteger(time)) throw wrongNumber("a time", readText(block, TAR_FIELD.name), time, block.position);
  return true;
}

/** The name, with the prefix and a slash before it where there is one. */
function readPath(block: TarBlock, prefix: TarField | undefined): Uint8Array {
  const name = readText(block, TAR_FIELD.name);
  if (prefix === undefined || block.bytes[block.start + prefix[0]] === 0) return name;
  const before = readText(block, prefix);
  const path = new Uint8Array(before.length + 1 + name.length);
  path.set(before);
  path[before.length] = SLASH;
  path.set(name, before.length + 1);
  return path;
}

/** A field's bytes up to the first NUL: a copy. */
function readText({ bytes, start }: TarBlock, [offset, limit]: TarField): Uint8Array {
  const first = start + offset;
  let end = first;
  while (end < first + limit && bytes[end] !== 0) end++;
  return end === first ? NO_BYTES : copyBytes(bytes.subarray(first, end));
}

function startsWith({ bytes, start }: TarBlock, [offset]: TarField, text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    if (bytes[start + offset + index] !== text.charCodeAt(index)) return false;
  }
  return true;
}

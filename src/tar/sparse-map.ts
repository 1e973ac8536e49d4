/**
 * Where the data of a file with holes belong, as GNU tar writes it: in the header and blocks after it (the old format), in PAX records
 * (0.0 and 0.1), or before the data themselves (1.0). See https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html
 */
import { asBuffer } from "../bytes/as-buffer.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import { parseDecimal } from "./pax-records.ts";
import { tarError } from "./tar-error.ts";
import type { SparseRange } from "./tar-event.ts";
import { MAX_EXTENDED_HEADER_LENGTH, MAX_SPARSE_RANGES } from "./tar-event.ts";
import type { TarBlock } from "./tar-header.ts";
import { BLOCK_LENGTH, parseTarNumber, wrongNumber } from "./tar-header.ts";

/** What a sparse map may not do is said of the entry that has it. */
export interface SparseEntry {
  readonly path: Uint8Array;
  readonly offset: number;
}

/** Which way a file's PAX records say that its map is written; undefined when it has none. */
export type PaxSparseVersion = "0" | "1" | undefined;

const RANGE_LENGTH = 24;
/** Ranges in an old GNU header, and where the byte is that says that a block with more follows. */
const HEADER_RANGES = { start: 386, count: 4, more: 482 } as const;
/** The same of such a block. */
const EXTENSION_RANGES = { start: 0, count: 21, more: 504 } as const;
const NEWLINE = 0x0a;

/**
 * Take the ranges from an old GNU header, or from a block that extends one.
 *
 * @returns whether another such block follows
 * @throws NarborError ERR_TAR_INVALID
 */
export function readGnuRanges(block: TarBlock, isHeader: boolean, ranges: SparseRange[], entry: SparseEntry): boolean {
  const layout = isHeader ? HEADER_RANGES : EXTENSION_RANGES;
  for (let index = 0; index < layout.count; index++) {
    const at = layout.start + index * RANGE_LENGTH;
    if (block.bytes[block.start + at] === 0) break;
    const offset = parseTarNumber(block, [at, 12]);
    const length = parseTarNumber(block, [at + 12, 12]);
    addRange(ranges, offset, length, entry);
  }
  return block.bytes[block.start + layout.more] !== 0;
}

/** @throws NarborError ERR_TAR_INVALID for a version that is not known: what it says of the data is not known either */
export function paxSparseVersion(records: ReadonlyMap<string, Uint8Array>, entry: SparseEntry): PaxSparseVersion {
  const [major, minor] = [textOf(records, "major"), textOf(records, "minor")];
  if (major === "1" && minor === "0") return "1";
  if (major === "0" && (minor === "0" || minor === "1")) return "0";
  if (major !== "" || minor !== "") throw tarError(`entry ${quoteBytes(entry.path)} has a sparse map of an unknown version`, entry.offset);
  // The first two versions did not say which they were.
  return textOf(records, "map") === "" ? undefined : "0";
}

/** The size of the file that PAX records say, holes and all. @throws NarborError ERR_TAR_INVALID */
export function paxSparseSize(records: ReadonlyMap<string, Uint8Array>, entry: SparseEntry): number | undefined {
  const text = textOf(records, "size") || textOf(records, "realsize");
  if (text === "") return undefined;
  const size = parseDecimal(text);
  if (!Number.isSafeInteger(size)) throw wrongNumber("sparse size", entry.path, size, entry.offset);
  return size;
}

/** The ranges in PAX records of version 0. @throws NarborError ERR_TAR_INVALID */
export function paxSparseRanges(records: ReadonlyMap<string, Uint8Array>, entry: SparseEntry): SparseRange[] {
  const map = textOf(records, "map");
  const count = parseDecimal(textOf(records, "numblocks"));
  checkCount(count, entry);
  const numbers = map === "" ? [] : map.split(",");
  if (numbers.length !== 2 * count) {
    throw tarError(`sparse map of entry ${quoteBytes(entry.path)} has ${numbers.length} numbers for ${count} ranges`, entry.offset);
  }
  const ranges: SparseRange[] = [];
  for (let index = 0; index < numbers.length; index += 2) {
    addRange(ranges, parseDecimal(numbers[index] as string), parseDecimal(numbers[index + 1] as string), entry);
  }
  return ranges;
}

/**
 * A sparse map of version 1.0, which stands in the blocks before the data: decimal numbers with a newline after each, first how many ranges follow.
 * It ends with the block in which its last number does.
 */
export class SparseMapReader {
  readonly #entry: SparseEntry;
  readonly #ranges: SparseRange[] = [];
  #count: number | undefined;
  #offset: number | undefined;
  /** The digits' value so far, or undefined before the first. */
  #number: number | undefined;
  #length = 0;

  constructor(entry: SparseEntry) {
    this.#entry = entry;
  }

  /** Bytes of the map so far. */
  get length(): number {
    return this.#length;
  }

  /** Take the next block. The ranges when it was the last. @throws NarborError ERR_TAR_INVALID */
  addBlock({ bytes, start }: TarBlock): SparseRange[] | undefined {
    this.#length += BLOCK_LENGTH;
    if (this.#length > MAX_EXTENDED_HEADER_LENGTH) throw this.#error(`is longer than ${MAX_EXTENDED_HEADER_LENGTH} bytes`);
    for (let at = start; at < start + BLOCK_LENGTH; at++) {
      const byte = bytes[at] as number;
      if (byte !== NEWLINE) this.#addDigit(byte - 0x30);
      else if (this.#endNumber()) return this.#ranges;
    }
    return undefined;
  }

  #addDigit(digit: number): void {
    if (digit < 0 || digit > 9) throw this.#error("holds what is not a number");
    this.#number = (this.#number ?? 0) * 10 + digit;
    // Before it can become inexact, or infinite.
    if (this.#number > Number.MAX_SAFE_INTEGER) throw this.#error("holds a number beyond 2^53");
  }

  /** Whether that was the last. */
  #endNumber(): boolean {
    const number = this.#number;
    if (number === undefined) throw this.#error("holds what is not a number");
    this.#number = undefined;
    if (this.#count === undefined) {
      checkCount(number, this.#entry);
      this.#count = number;
    } else if (this.#offset === undefined) this.#offset = number;
    else {
      addRange(this.#ranges, this.#offset, number, this.#entry);
      this.#offset = undefined;
    }
    return this.#ranges.length === this.#count;
  }

  #error(what: string): Error {
    return tarError(`sparse map of entry ${quoteBytes(this.#entry.path)} ${what}`, this.#entry.offset);
  }
}

/**
 * Hold a map against the file's size and what is stored of it. Go's archive/tar finds the last when the contents have been read.
 *
 * @throws NarborError ERR_TAR_INVALID
 */
export function checkSparseRanges(ranges: readonly SparseRange[], size: number, storedSize: number, entry: SparseEntry): void {
  let end = 0;
  let stored = 0;
  for (const { offset, length } of ranges) {
    if (offset < end) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} goes back from ${end} to ${offset}`, entry.offset);
    end = offset + length;
    stored += length;
    if (end > size) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} goes beyond the file's ${size} bytes`, entry.offset);
  }
  if (size < 0) throw tarError(`size of entry ${quoteBytes(entry.path)} is ${size}`, entry.offset);
  if (stored !== storedSize) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} is of ${stored} bytes, and ${storedSize} are stored`, entry.offset);
}

function addRange(ranges: SparseRange[], offset: number, length: number, entry: SparseEntry): void {
  checkCount(ranges.length + 1, entry);
  const isRange = offset >= 0 && length >= 0 && Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (!isRange) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} has a range of ${length} bytes at ${offset}`, entry.offset);
  ranges.push({ offset, length });
}

function checkCount(count: number, entry: SparseEntry): void {
  if (!(count >= 0)) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} has ${count} ranges`, entry.offset);
  if (count > MAX_SPARSE_RANGES) throw tarError(`sparse map of entry ${quoteBytes(entry.path)} has more than ${MAX_SPARSE_RANGES} ranges`, entry.offset);
}

function textOf(records: ReadonlyMap<string, Uint8Array>, key: string): string {
  const value = records.get(key);
  return value === undefined ? "" : asBuffer(value).toString("latin1");
}

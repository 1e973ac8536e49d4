/**
 * bzip2 of small blocks, made to be quick and valid rather than small: every symbol's code has one of two lengths, whatever
 * its frequency. Each block is a stream of its own, of which any decoder reads many in a row, so that blocks know nothing
 * of each other.
 * There is no specification; this follows https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf
 */
import { BLOCK_MAGIC, CRC_TABLE, END_MAGIC, GROUP_SYMBOLS } from "./bzip2-format.ts";
import { sortRotations } from "./sort-rotations.ts";

/**
 * The most that one block holds. At level 1 it has 100,000 bytes, less 19 that decoders keep for themselves, and four same
 * bytes become five in it.
 */
export const BZIP2_BLOCK_BYTES = 79_980;

const RUN_A = 0;
/** The longest run of one byte that is written as one. */
const MAX_RUN = 255;
/** Code tables are at least two, so there are two alike. */
const TABLES = 2;

/**
 * Compress at most `BZIP2_BLOCK_BYTES` to one bzip2 stream. Takes some ten milliseconds for a whole block, and some ten times
 * that at worst: repetitive input is not a trap.
 */
export function compressBzip2Sync(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.length > BZIP2_BLOCK_BYTES) throw new RangeError(`A block of bzip2 has at most ${BZIP2_BLOCK_BYTES} bytes, found ${bytes.length}`);
  // Symbols have at most nine bits; the tables take less than 500 bytes, and the rest less than 100.
  const output = new BitWriter(Math.ceil(bytes.length * (5 / 4) * (9 / 8 + 1 / 400)) + 1024);
  output.write(24, 0x425a68);
  output.write(8, 0x31);
  let crc = 0;
  if (bytes.length > 0) {
    crc = checksum(bytes);
    writeBlock(output, codeRuns(bytes), crc);
  }
  for (const magic of END_MAGIC) output.write(24, magic);
  // The stream's checksum is made of its blocks', and of one block it is the same.
  output.write32(crc);
  return output.end();
}

function writeBlock(output: BitWriter, block: Uint8Array, crc: number): void {
  for (const magic of BLOCK_MAGIC) output.write(24, magic);
  output.write32(crc);
  // Not randomised.
  output.write(1, 0);
  const order = sortRotations(block);
  output.write(24, order.indexOf(0));
  const used = writeUsedBytes(output, block);
  const symbols = moveToFront(block, order, used);
  const symbolCount = used.length + 2;
  const groups = Math.ceil(symbols.length / GROUP_SYMBOLS);
  output.write(3, TABLES);
  output.write(15, groups);
  // Each group uses the table that was used last: a zero bit.
  for (let group = 0; group < groups; group++) output.write(1, 0);

  // Of a complete code with lengths n and n + 1, where symbols with small numbers, which are frequent, are the shorter ones.
  const length = 31 - Math.clz32(symbolCount);
  const shorter = 2 ** (length + 1) - symbolCount;
  for (let table = 0; table < TABLES; table++) {
    output.write(5, length);
    for (let symbol = 0; symbol < symbolCount; symbol++) {
      // One bit ends a length, two make it one longer than the one before.
      if (symbol === shorter) output.write(3, 0b100);
      else output.write(1, 0);
    }
  }
  for (const symbol of symbols) {
    if (symbol < shorter) output.write(length, symbol);
    else output.write(length + 1, symbol + shorter);
  }
}

/** The inner run-length code: after four same bytes comes a count of more. */
function codeRuns(bytes: Uint8Array): Uint8Array {
  const coded = new Uint8Array(Math.ceil(bytes.length * (5 / 4)));
  let length = 0;
  for (let index = 0; index < bytes.length; ) {
    const byte = bytes[index] ?? 0;
    const limit = Math.min(bytes.length, index + MAX_RUN);
    let end = index + 1;
    while (end < limit && bytes[end] === byte) end++;
    const run = end - index;
    for (let copy = 0; copy < run && copy < 4; copy++) coded[length++] = byte;
    if (run >= 4) coded[length++] = run - 4;
    index = end;
  }
  return coded.subarray(0, length);
}

/** Write which bytes occur in the block, and return them, ascending. */
function writeUsedBytes(output: BitWriter, block: Uint8Array): Uint8Array {
  const occurs = new Uint8Array(256);
  for (const byte of block) occurs[byte] = 1;
  const ranges = Array.from({ length: 16 }, (_, range) => occurs.subarray(range * 16, range * 16 + 16));
  for (const range of ranges) output.write(1, range.includes(1) ? 1 : 0);
  for (const range of ranges) if (range.includes(1)) for (const bit of range) output.write(1, bit);
  return Uint8Array.from(occurs.keys()).filter((byte) => occurs[byte] === 1);
}

/**
 * The last bytes of the sorted rotations, each as its place among the recently used ones plus one, runs of place zero as
 * numbers in base 2 with the digits RUN_A = 1 and RUN_B = 2, the lowest first, and the end of the block.
 */
function moveToFront(block: Uint8Array, order: Int32Array, used: Uint8Array): Uint16Array {
  const symbols = new Uint16Array(block.length + 1);
  const recent = Uint8Array.from(used);
  let length = 0;
  let run = 0;
  const endRun = (): void => {
    for (; run > 0; run = (run - 1) >> 1) symbols[length++] = RUN_A + ((run - 1) & 1);
  };
  for (const start of order) {
    const byte = block[start === 0 ? block.length - 1 : start - 1] ?? 0;
    let moved = recent[0] ?? 0;
    if (moved === byte) {
      run++;
      continue;
    }
    if (run > 0) endRun();
    let place = 0;
    while (moved !== byte) {
      place++;
      const next = recent[place] ?? 0;
      recent[place] = moved;
      moved = next;
    }
    recent[0] = byte;
    symbols[length++] = place + 1;
  }
  endRun();
  symbols[length++] = used.length + 1;
  return symbols.subarray(0, length);
}

function checksum(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ byte] ?? 0);
  return ~crc;
}

/** Writes bits, the highest of each byte first. */
class BitWriter {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #length = 0;
  /** The low `#count` bits, fewer than eight, are to be written yet. */
  #bits = 0;
  #count = 0;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity);
  }

  /** Write the low `length` bits (at most 24) of `value`, which has no others. */
  write(length: number, value: number): void {
    let bits = (this.#bits << length) | value;
    let count = this.#count + length;
    while (count >= 8) {
      count -= 8;
      this.#bytes[this.#length++] = bits >>> count;
    }
    bits &= (1 << count) - 1;
    this.#bits = bits;
    this.#count = count;
  }

  write32(value: number): void {
    this.write(16, value >>> 16);
    this.write(16, value & 0xffff);
  }

  /** What was written, filled up with zeros to a whole byte, in memory of its own. */
  end(): Uint8Array<ArrayBuffer> {
    if (this.#count > 0) this.write(8 - this.#count, 0);
    return this.#bytes.slice(0, this.#length);
  }
}

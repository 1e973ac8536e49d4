/**
 * bzip2: blocks of at most 900,000 symbols, each Huffman coded, moved to front, Burrows-Wheeler transformed and run-length
 * coded, without byte alignment between them.
 *
 * Written here because the decoders on npm hand out whole blocks, and the inner run-length code lets 40 bytes of input
 * be a block of 46 MB. This one keeps one block's symbols (3.6 MB) and hands out slices.
 * There is no specification; this follows https://github.com/dsnet/compress/blob/master/doc/bzip2-format.pdf
 */
import { BitReader } from "./bit-reader.ts";
import { BLOCK_MAGIC, CRC_TABLE, END_MAGIC, GROUP_SYMBOLS } from "./bzip2-format.ts";
import { type Decoder, endsEarly, followedByOther, invalidInput } from "./decoder.ts";

const MAX_CODE_BITS = 20;
/** Codes up to this length are found in one look-up. */
const FAST_BITS = 10;
const SLICE_BYTES = 64 * 1024;
/** The most bytes one symbol of the block can become. */
const MAX_RUN = 255;

export class Bzip2Decoder implements Decoder {
  readonly #input = new BitReader();
  readonly #steps = this.#decode();
  #ended = false;

  // The block being decoded. Entries of #block: a byte in the low 8 bits, later the index of the next entry above it.
  #block = new Int32Array(0);
  #blockLength = 0;
  readonly #byteCounts = new Int32Array(256);
  /** Bytes of the block, the most recently used one first. */
  readonly #recent = new Uint8Array(256);
  #run = 0;
  #runWeight = 1;

  // The output of the block: what is left, where the next byte is found, and the run-length code's state.
  #left = 0;
  #entry = 0;
  #previous = -1;
  #repeats = 0;
  #crc = 0;

  push(bytes: Uint8Array): void {
    this.#input.push(bytes);
  }

  end(): void {
    this.#ended = true;
  }

  next(): Uint8Array<ArrayBuffer> | undefined {
    return this.#steps.next().value;
  }

  close(): void {
    this.#block = new Int32Array(0);
  }

  /** Yields decoded slices, and undefined where it needs input. */
  *#decode(): Generator<Uint8Array<ArrayBuffer> | undefined, undefined> {
    for (let streams = 0; ; streams++) {
      yield* this.#need(1);
      if (streams > 0 && !this.#input.has(1)) return undefined;
      yield* this.#need(4);
      if (this.#take(24) !== 0x425a68) throw streams === 0 ? invalidInput("bzip2", "input is not bzip2") : followedByOther("bzip2");
      const level = this.#take(8) - 0x30;
      if (level < 1 || level > 9) throw invalidInput("bzip2", "input is not bzip2");
      yield* this.#decodeStream(level * 100_000);
    }
  }

  *#decodeStream(blockSize: number): Generator<Uint8Array<ArrayBuffer> | undefined, void> {
    if (this.#block.length < blockSize) this.#block = new Int32Array(blockSize);
    let streamCrc = 0;
    for (;;) {
      yield* this.#need(10);
      const magic = [this.#take(24), this.#take(24)];
      const crc = (this.#take(16) << 16) | this.#take(16);
      if (magic[0] === END_MAGIC[0] && magic[1] === END_MAGIC[1]) {
        if (crc !== streamCrc) throw invalidInput("bzip2", "the stream's checksum does not match");
        this.#input.align();
        return;
      }
      if (magic[0] !== BLOCK_MAGIC[0] || magic[1] !== BLOCK_MAGIC[1]) throw damaged("no block begins where one should");
      yield* this.#readBlock(blockSize);
      while (this.#left > 0) yield this.#expand();
      if (~this.#crc !== crc) throw invalidInput("bzip2", "a block's checksum does not match");
      streamCrc = ((streamCrc << 1) | (streamCrc >>> 31)) ^ crc;
    }
  }

  *#readBlock(blockSize: number): Generator<undefined, void> {
    yield* this.#need(4 + 2 + 32 + 3);
    if (this.#take(1) === 1) throw invalidInput("bzip2", "a block is randomised, which only bzip2 0.9.0 and older wrote");
    const origin = this.#take(24);
    const used = this.#takeUsedBytes();
    const tableCount = this.#take(3);
    if (tableCount < 2 || tableCount > 6) throw damaged(`a block has ${tableCount} code tables`);
    const selectors = yield* this.#takeSelectors(tableCount);
    const tables: CodeTable[] = [];
    for (let index = 0; index < tableCount; index++) tables.push(codeTable(yield* this.#takeCodeLengths(used.length + 2)));

    this.#blockLength = 0;
    this.#byteCounts.fill(0);
    this.#recent.set(used);
    this.#run = 0;
    this.#runWeight = 1;
    for (const selector of selectors) {
      // One group is at most 125 bytes long, so that input is only waited for between groups.
      yield* this.#need((GROUP_SYMBOLS * MAX_CODE_BITS) / 8 + 1);
      const table = tables[selector];
      if (table !== undefined && this.#decodeGroup(table, used.length + 1, blockSize)) return this.#transform(origin);
    }
    throw damaged("a block has no end");
  }

  /** The bytes that occur in the block, ascending. */
  #takeUsedBytes(): number[] {
    const used: number[] = [];
    const ranges = this.#take(16);
    for (let range = 0; range < 16; range++) {
      if (((ranges >> (15 - range)) & 1) === 0) continue;
      const bits = this.#take(16);
      for (let bit = 0; bit < 16; bit++) if (((bits >> (15 - bit)) & 1) === 1) used.push(range * 16 + bit);
    }
    if (used.length === 0) throw damaged("a block uses no bytes");
    return used;
  }

  /** Which code table each group uses. */
  *#takeSelectors(tableCount: number): Generator<undefined, Uint8Array> {
    const selectors = new Uint8Array(this.#take(15));
    const recent = [0, 1, 2, 3, 4, 5];
    for (let index = 0; index < selectors.length; index++) {
      yield* this.#need(1);
      let position = 0;
      while (this.#take(1) === 1) if (++position >= tableCount) throw damaged("a selector is out of range");
      const [selector = 0] = recent.splice(position, 1);
      recent.unshift(selector);
      selectors[index] = selector;
    }
    return selectors;
  }

  *#takeCodeLengths(symbolCount: number): Generator<undefined, Uint8Array> {
    const lengths = new Uint8Array(symbolCount);
    yield* this.#need(1);
    let length = this.#take(5);
    for (let symbol = 0; symbol < symbolCount; symbol++) {
      for (;;) {
        yield* this.#need(1);
        if (length < 1 || length > MAX_CODE_BITS) throw damaged("a code is too long");
        if (this.#take(1) === 0) break;
        length += this.#take(1) === 0 ? 1 : -1;
      }
      lengths[symbol] = length;
    }
    return lengths;
  }

  /** Decode up to GROUP_SYMBOLS symbols into the block. True when the end of the block was among them. */
  #decodeGroup(table: CodeTable, endSymbol: number, blockSize: number): boolean {
    const block = this.#block;
    const recent = this.#recent;
    const counts = this.#byteCounts;
    for (let index = 0; index < GROUP_SYMBOLS; index++) {
      const symbol = this.#takeSymbol(table);
      if (symbol <= 1) {
        // Runs of the most recent byte are numbers in base 2 with the digits 1 and 2, the lowest first.
        this.#run += this.#runWeight << symbol;
        this.#runWeight <<= 1;
        if (this.#run > blockSize) throw damaged("a block is too long");
        continue;
      }
      if (this.#run > 0) {
        const byte = recent[0] ?? 0;
        const end = this.#blockLength + this.#run;
        if (end > blockSize) throw damaged("a block is too long");
        block.fill(byte, this.#blockLength, end);
        counts[byte] = (counts[byte] ?? 0) + this.#run;
        this.#blockLength = end;
        this.#run = 0;
        this.#runWeight = 1;
      }
      if (symbol === endSymbol) return true;
      if (this.#blockLength >= blockSize) throw damaged("a block is too long");
      const position = symbol - 1;
      const byte = recent[position] ?? 0;
      recent.copyWithin(1, 0, position);
      recent[0] = byte;
      counts[byte] = (counts[byte] ?? 0) + 1;
      block[this.#blockLength++] = byte;
    }
    return false;
  }

  #takeSymbol(table: CodeTable): number {
    const bits = this.#input.peek(MAX_CODE_BITS);
    const fast = table.fast[bits >> (MAX_CODE_BITS - FAST_BITS)] ?? 0;
    if (fast !== 0) {
      if (!this.#input.skip(fast & 15)) throw endsEarly("bzip2");
      return fast >> 4;
    }
    for (let length = FAST_BITS + 1; length <= MAX_CODE_BITS; length++) {
      const code = bits >> (MAX_CODE_BITS - length);
      if (code >= (table.limits[length] ?? 0)) continue;
      if (!this.#input.skip(length)) throw endsEarly("bzip2");
      return table.symbols[code + (table.offsets[length] ?? 0)] ?? 0;
    }
    throw damaged("a code is not in its table");
  }

  /** Undo the Burrows-Wheeler transform: chain the block's entries in the order of the text. */
  #transform(origin: number): void {
    const length = this.#blockLength;
    if (origin >= length) throw damaged("a block's origin is outside of it");
    const block = this.#block;
    const starts = this.#byteCounts;
    for (let byte = 0, sum = 0; byte < 256; byte++) {
      const count = starts[byte] ?? 0;
      starts[byte] = sum;
      sum += count;
    }
    for (let index = 0; index < length; index++) {
      const byte = (block[index] ?? 0) & 0xff;
      const rank = starts[byte] ?? 0;
      starts[byte] = rank + 1;
      block[rank] = (block[rank] ?? 0) | (index << 8);
    }
    this.#left = length;
    this.#entry = (block[origin] ?? 0) >>> 8;
    this.#previous = -1;
    this.#repeats = 0;
    this.#crc = -1;
  }

  /** The next slice of the block, its runs expanded: after four same bytes comes a count of more. */
  #expand(): Uint8Array<ArrayBuffer> {
    const output = new Uint8Array(SLICE_BYTES);
    const block = this.#block;
    let [filled, left, entry, previous, repeats, crc] = [0, this.#left, this.#entry, this.#previous, this.#repeats, this.#crc];
    for (; left > 0 && filled < SLICE_BYTES - MAX_RUN; left--) {
      const cell = block[entry] ?? 0;
      const byte = cell & 0xff;
      entry = cell >>> 8;
      if (repeats === 4) {
        output.fill(previous, filled, filled + byte);
        filled += byte;
        for (let index = 0; index < byte; index++) crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ previous] ?? 0);
        repeats = 0;
        previous = -1;
        continue;
      }
      repeats = byte === previous ? repeats + 1 : 1;
      previous = byte;
      output[filled++] = byte;
      crc = (crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ byte] ?? 0);
    }
    [this.#left, this.#entry, this.#previous, this.#repeats, this.#crc] = [left, entry, previous, repeats, crc];
    // Mostly full; what is not must not hold on to memory that it does not use.
    return filled > SLICE_BYTES / 2 ? output.subarray(0, filled) : output.slice(0, filled);
  }

  *#need(bytes: number): Generator<undefined, void> {
    while (!this.#ended && !this.#input.has(bytes)) yield undefined;
  }

  #take(length: number): number {
    const bits = this.#input.peek(length);
    if (!this.#input.skip(length)) throw endsEarly("bzip2");
    return bits;
  }
}

/** A canonical Huffman code. */
interface CodeTable {
  /** By the next FAST_BITS bits: `symbol << 4 | length`, or 0 when the code is longer. */
  readonly fast: Uint16Array;
  /** By length: the first code that is too large to have it. */
  readonly limits: Int32Array;
  /** By length: what to add to a code for its place in `symbols`. */
  readonly offsets: Int32Array;
  /** By length of code, then by value. */
  readonly symbols: Uint16Array;
}

function codeTable(lengths: Uint8Array): CodeTable {
  const fast = new Uint16Array(1 << FAST_BITS);
  const limits = new Int32Array(MAX_CODE_BITS + 1);
  const offsets = new Int32Array(MAX_CODE_BITS + 1);
  const symbols = new Uint16Array(lengths.length);
  let code = 0;
  let placed = 0;
  for (let length = 1; length <= MAX_CODE_BITS; length++) {
    offsets[length] = placed - code;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      if (length <= FAST_BITS) {
        const shift = FAST_BITS - length;
        fast.fill((symbol << 4) | length, code << shift, (code + 1) << shift);
      }
      symbols[placed++] = symbol;
      code++;
    }
    if (code > 1 << length) throw damaged("a code table has too many codes");
    limits[length] = code;
    code <<= 1;
  }
  return { fast, limits, offsets, symbols };
}

function damaged(what: string): Error {
  return invalidInput("bzip2", `input is damaged: ${what}`);
}

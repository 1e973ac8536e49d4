/** NARs made as they are read, so that no disk stands in the way and any size can be had. */
import { randomFillSync } from "node:crypto";
import { encodeDirectoryEnd, encodeDirectoryStart, encodeFileEnd, encodeFileStart, NAR_MAGIC } from "../src/nar/nar-encoder.ts";

export interface Corpus {
  readonly name: string;
  readonly files: number;
  /** The NAR's bytes, the same each time, in arrays of about 256 KiB. */
  read(): AsyncGenerator<Uint8Array, void, undefined>;
}

const GATHER_BYTES = 256 * 1024;
const POOL = makePool(4 * 1024 * 1024);

/** `count` files of `size` bytes of text that compresses about as source code does. */
export function smallFiles(count: number, size: number, perDirectory = 1000): Corpus {
  const name = `${count} files of ${size} bytes${perDirectory < count ? "" : " in one directory"}`;
  return corpus(name, Array.from({ length: count }, () => size), perDirectory);
}

/** `total` bytes in files from 1 KiB to `largest`, most of them small and most bytes in large ones. */
export function mixedFiles(total: number, largest: number): Corpus {
  const sizes: number[] = [];
  let sum = 0;
  for (let index = 0; sum < total; index++) {
    const size = Math.min(largest, Math.floor(1024 * 2 ** ((index * 7919) % Math.ceil(Math.log2(largest / 1024)))));
    sizes.push(size);
    sum += size;
  }
  return corpus(`${(total / 1e9).toFixed(1)} GB in ${sizes.length} files of up to ${largest} bytes`, sizes, 1000);
}

/**
 * `count` files in sizes as packages have them: most below 4 KiB, a few of megabytes; about 12 KiB each.
 *
 * @param seed another one gives other contents
 */
export function packageFiles(count: number, seed = 0): Corpus {
  const sizes = Array.from({ length: count }, (_, index) => {
    const place = (index * 7919) % 1000;
    if (place < 700) return 64 + ((index * 37) % 4000);
    if (place < 970) return 4096 + ((index * 997) % 20_000);
    if (place < 999) return 32_768 + ((index * 9973) % 200_000);
    return 4 * 1024 * 1024;
  });
  return corpus(`${count} files as in packages`, sizes, 100, { number: seed, changed: 0 });
}

/** 47,000 files in sizes as /usr/share has them, 480 MB: half below 1.3 KiB, a fifth of the bytes in a hundred files of a megabyte and a few of more. */
export function shareFiles(): Corpus {
  const sizes = Array.from({ length: 47_000 }, (_, index) => {
    const place = (index * 7919) % 10_000;
    if (place < 5000) return 230 + ((index * 37) % 1100);
    if (place < 7500) return 1300 + ((index * 101) % 1600);
    if (place < 9000) return 2900 + ((index * 211) % 10_000);
    if (place < 9700) return 13_000 + ((index * 997) % 40_000);
    if (place < 9950) return 50_000 + ((index * 9973) % 120_000);
    if (place < 9999) return 170_000 + ((index * 19_937) % 600_000);
    return index === 46_321 ? 60_000_000 : 4_500_000;
  });
  return corpus("share", sizes, 12);
}

/**
 * 120 NARs as a closure has them, 447 MB in 17,820 files: a few files to a few hundred in each, and one large one.
 *
 * @param changed the part of all files that have other contents than in the closure that has not changed
 */
export function closurePaths(changed = 0): readonly Corpus[] {
  return Array.from({ length: 120 }, (_, path) => {
    const files = 4 + ((path * 53) % 300);
    const sizes = Array.from({ length: files }, (__, index) => {
      const place = (path * 131 + index * 7919) % 1000;
      if (place < 750) return 64 + ((index * 37 + path) % 5000);
      if (place < 985) return 5000 + ((index * 997 + path) % 60_000);
      return 100_000 + ((index * 9973 + path * 7) % 700_000);
    });
    // A program or a library.
    sizes.push(200_000 + ((path * 7_919_000) % 2_500_000));
    return corpus(`path ${path}`, sizes, 40, { number: (path + 1) * 1_000_000, changed });
  });
}

/** One file, half of it text and half of it what no one can compress, in turns of 4 MiB. */
export function largeFile(size: number): Corpus {
  return { name: `one file of ${(size / 1e9).toFixed(0)} GB`, files: 1, read: () => gather(largePieces(size)) };
}

function* largePieces(size: number): Generator<Uint8Array, void, undefined> {
  yield NAR_MAGIC;
  yield encodeFileStart(new Uint8Array(0), size, false);
  const noise = randomFillSync(Buffer.allocUnsafeSlow(16 * 1024 * 1024));
  let state = 1;
  for (let done = 0; done < size; ) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    const pool = Math.floor(done / (4 * 1024 * 1024)) % 2 === 0 ? POOL : noise;
    // From anywhere, in pieces that are shorter than a chunk, so that no two chunks are the same.
    const position = state % (pool.length - 65_536);
    const piece = pool.subarray(position, position + Math.min(65_536, size - done));
    yield piece;
    done += piece.length;
  }
  yield encodeFileEnd(size, true);
}

interface Seed {
  /** Another one gives other contents. */
  readonly number: number;
  /** The part of files whose contents are others again. */
  readonly changed: number;
}

function corpus(name: string, sizes: readonly number[], perDirectory: number, seed: Seed = { number: 0, changed: 0 }): Corpus {
  return { name, files: sizes.length, read: () => gather(pieces(sizes, perDirectory, seed)) };
}

function* pieces(sizes: readonly number[], perDirectory: number, seed: Seed): Generator<Uint8Array, void, undefined> {
  const width = String(sizes.length).length;
  yield NAR_MAGIC;
  yield encodeDirectoryStart(new Uint8Array(0));
  for (let start = 0; start < sizes.length; start += perDirectory) {
    yield encodeDirectoryStart(Buffer.from(`d${String(start).padStart(width, "0")}`));
    for (const [offset, size] of sizes.slice(start, start + perDirectory).entries()) {
      yield encodeFileStart(Buffer.from(`f${String(start + offset).padStart(width, "0")}`), size, false);
      const isChanged = ((start + offset) * 7919) % 1000 < seed.changed * 1000;
      yield* contents(seed.number + start + offset + (isChanged ? 500_000 : 0), size);
      yield encodeFileEnd(size, false);
    }
    yield encodeDirectoryEnd(false);
  }
  yield encodeDirectoryEnd(true);
}

/** Every file begins with its number, so no two are the same; what follows is taken from elsewhere in the pool each time. */
function* contents(number: number, size: number): Generator<Uint8Array, void, undefined> {
  const stamp = Buffer.from(`${number}\n`.padStart(16, "0")).subarray(0, size);
  yield stamp;
  let position = (number * 104_729) % (POOL.length - 65_536);
  for (let left = size - stamp.length; left > 0; ) {
    const piece = POOL.subarray(position, position + Math.min(left, 65_536));
    yield piece;
    left -= piece.length;
    position = (position + 65_537 + number) % (POOL.length - 65_536);
  }
}

async function* gather(source: Iterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  let buffer = Buffer.allocUnsafeSlow(GATHER_BYTES + 65_536);
  let length = 0;
  for (const piece of source) {
    buffer.set(piece, length);
    length += piece.length;
    if (length < GATHER_BYTES) continue;
    yield buffer.subarray(0, length);
    buffer = Buffer.allocUnsafeSlow(GATHER_BYTES + 65_536);
    length = 0;
  }
  yield buffer.subarray(0, length);
}

/** Words and numbers, as in source code. */
function makePool(size: number): Uint8Array {
  const words = "import export const function return await value digest stream length bytes NAR store path hash".split(" ");
  let state = 1;
  let text = "";
  while (text.length < size) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    text += `${words[state % words.length]}${(state >>> 8) % 7 === 0 ? `${state.toString(36)}\n` : " "}`;
  }
  return Buffer.from(text.slice(0, size));
}

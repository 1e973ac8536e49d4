/** NARs made as they are read, so that no disk stands in the way and any size can be had. */
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

/** `count` files in sizes as packages have them: most below 4 KiB, a few of megabytes; about 12 KiB each. */
export function packageFiles(count: number): Corpus {
  const sizes = Array.from({ length: count }, (_, index) => {
    const place = (index * 7919) % 1000;
    if (place < 700) return 64 + ((index * 37) % 4000);
    if (place < 970) return 4096 + ((index * 997) % 20_000);
    if (place < 999) return 32_768 + ((index * 9973) % 200_000);
    return 4 * 1024 * 1024;
  });
  return corpus(`${count} files as in packages`, sizes, 100);
}

function corpus(name: string, sizes: readonly number[], perDirectory: number): Corpus {
  return { name, files: sizes.length, read: () => gather(pieces(sizes, perDirectory)) };
}

function* pieces(sizes: readonly number[], perDirectory: number): Generator<Uint8Array, void, undefined> {
  const width = String(sizes.length).length;
  yield NAR_MAGIC;
  yield encodeDirectoryStart(new Uint8Array(0));
  for (let start = 0; start < sizes.length; start += perDirectory) {
    yield encodeDirectoryStart(Buffer.from(`d${String(start).padStart(width, "0")}`));
    for (const [offset, size] of sizes.slice(start, start + perDirectory).entries()) {
      yield encodeFileStart(Buffer.from(`f${String(start + offset).padStart(width, "0")}`), size, false);
      yield* contents(start + offset, size);
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

/** A closure as images hold it: thousands of files of all sizes in 50 store paths, a few of them large, about half of the bytes such as compress well. */
import { createCipheriv, createHash } from "node:crypto";
import { encodeNix32 } from "../src/nix/nix32.ts";
import { encodeTarHeader, TAR_END, tarPadding } from "../src/tar/tar-encoder.ts";

export interface CorpusFile {
  /** In its store path. */
  readonly path: string;
  readonly size: number;
  readonly executable: boolean;
  /** The same each time, and of no other file. */
  readonly bytes: () => Generator<Uint8Array, void, undefined>;
}

export interface CorpusPath {
  /** `/nix/store/…-package-7` */
  readonly storePath: string;
  readonly files: readonly CorpusFile[];
  /** Bytes of its files. */
  readonly size: number;
}

const PATHS = 50;
const PIECE_BYTES = 64 * 1024;
const WORDS = makeWords();

/**
 * @param total bytes of files
 * @param image images of other numbers share the first two thirds of their paths with this one
 */
export function closureCorpus(total: number, image = 0): readonly CorpusPath[] {
  // As closures are: the largest of them has a ninth of it, the smallest a few hundred kB.
  const weights = Array.from({ length: PATHS }, (_, index) => 1 / (index + 2));
  const sum = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight, index) => corpusPath(index, index < (PATHS * 2) / 3 ? 0 : image, (total * weight) / sum));
}

function corpusPath(index: number, image: number, total: number): CorpusPath {
  const name = `package-${index}-${image}`;
  const files: CorpusFile[] = [];
  let size = 0;
  for (let number = 0; size < total; number++) {
    const file = corpusFile(name, number, Math.ceil(total - size));
    files.push(file);
    size += file.size;
  }
  return { storePath: `/nix/store/${encodeNix32(createHash("sha256").update(name).digest().subarray(0, 20))}-${name}`, files, size };
}

function corpusFile(name: string, number: number, most: number): CorpusFile {
  const place = (number * 7919) % 1000;
  const size = Math.min(most, sizeAt(place, number));
  const isText = number % 2 === 0;
  const seed = createHash("sha256").update(`${name}/${number}`).digest();
  return {
    path: `${isText ? "share" : "lib"}/${String(Math.floor(number / 100))}/${isText ? "doc" : "object"}-${number}`,
    size,
    executable: number % 10 === 1,
    bytes: () => (isText ? text(seed, size) : noise(seed, size)),
  };
}

/** Most files are below 8 KiB, most bytes in those of hundreds. */
function sizeAt(place: number, number: number): number {
  if (place < 600) return 64 + ((number * 37) % 8_000);
  if (place < 900) return 8_192 + ((number * 997) % 40_000);
  if (place < 990) return 65_536 + ((number * 9_973) % 300_000);
  return 1_000_000 + ((number * 99_991) % 3_000_000);
}

/** Nothing of it compresses, as in programs that are compressed, and pictures. */
function* noise(seed: Uint8Array, size: number): Generator<Uint8Array, void, undefined> {
  const cipher = createCipheriv("aes-128-ctr", seed.subarray(0, 16), seed.subarray(16));
  const zeros = new Uint8Array(Math.min(size, PIECE_BYTES));
  for (let left = size; left > 0; left -= zeros.length) yield cipher.update(zeros.subarray(0, Math.min(left, zeros.length)));
}

/** Compresses to about a third, as source and programs do. */
function* text(seed: Uint8Array, size: number): Generator<Uint8Array, void, undefined> {
  let left = size;
  for (const bytes of noise(seed, size)) {
    const words: string[] = [];
    for (const byte of bytes) words.push(WORDS[byte] as string);
    const piece = Buffer.from(words.join(""), "latin1").subarray(0, left);
    left -= piece.length;
    yield piece;
    if (left === 0) return;
  }
}

function makeWords(): readonly string[] {
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0);
  return Array.from({ length: 256 }, () => `${(next() % 36 ** 6).toString(36).slice(0, 2 + (next() >>> 8) % 7)}${(next() >>> 8) % 9 === 0 ? "\n" : " "}`);
}

/** A docker-archive as Nix's dockerTools writes it: a layer for each path, the manifest last. */
export function* dockerArchive(paths: readonly CorpusPath[], name: string): Generator<Uint8Array, void, undefined> {
  const diffIds: string[] = [];
  for (const [index, path] of paths.entries()) {
    const hash = createHash("sha256");
    yield encodeTarHeader({ kind: "file", path: Buffer.from(layerName(index)), size: layerSize(path), mode: 0o444 });
    for (const piece of layer(path)) {
      hash.update(piece);
      yield piece;
    }
    yield tarPadding(layerSize(path));
    diffIds.push(`sha256:${hash.digest("hex")}`);
  }
  const config = Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", config: {}, rootfs: { type: "layers", diff_ids: diffIds } }));
  const configName = `${createHash("sha256").update(config).digest("hex")}.json`;
  const manifest = Buffer.from(JSON.stringify([{ Config: configName, RepoTags: [name], Layers: paths.map((_, index) => layerName(index)) }]));
  for (const [path, bytes] of [[configName, config], ["manifest.json", manifest]] as const) {
    yield encodeTarHeader({ kind: "file", path: Buffer.from(path), size: bytes.length, mode: 0o444 });
    yield bytes;
    yield tarPadding(bytes.length);
  }
  yield TAR_END;
}

export function layerName(index: number): string {
  return `layer-${index}/layer.tar`;
}

function* layer({ storePath, files }: CorpusPath): Generator<Uint8Array, void, undefined> {
  for (const { path, size, executable, bytes } of files) {
    yield encodeTarHeader({ kind: "file", path: Buffer.from(`${storePath.slice(1)}/${path}`), size, mode: executable ? 0o555 : 0o444 });
    yield* bytes();
    yield tarPadding(size);
  }
  yield TAR_END;
}

function layerSize({ files }: CorpusPath): number {
  return files.reduce((sum, { size }) => sum + 512 + size + tarPadding(size).length, TAR_END.length);
}

/**
 * The names of compressions, and how to tell one by its first bytes.
 *
 * A NAR's file name does not tell its compression (Nix writes gzip as plain `.nar`) and the narinfo that does tell
 * comes after the file, so uploads are read by magic. Brotli has no magic: what is nothing else is presumed to be br.
 * See https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo
 */
import { NarborError } from "../errors.ts";

/** A compression we read. The names are those of narinfo's `Compression`. */
export type Codec = "none" | "xz" | "zstd" | "bzip2" | "gzip" | "br";

/** Every `Codec`. */
export const CODECS: readonly Codec[] = ["none", "xz", "zstd", "bzip2", "gzip", "br"];

/** `detectCodec()` needs this many bytes, or all there are. */
export const CODEC_MAGIC_BYTES = 16;

/** What Nix (through libarchive) can write and we do not read. */
const UNSUPPORTED = new Set(["compress", "deflate", "grzip", "lrzip", "lz4", "lzip", "lzma", "lzop"]);

/**
 * A narinfo's `Compression` value. An absent field means bzip2 to Nix; that is the caller's to know.
 *
 * @throws NarborError `ERR_COMPRESSION_UNSUPPORTED` for a compression we do not read
 */
export function parseCompression(name: string): Codec {
  const codec = CODECS.find((known) => known === name);
  if (codec !== undefined) return codec;
  throw unsupported(name);
}

/**
 * A `Content-Encoding` header. No header, an empty one and `identity` are "none"; Nix sends its own names (`xz`, `br`).
 *
 * @throws NarborError `ERR_COMPRESSION_UNSUPPORTED` for a coding we do not read, or several
 */
export function parseContentEncoding(value: string | undefined): Codec {
  const name = (value ?? "").trim().toLowerCase();
  switch (name) {
    case "":
    case "identity":
      return "none";
    case "x-gzip":
      return "gzip";
    default:
      return parseCompression(name);
  }
}

/**
 * The compression of a NAR's file by its first `CODEC_MAGIC_BYTES` bytes; undefined when they are no magic we know,
 * which leaves brotli.
 *
 * @throws NarborError `ERR_COMPRESSION_UNSUPPORTED` for a compression that is known but not read
 */
export function detectCodec(firstBytes: Uint8Array): Codec | undefined {
  if (isZstdSkippable(firstBytes)) return "zstd";
  const name = MAGICS.find(([, magic]) => startsWith(firstBytes, magic))?.[0];
  if (name === undefined) return undefined;
  // bzip2's fourth byte is the block size. Without it `BZh` could still be anything.
  if (name === "bzip2" && !isDigit1To9(firstBytes[3])) return undefined;
  return parseCompression(name);
}

const MAGICS: readonly (readonly [name: string, magic: readonly number[]])[] = [
  // The string "nix-archive-1": its length in eight bytes, then its text.
  ["none", [0x0d, 0, 0, 0, 0, 0, 0, 0, 0x6e, 0x69, 0x78, 0x2d]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18]],
  ["lz4", [0x02, 0x21, 0x4c, 0x18]],
  ["lzip", [0x4c, 0x5a, 0x49, 0x50]],
  ["lzop", [0x89, 0x4c, 0x5a, 0x4f, 0x00]],
  ["lrzip", [0x4c, 0x52, 0x5a, 0x49]],
  ["grzip", [0x47, 0x52, 0x5a, 0x69, 0x70]],
  ["compress", [0x1f, 0x9d]],
  // Not a magic but what every encoder writes: the usual lc/lp/pb, and a dictionary of whole 64 KiB.
  ["lzma", [0x5d, 0x00, 0x00]],
];

/** Skippable frames, of which pzstd and others put one first, have sixteen magics. */
function isZstdSkippable([first = 0, ...rest]: Uint8Array): boolean {
  return first >> 4 === 0x5 && startsWith(rest, [0x2a, 0x4d, 0x18]);
}

function startsWith(bytes: ArrayLike<number>, prefix: readonly number[]): boolean {
  return prefix.every((byte, index) => bytes[index] === byte);
}

function isDigit1To9(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x31 && byte <= 0x39;
}

function unsupported(name: string): NarborError {
  const found = UNSUPPORTED.has(name) ? "is not supported" : "is not known";
  return new NarborError(
    "ERR_COMPRESSION_UNSUPPORTED",
    `Cannot decompress ${JSON.stringify(name)}: this compression ${found}, use xz or zstd (for Nix: compression=zstd in the store's address)`,
  );
}

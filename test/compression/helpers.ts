import { readFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import type { Codec } from "../../src/compression/codec.ts";
import { decompress, type DecompressOptions } from "../../src/compression/decompress.ts";

/** A codec with streams of its own to decode, which brotli has not more than one of. */
export type CompressedCodec = Exclude<Codec, "none">;

export const COMPRESSED_CODECS: readonly CompressedCodec[] = ["xz", "zstd", "bzip2", "gzip", "br"];
/** Those of which several streams in a row are one. */
export const CONCATENABLE_CODECS: readonly CompressedCodec[] = ["xz", "zstd", "bzip2", "gzip"];

/** A file of test/compression/fixtures; its README says how each was made. */
export function fixture(name: string): Buffer {
  return readFileSync(new URL(`./fixtures/${name}`, import.meta.url));
}

/** Deterministic text-like bytes. The fixtures were made of these. */
export function sampleBytes(size: number): Buffer {
  let state = 0x2545f491;
  const next = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  let text = "";
  while (text.length < size) text += `${"store nar path hash blob tree aaaaaaaa chunk".split(" ")[next(8)]}${next(50) === 0 ? next(1e9) : " "}`;
  return Buffer.from(text.slice(0, size), "latin1");
}

export const SMALL = sampleBytes(1_500);
export const LARGE = sampleBytes(400_000);

const LARGE_GZIP = gzipSync(LARGE);
const LARGE_BROTLI = brotliCompressSync(LARGE, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } });

const SUFFIX = { xz: "xz", zstd: "zst", bzip2: "bz2", gzip: "gz", br: "br" } as const;

/** SMALL, compressed. */
export function smallCompressed(codec: CompressedCodec): Buffer {
  return fixture(`small.${SUFFIX[codec]}`);
}

/** LARGE, compressed: several blocks where the codec has any. */
export function largeCompressed(codec: CompressedCodec): Buffer {
  if (codec === "gzip") return LARGE_GZIP;
  if (codec === "br") return LARGE_BROTLI;
  return fixture(`large.${SUFFIX[codec]}`);
}

/** 64 MiB of zeros, compressed. */
export function bomb(codec: CompressedCodec): Buffer {
  if (codec === "gzip") return gzipSync(Buffer.alloc(BOMB_BYTES));
  if (codec === "br") return brotliCompressSync(Buffer.alloc(BOMB_BYTES), { params: { [constants.BROTLI_PARAM_QUALITY]: 2 } });
  return fixture(`zeros-64mib.${SUFFIX[codec]}`);
}

export const BOMB_BYTES = 64 * 1024 * 1024;

/** A source that gives `chunks`. */
export async function* sourceOf(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks;
}

/** `bytes` in pieces of `size`. */
export function chunked(bytes: Uint8Array, size: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let offset = 0; offset < bytes.length; offset += size) chunks.push(bytes.subarray(offset, offset + size));
  return chunks;
}

/** All that decompressing `chunks` gives. */
export async function decompressed(chunks: readonly Uint8Array[], options?: DecompressOptions): Promise<Buffer> {
  const output: Uint8Array[] = [];
  // Its memory is used again.
  for await (const bytes of decompress(sourceOf(...chunks), options)) output.push(new Uint8Array(bytes));
  return Buffer.concat(output);
}

/** Wait until `condition` holds, for some seconds. */
export async function eventually(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("It did not come to pass");
}

/**
 * Compression of streams, quick rather than small.
 *
 * A Nix client that has pushed `nar/<FileHash>.nar.xz` remembers that for 30 days and asks for this very file later, to be
 * decoded as xz and nothing else. The file is not kept, so it is made again: other bytes, which Nix does not mind (it never
 * checks FileHash), but of the same NAR.
 */
import { availableParallelism } from "node:os";
import { _NapiBindings as bindings } from "@cloudpss/zstd/napi";
import { constants, createBrotliCompress } from "node:zlib";

import { LentMemory } from "../bytes/lent-memory.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { BZIP2_BLOCK_BYTES } from "./bzip2-encoder.ts";
import type { Codec } from "./codec.ts";
import { SourceReader } from "./source-reader.ts";
import { runBlock } from "./worker-pool.ts";
import { XzEncoder } from "./xz-encoder.ts";
import { throughZlib, ZLIB_CHUNK_BYTES } from "./zlib-stream.ts";
import { compressZstd } from "./zstd.ts";

export interface CompressOptions {
  /** Of gzip (1 to 9) and zstd (-7 to 19). @default 1 */
  readonly level?: number | undefined;
  /** Rejects with the signal's reason and lets go of the source, even while that is stuck. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of one zstd frame, decompressed. */
const ZSTD_FRAME_BYTES = 1024 * 1024;
/** Bytes that become gzip together, in one member or more. */
const GZIP_PIECE_BYTES = 1024 * 1024;
/** Frames, members and blocks under way in threads at once: while one waits for its turn to go out, no processor should. */
const PIECES_AHEAD = availableParallelism() + 2;
const FASTEST = 1;
/** To be remembered with what was compressed: another version may give other bytes. Its first number is that of how the input is cut. */
export const ENCODER_VERSION = `2 zlib ${process.versions.zlib} zstd ${bindings.version}`;
/** The largest window that brotli uses at this quality, which also tells how much it takes at once: 256 KiB. */
const BROTLI_WINDOW_BITS = 18;

/**
 * `source`, compressed with `codec`. Can be read once. xz is not made smaller by it.
 *
 * Reads at most a few MiB ahead of its reader, and holds no more than that. The source is closed on every way out. Its errors
 * pass through, and what was given out until then is not a whole stream, unless the codec is "none".
 */
export async function* compress(
  source: AsyncIterable<Uint8Array>,
  codec: Codec,
  options: CompressOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  // Several listen here, but only one to the caller's signal, which many streams may follow at once.
  using linked = options.signal && linkSignal(options.signal);
  const signal = linked?.signal;
  const { level = FASTEST } = options;
  signal?.throwIfAborted();
  const reader = new SourceReader(source, signal);
  try {
    yield* encode(codec, level, reader, signal);
  } finally {
    await reader.close();
  }
}

async function* encode(codec: Codec, level: number, reader: SourceReader, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
  switch (codec) {
    case "none":
      for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) yield bytes;
      return;
    case "gzip":
      return yield* encodePieces(reader, GZIP_PIECE_BYTES, (piece) => runBlock({ type: "compressGzip", level }, piece));
    case "br": {
      const params = { [constants.BROTLI_PARAM_QUALITY]: FASTEST, [constants.BROTLI_PARAM_LGWIN]: BROTLI_WINDOW_BITS };
      yield* throughZlib(createBrotliCompress({ params, chunkSize: ZLIB_CHUNK_BYTES }), reader, signal, (error) => error);
      return;
    }
    case "xz": {
      const encoder = new XzEncoder();
      for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) yield* encoder.push(bytes);
      yield encoder.end();
      return;
    }
    case "zstd":
      return yield* encodePieces(reader, ZSTD_FRAME_BYTES, (piece) => compressZstd(piece, level));
    case "bzip2":
      return yield* encodePieces(reader, BZIP2_BLOCK_BYTES, (piece) => runBlock({ type: "compressBzip2" }, piece));
  }
}

/** Pieces that are each compressed to a stream of their own, in threads. `encodePiece` gives its piece back. */
async function* encodePieces(
  reader: SourceReader,
  size: number,
  encodePiece: (piece: LentMemory) => Promise<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  // The last byte of each waits until the next is there: without it, what comes before a failure would be a whole stream.
  let held: Uint8Array | undefined;
  for await (const encoded of mapConcurrent(pieces(reader, size), PIECES_AHEAD, encodePiece)) {
    if (held !== undefined) yield held;
    yield encoded.subarray(0, -1);
    held = encoded.subarray(-1);
  }
  if (held !== undefined) yield held;
}

/** What `reader` reads in pieces of `size` bytes, the last one shorter; one without bytes when there is nothing to read. */
async function* pieces(reader: SourceReader, size: number): AsyncGenerator<LentMemory, void, undefined> {
  let piece = LentMemory.lend(size);
  let filled = 0;
  let isFirst = true;
  for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) {
    for (let offset = 0; offset < bytes.length; ) {
      const part = bytes.subarray(offset, offset + size - filled);
      piece.bytes.set(part, filled);
      filled += part.length;
      offset += part.length;
      if (filled < size) continue;
      yield piece;
      isFirst = false;
      piece = LentMemory.lend(size);
      filled = 0;
    }
  }
  if (filled === 0 && !isFirst) return piece.release();
  piece.narrow(0, filled);
  yield piece;
}

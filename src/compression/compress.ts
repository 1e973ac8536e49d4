/**
 * Compression of streams, quick rather than small.
 *
 * A Nix client that has pushed `nar/<FileHash>.nar.xz` remembers that for 30 days and asks for this very file later, to be
 * decoded as xz and nothing else. The file is not kept, so it is made again: other bytes, which Nix does not mind (it never
 * checks FileHash), but of the same NAR.
 */
import { availableParallelism } from "node:os";
import { constants, createBrotliCompress } from "node:zlib";

import type { FramedBytes, StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import { LentMemory } from "../bytes/lent-memory.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { BZIP2_BLOCK_BYTES } from "./bzip2-encoder.ts";
import type { Codec } from "./codec.ts";
import { SourceReader } from "./source-reader.ts";
import { runBlock } from "./worker-pool.ts";
import { XzEncoder } from "./xz-encoder.ts";
import { throughZlib, ZLIB_CHUNK_BYTES } from "./zlib-stream.ts";
import { compressZstd, frameZstd, ZSTD_ENCODER } from "./zstd.ts";

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
export const ENCODER_VERSION = `3 zlib ${process.versions.zlib} zstd ${ZSTD_ENCODER}`;
/** The largest window that brotli uses at this quality, which also tells how much it takes at once: 256 KiB. */
const BROTLI_WINDOW_BITS = 18;

/**
 * `source`, compressed with `codec`. Can be read once. xz is not made smaller by it. Where pieces have frames, those are of that level.
 *
 * Reads at most a few MiB ahead of its reader, and holds no more than that. The source is closed on every way out. Its errors
 * pass through, and what was given out until then is not a whole stream, unless the codec is "none".
 */
export async function* compress(
  source: AsyncIterable<StreamPiece>,
  codec: Codec,
  options: CompressOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  // Several listen here, but only one to the caller's signal, which many streams may follow at once.
  using linked = options.signal && linkSignal(options.signal);
  const signal = linked?.signal;
  const { level = FASTEST } = options;
  signal?.throwIfAborted();
  const reader = new SourceReader<StreamPiece>(source, signal);
  try {
    yield* encode(codec, level, reader, signal);
  } finally {
    await reader.close();
  }
}

async function* encode(codec: Codec, level: number, reader: SourceReader<StreamPiece>, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
  switch (codec) {
    case "none":
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) yield bytesOf(piece);
      return;
    case "gzip":
      return yield* encodePieces(reader, { size: GZIP_PIECE_BYTES, encode: (piece) => runBlock({ type: "compressGzip", level }, piece) });
    case "br": {
      const params = { [constants.BROTLI_PARAM_QUALITY]: FASTEST, [constants.BROTLI_PARAM_LGWIN]: BROTLI_WINDOW_BITS };
      yield* throughZlib(createBrotliCompress({ params, chunkSize: ZLIB_CHUNK_BYTES }), reader, signal, (error) => error);
      return;
    }
    case "xz": {
      const encoder = new XzEncoder();
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) yield* encoder.push(bytesOf(piece));
      yield encoder.end();
      return;
    }
    case "zstd":
      return yield* encodePieces(reader, {
        size: ZSTD_FRAME_BYTES,
        encode: (piece) => compressZstd(piece, level),
        encodeApart: async ({ bytes, frame }) => frame ?? (await frameZstd(bytes, level)),
      });
    case "bzip2":
      return yield* encodePieces(reader, { size: BZIP2_BLOCK_BYTES, encode: (piece) => runBlock({ type: "compressBzip2" }, piece) });
  }
}

/** How the pieces of a stream become streams of their own, in threads. */
interface PieceEncoder {
  /** Bytes of a piece; the last one is shorter. */
  readonly size: number;
  /** Gives the memory back. */
  encode(piece: LentMemory): Promise<Uint8Array>;
  /** Where pieces that come as such stay apart from those around them. */
  readonly encodeApart?: (piece: FramedBytes) => Promise<Uint8Array>;
}

async function* encodePieces(reader: SourceReader<StreamPiece>, encoder: PieceEncoder): AsyncGenerator<Uint8Array, void, undefined> {
  // The last byte of each waits until the next is there: without it, what comes before a failure would be a whole stream.
  let held: Uint8Array | undefined;
  for await (const encoded of mapConcurrent(pieces(reader, encoder), PIECES_AHEAD, (begin) => begin())) {
    if (held !== undefined) yield held;
    yield encoded.subarray(0, -1);
    held = encoded.subarray(-1);
  }
  if (held !== undefined) yield held;
}

/** What `reader` reads in pieces, and how each is encoded; one piece without bytes when there is nothing to read. */
async function* pieces(reader: SourceReader<StreamPiece>, encoder: PieceEncoder): AsyncGenerator<() => Promise<Uint8Array>, void, undefined> {
  const { size } = encoder;
  let memory: LentMemory | undefined = LentMemory.lend(size);
  let filled = 0;
  const take = (): (() => Promise<Uint8Array>) => {
    const piece = memory as LentMemory;
    piece.narrow(0, filled);
    memory = undefined;
    filled = 0;
    return () => encoder.encode(piece);
  };
  let isEmpty = true;
  for (let read = await reader.read(); read !== undefined; read = await reader.read()) {
    isEmpty = false;
    const { encodeApart } = encoder;
    if (!(read instanceof Uint8Array) && encodeApart !== undefined) {
      const piece = read;
      if (filled > 0) yield take();
      yield () => encodeApart(piece);
      continue;
    }
    const bytes = bytesOf(read);
    for (let offset = 0; offset < bytes.length; ) {
      memory ??= LentMemory.lend(size);
      const part = bytes.subarray(offset, offset + size - filled);
      memory.bytes.set(part, filled);
      filled += part.length;
      offset += part.length;
      if (filled === size) yield take();
    }
  }
  if (filled > 0 || isEmpty) yield take();
  else memory?.release();
}

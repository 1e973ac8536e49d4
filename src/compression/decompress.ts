/** Decompression of streams: of any codec, of as many concatenated streams as there are, bounded, and off the main thread. */
import { toHex } from "../bytes/text-encoding.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { isNarborError, NarborError } from "../errors.ts";
import { type Codec, CODEC_MAGIC_BYTES, detectCodec } from "./codec.ts";
import { decodeBrotli } from "./decode-brotli.ts";
import { decodeInWorker, type DecodeOptions } from "./decode-in-worker.ts";
import { SourceReader } from "./source-reader.ts";

export interface DecompressOptions {
  /** How the source is compressed. @default told by its first bytes; what they do not tell is presumed to be br */
  readonly codec?: Codec | undefined;
  /** The most bytes to give out; one more is `ERR_LIMIT`. @default no limit */
  readonly maxOutputBytes?: number | undefined;
  /** The most that a zstd frame may ask its decoder to look back on; one more byte is `ERR_LIMIT`. @default 128 MiB */
  readonly maxWindowBytes?: number | undefined;
  /** About the most bytes to decode ahead of the reader. @default 1048576 (1 MiB) */
  readonly aheadBytes?: number | undefined;
  /** Rejects with the signal's reason and lets go of the source, even while that is stuck. */
  readonly signal?: AbortSignal | undefined;
  /** Told the codec before anything is decoded. */
  readonly onCodec?: ((codec: Codec) => void) | undefined;
}

const DEFAULT_AHEAD_BYTES = 1024 * 1024;

/**
 * The bytes that `source` is the compressed form of. Can be read once; what is given out is valid until the next but one is asked for, as what `readFileBytes` gives.
 *
 * Reads and decodes at most a few MiB ahead of its reader, and holds no more than that beside what the format asks for to
 * look back on (zstd 128 MiB, xz 64 MiB at most). The source is closed on every way out. Its errors pass through.
 *
 * @throws NarborError `ERR_COMPRESSION_INVALID` for input that is empty, damaged, cut short or followed by something else,
 *   `ERR_COMPRESSION_UNSUPPORTED` for a compression or a feature of one that we do not read, `ERR_LIMIT` for output over
 *   `maxOutputBytes` and for streams that ask for more memory than is allowed. Bytes given out before are then worth nothing.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  options: DecompressOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { maxOutputBytes = Infinity, aheadBytes = DEFAULT_AHEAD_BYTES, maxWindowBytes } = options;
  // Several listen here, but only one to the caller's signal, which many streams may follow at once.
  using linked = options.signal && linkSignal(options.signal);
  const signal = linked?.signal;
  signal?.throwIfAborted();
  const reader = new SourceReader(source, signal);
  let presumedOf: Uint8Array | undefined;
  try {
    const first = await reader.peek(options.codec === undefined ? CODEC_MAGIC_BYTES : 1);
    if (first.length === 0) throw new NarborError("ERR_COMPRESSION_INVALID", "Cannot decompress: input is empty");
    const codec = options.codec ?? detectCodec(first);
    if (codec === undefined) presumedOf = first;
    options.onCodec?.(codec ?? "br");
    let size = 0;
    for await (const bytes of decode(codec ?? "br", reader, { aheadBytes, maxWindowBytes, signal })) {
      size += bytes.length;
      if (size > maxOutputBytes) throw new NarborError("ERR_LIMIT", `Cannot decompress ${codec ?? "br"}: more than ${maxOutputBytes} bytes`);
      yield bytes;
    }
  } catch (error) {
    if (presumedOf !== undefined && isNarborError(error, "ERR_COMPRESSION_INVALID")) throw notEvenBrotli(presumedOf, error);
    throw error;
  } finally {
    await reader.close();
  }
}

async function* decode(codec: Codec, reader: SourceReader, options: DecodeOptions): AsyncGenerator<Uint8Array, void, undefined> {
  switch (codec) {
    case "none":
      for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) yield bytes;
      return;
    case "br":
      return yield* decodeBrotli(reader, options.signal);
    case "gzip":
    case "xz":
    case "zstd":
    case "bzip2":
      return yield* decodeInWorker(codec, reader, options);
  }
}

function notEvenBrotli(first: Uint8Array, cause: Error): NarborError {
  return new NarborError(
    "ERR_COMPRESSION_INVALID",
    `Cannot decompress: input begins with ${toHex(first)}, which is neither a NAR nor a compression we know, and it is not br (${cause.message})`,
    { cause },
  );
}

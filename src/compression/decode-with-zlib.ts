import { createBrotliDecompress, createGunzip } from "node:zlib";

import { errorMessage } from "../errors.ts";
import { endsEarly, followedByOther, invalidInput } from "./decoder.ts";
import type { SourceReader } from "./source-reader.ts";
import { throughZlib, ZLIB_CHUNK_BYTES } from "./zlib-stream.ts";

/** Decode what `reader` reads with node:zlib. */
export async function* decodeWithZlib(
  codec: "gzip" | "br",
  reader: SourceReader,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const options = { chunkSize: ZLIB_CHUNK_BYTES };
  const stream = codec === "gzip" ? createGunzip(options) : createBrotliDecompress(options);
  const written = yield* throughZlib(stream, reader, signal, (error) => zlibError(codec, error));
  // zlib leaves bytes alone that follow the last stream, and ends when it is given such bytes.
  if (stream.bytesWritten !== written) throw followedByOther(codec);
}

function zlibError(codec: "gzip" | "br", error: unknown): unknown {
  if (error instanceof Error && "code" in error && error.code === "Z_BUF_ERROR") return endsEarly(codec);
  return invalidInput(codec, `input is damaged: ${errorMessage(error)}`, { cause: error });
}

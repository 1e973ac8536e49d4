import { createBrotliDecompress } from "node:zlib";

import { errorMessage } from "../errors.ts";
import { endsEarly, followedByOther, invalidInput } from "./decoder.ts";
import type { SourceReader } from "./source-reader.ts";
import { throughZlib, ZLIB_CHUNK_BYTES } from "./zlib-stream.ts";

/** Decode what `reader` reads with node:zlib. */
export async function* decodeBrotli(reader: SourceReader, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
  const stream = createBrotliDecompress({ chunkSize: ZLIB_CHUNK_BYTES });
  const written = yield* throughZlib(stream, reader, signal, zlibError);
  // zlib leaves bytes alone that follow the stream, and ends when it is given such bytes.
  if (stream.bytesWritten !== written) throw followedByOther("br");
}

function zlibError(error: unknown): unknown {
  if (error instanceof Error && "code" in error && error.code === "Z_BUF_ERROR") return endsEarly("br");
  return invalidInput("br", `input is damaged: ${errorMessage(error)}`, { cause: error });
}

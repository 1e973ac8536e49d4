import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip } from "node:zlib";

import { errorMessage, isNarborError } from "../errors.ts";
import { endsEarly, followedByOther, invalidInput } from "./decoder.ts";
import type { SourceReader } from "./source-reader.ts";

/** The most input zlib is given at once, and the most output of one of its turns. */
const CHUNK_BYTES = 64 * 1024;

/** Decode what `reader` reads with node:zlib, which works in libuv's threads. */
export async function* decodeWithZlib(
  codec: "gzip" | "br",
  reader: SourceReader,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const stream = codec === "gzip" ? createGunzip({ chunkSize: CHUNK_BYTES }) : createBrotliDecompress({ chunkSize: CHUNK_BYTES });
  const onAbort = (): void => void stream.destroy();
  signal?.addEventListener("abort", onAbort, { once: true });

  let written = 0;
  let sourceFailure: { readonly error: unknown } | undefined;
  async function feed(): Promise<void> {
    try {
      for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) {
        for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES) {
          if (stream.destroyed) return;
          const part = bytes.subarray(offset, offset + CHUNK_BYTES);
          written += part.length;
          if (!stream.write(part)) await drainOrClose(stream);
        }
      }
      stream.end();
    } catch (error) {
      sourceFailure = { error };
      stream.destroy();
    }
  }
  void feed();

  try {
    for await (const bytes of stream) yield bytes as Uint8Array;
    // zlib leaves bytes alone that follow the last stream, and ends when it is given such bytes.
    if (stream.bytesWritten !== written) throw followedByOther(codec);
  } catch (error) {
    signal?.throwIfAborted();
    if (sourceFailure !== undefined) throw sourceFailure.error;
    throw zlibError(codec, error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    stream.destroy();
  }
}

function drainOrClose(stream: Transform): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("close", done);
  });
}

function zlibError(codec: "gzip" | "br", error: unknown): unknown {
  if (isNarborError(error)) return error;
  if (error instanceof Error && "code" in error && error.code === "Z_BUF_ERROR") return endsEarly(codec);
  return invalidInput(codec, `input is damaged: ${errorMessage(error)}`, { cause: error });
}

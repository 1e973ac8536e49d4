import type { Transform } from "node:stream";

import { copyBytes } from "../bytes/collect.ts";
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import type { SourceReader } from "./source-reader.ts";

/** The most input zlib is given at once, and the most output of one of its turns. */
export const ZLIB_CHUNK_BYTES = 512 * 1024;

/**
 * What `stream`, one of node:zlib's, makes of what `reader` reads; they work in libuv's threads. The stream is destroyed
 * however this ends. Returns how many bytes the stream was given.
 *
 * @throws the signal's reason, the source's error as it is, and what `toError` makes of an error of the stream
 */
export async function* throughZlib(
  stream: Transform,
  reader: Pick<SourceReader<StreamPiece>, "read">,
  signal: AbortSignal | undefined,
  toError: (error: unknown) => unknown,
): AsyncGenerator<Uint8Array, number, undefined> {
  const onAbort = (): void => void stream.destroy();
  signal?.addEventListener("abort", onAbort, { once: true });

  let written = 0;
  let sourceFailure: { readonly error: unknown } | undefined;
  async function feed(): Promise<void> {
    try {
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) {
        const bytes = bytesOf(piece);
        for (let offset = 0; offset < bytes.length; offset += ZLIB_CHUNK_BYTES) {
          if (stream.destroyed) return;
          const part = bytes.subarray(offset, offset + ZLIB_CHUNK_BYTES);
          written += part.length;
          // One that the stream keeps while the next is read; a larger one is waited for.
          const isKept = part.length < stream.writableHighWaterMark;
          if (!stream.write(isKept ? copyBytes(part) : part)) await drainOrClose(stream);
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
    return written;
  } catch (error) {
    signal?.throwIfAborted();
    if (sourceFailure !== undefined) throw sourceFailure.error;
    throw toError(error);
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

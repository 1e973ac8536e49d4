/** What the decoders that run in a worker have in common: synchronous, input pushed, output pulled. */
import { NarborError } from "../errors.ts";
import type { Codec } from "./codec.ts";

export interface Decoder {
  /** Hand over more input. Must only be called when `next()` asked for it. The bytes must not change until it asks again. */
  push(bytes: Uint8Array): void;
  /** Say that no more input comes. */
  end(): void;
  /**
   * The next decoded bytes, a MiB or so at most, which do not change before the next are asked for. Undefined asks for input, or after
   * `end()` says that the input was whole and everything of it is decoded.
   *
   * @param room where they may be put, at its beginning; they may be elsewhere. It is not empty
   * @throws NarborError `ERR_COMPRESSION_INVALID` or `ERR_LIMIT`; after that only `close()` may be called
   */
  next(room: Uint8Array): Uint8Array | undefined;
  /** Give back what the decoder holds. Must be called once, however it ended. */
  close(): void;
}

/** The most memory a stream may ask its decoder to look back on: what `zstd --long` and `zstd --ultra -22` write. */
export const MAX_WINDOW_BYTES = 128 * 1024 * 1024;

/** The error for input that cannot be decoded: `what` was found. */
export function invalidInput(codec: Codec, what: string, options?: { readonly cause?: unknown }): NarborError {
  return new NarborError("ERR_COMPRESSION_INVALID", `Cannot decompress ${codec}: ${what}`, options);
}

/** The error for input that stops before its end. */
export function endsEarly(codec: Codec): NarborError {
  return invalidInput(codec, "input ends early");
}

/** The error for bytes behind the last stream that do not begin another. */
export function followedByOther(codec: Codec): NarborError {
  return invalidInput(codec, `input is followed by something that is not ${codec}`);
}

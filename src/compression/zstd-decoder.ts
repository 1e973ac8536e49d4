/**
 * zstd, by libzstd in the package @cloudpss/zstd.
 *
 * Only its stream classes may be used: each has a context of its own, while the package's `compress()` and
 * `decompress()` share one in the whole process without a lock, and Narbor's workers are threads.
 */
import { _NapiBindings as bindings } from "@cloudpss/zstd/napi";

import { errorMessage } from "../errors.ts";
import { type Decoder, endsEarly, invalidInput } from "./decoder.ts";
import { countGarbage } from "../concurrency/thread-garbage.ts";
import { ZstdFrameWalker } from "./zstd-frames.ts";

/** What one call to libzstd may become, give or take a block. */
const OUTPUT_BYTES_PER_CALL = 384 * 1024;
/** Contexts kept for the next stream. */
const MAX_IDLE = 2;

type Context = InstanceType<typeof bindings.Decompressor>;

const idle: Context[] = [];
let abandonedBytes = 0;

/**
 * Bytes of windows in contexts that were left in the middle of a frame or not kept. They cannot be used again, and the garbage
 * collector, which does not see their size, may take its time: a thread with many of them is better ended.
 */
export function abandonedZstdBytes(): number {
  return abandonedBytes;
}

export class ZstdDecoder implements Decoder {
  readonly #walker: ZstdFrameWalker;
  readonly #context = idle.pop() ?? new bindings.Decompressor();
  #input: Uint8Array = new Uint8Array(0);
  #output: Uint8Array<ArrayBuffer>[] = [];
  #ended = false;
  #failed = false;

  constructor(maxWindowBytes?: number) {
    this.#walker = new ZstdFrameWalker(maxWindowBytes);
  }

  push(bytes: Uint8Array): void {
    this.#input = bytes;
  }

  end(): void {
    this.#ended = true;
  }

  next(): Uint8Array<ArrayBuffer> | undefined {
    while (this.#output.length === 0) {
      if (this.#input.length > 0) {
        this.#decode();
        continue;
      }
      if (!this.#ended) return undefined;
      if (!this.#walker.atFrameEnd) throw endsEarly("zstd");
      return undefined;
    }
    return this.#output.shift();
  }

  close(): void {
    if (!this.#failed && this.#walker.atFrameEnd && idle.length < MAX_IDLE) idle.push(this.#context);
    else abandonedBytes += this.#walker.windowBytes;
  }

  #decode(): void {
    // Stays set when one of the calls throws.
    this.#failed = true;
    const length = this.#walker.walk(this.#input, OUTPUT_BYTES_PER_CALL);
    const bytes = Buffer.from(this.#input.buffer, this.#input.byteOffset, length);
    this.#input = this.#input.subarray(length);
    try {
      this.#context.data(bytes, (output) => {
        this.#output.push(output as Uint8Array<ArrayBuffer>);
        countGarbage(output.length);
      });
    } catch (error) {
      throw invalidInput("zstd", `input is damaged: ${errorMessage(error)}`);
    }
    this.#failed = false;
  }
}

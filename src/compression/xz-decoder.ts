/**
 * xz, by the WebAssembly build of XZ Embedded in the package xz-decompress.
 *
 * The package's own stream shares one instance among all and reads on without being asked, so this uses the four
 * functions it exports. XZ Embedded reads streams, their padding and concatenations of them as `xz` does, but no
 * SHA-256 check and no filter other than LZMA2 (Nix writes neither), and this build allows a dictionary of 64 MiB (`xz -9`).
 */
import { createRequire } from "node:module";

import { NarborError } from "../errors.ts";
import { type Decoder, endsEarly, followedByOther, invalidInput } from "./decoder.ts";

/** What `get_next_output` returns: `enum xz_ret` of XZ Embedded. */
const XZ_OK = 0;
const XZ_STREAM_END = 1;
const XZ_UNSUPPORTED_CHECK = 2;
const XZ_MEM_ERROR = 3;
const XZ_MEMLIMIT_ERROR = 4;
const XZ_FORMAT_ERROR = 5;
const XZ_OPTIONS_ERROR = 6;
const XZ_BUF_ERROR = 8;

/** Instances are kept for the next stream, but not with a large dictionary: their memory never shrinks. */
const MAX_IDLE = 2;
const MAX_IDLE_BYTES = 16 * 1024 * 1024;

interface XzExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  create_context(): number;
  destroy_context(context: number): void;
  supply_input(context: number, length: number): void;
  get_next_output(context: number): number;
}

interface XzDecompressModule {
  readonly XzReadableStream: {
    _moduleInstance: { readonly exports: XzExports };
    /** Sets `_moduleInstance` to a new instance. */
    _getModuleInstance(): Promise<void>;
  };
}

const { XzReadableStream } = createRequire(import.meta.url)("xz-decompress") as XzDecompressModule;

const idle: XzExports[] = [];
let loading: Promise<unknown> = Promise.resolve();

/** An instance of its own for each decoder: so that the memory of a large dictionary is given back with it. */
function loadInstance(): Promise<XzExports> {
  // One after the other, since each is handed over in the same place.
  const instance = loading.then(async () => {
    await XzReadableStream._getModuleInstance();
    return XzReadableStream._moduleInstance.exports;
  });
  loading = instance.catch(() => undefined);
  return instance;
}

/** Start decoding xz. */
export async function openXzDecoder(): Promise<Decoder> {
  return new XzDecoder(idle.pop() ?? (await loadInstance()));
}

const NO_BYTES = new Uint8Array(0);

class XzDecoder implements Decoder {
  readonly #xz: XzExports;
  readonly #context: number;
  readonly #bufferSize: number;
  #input: Uint8Array = NO_BYTES;
  #ended = false;
  #finished = false;
  /** Bytes decoded so far, to tell what is not xz at all from what comes after it. */
  #produced = 0;

  constructor(xz: XzExports) {
    this.#xz = xz;
    this.#context = xz.create_context();
    this.#bufferSize = this.#field(FIELD.bufferSize);
  }

  push(bytes: Uint8Array): void {
    this.#input = bytes;
  }

  end(): void {
    this.#ended = true;
  }

  next(): Uint8Array<ArrayBuffer> | undefined {
    while (!this.#finished) {
      if (this.#field(FIELD.inputPosition) === this.#field(FIELD.inputSize)) {
        if (this.#input.length === 0) {
          if (!this.#ended) return undefined;
          // Supplying nothing says that the input has ended. What was the input before may be gone.
          this.#input = NO_BYTES;
        }
        this.#supply(this.#input.subarray(0, this.#bufferSize));
        this.#input = this.#input.subarray(this.#bufferSize);
      }
      const result = this.#xz.get_next_output(this.#context);
      if (result === XZ_STREAM_END) this.#finished = true;
      else if (result !== XZ_OK) throw this.#error(result);
      const output = this.#takeOutput();
      if (output.length > 0) return output;
    }
    return undefined;
  }

  close(): void {
    this.#xz.destroy_context(this.#context);
    if (idle.length < MAX_IDLE && this.#xz.memory.buffer.byteLength <= MAX_IDLE_BYTES) idle.push(this.#xz);
  }

  /** A 32-bit field of the context: the buffers are `struct xz_buf`, behind the size that both have. */
  #field(index: number): number {
    return new DataView(this.#xz.memory.buffer).getUint32(this.#context + index * 4, true);
  }

  #supply(bytes: Uint8Array): void {
    new Uint8Array(this.#xz.memory.buffer, this.#field(FIELD.input), bytes.length).set(bytes);
    this.#xz.supply_input(this.#context, bytes.length);
  }

  #takeOutput(): Uint8Array<ArrayBuffer> {
    const length = this.#field(FIELD.outputPosition);
    const output = new Uint8Array(this.#xz.memory.buffer, this.#field(FIELD.output), length).slice();
    new DataView(this.#xz.memory.buffer).setUint32(this.#context + FIELD.outputPosition * 4, 0, true);
    this.#produced += length;
    return output;
  }

  #error(result: number): Error {
    switch (result) {
      case XZ_BUF_ERROR:
        return endsEarly("xz");
      case XZ_MEM_ERROR:
      case XZ_MEMLIMIT_ERROR:
        return new NarborError("ERR_LIMIT", "Cannot decompress xz: the stream asks for a dictionary of more than 64 MiB (xz -9)");
      case XZ_FORMAT_ERROR:
        return this.#produced === 0 ? invalidInput("xz", "input is not xz") : followedByOther("xz");
      case XZ_OPTIONS_ERROR:
      case XZ_UNSUPPORTED_CHECK:
        return new NarborError(
          "ERR_COMPRESSION_UNSUPPORTED",
          "Cannot decompress xz: the stream uses a filter or a check that is not supported, only LZMA2 with CRC32 or CRC64 is",
        );
      default:
        return invalidInput("xz", "input is damaged");
    }
  }
}

/** Places in the context, in units of four bytes. */
const FIELD = { bufferSize: 0, input: 1, inputPosition: 2, inputSize: 3, output: 4, outputPosition: 5 } as const;

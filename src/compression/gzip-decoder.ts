/**
 * gzip, of any number of members, by node:zlib on the calling thread and into memory that is given.
 *
 * That is what node:zlib's streams do inside, in another thread and back for every piece; it has no public name (docs/decisions/0019).
 */
import { constants, createGunzip } from "node:zlib";

import { errorMessage } from "../errors.ts";
import { type Decoder, endsEarly, followedByOther, invalidInput } from "./decoder.ts";

/** Of one of node:zlib's streams. */
interface ZlibInternals {
  readonly _handle: {
    writeSync(flush: number, input: Uint8Array, inputOffset: number, inputLength: number, output: Uint8Array, outputOffset: number, outputLength: number): void;
  };
  /** What was left of the output's length, and of the input's, by the last call. */
  readonly _writeState: Uint32Array;
}

const NO_BYTES = new Uint8Array(0);

export class GzipDecoder implements Decoder {
  // Its own buffer, of so many bytes, is not used.
  readonly #gunzip = createGunzip({ chunkSize: constants.Z_MIN_CHUNK });
  readonly #internals: ZlibInternals;
  #input: Uint8Array = NO_BYTES;
  /** There may be more output without any more input. */
  #isFull = false;
  #ended = false;
  #isFinished = false;

  constructor() {
    // Told of once more than it is seen.
    this.#gunzip.on("error", () => undefined);
    this.#internals = internalsOf(this.#gunzip);
  }

  push(bytes: Uint8Array): void {
    this.#input = bytes;
  }

  end(): void {
    this.#ended = true;
  }

  next(room: Uint8Array): Uint8Array | undefined {
    while (this.#input.length > 0 || this.#isFull || (this.#ended && !this.#isFinished)) {
      const decoded = this.#decode(room);
      if (decoded.length > 0) return decoded;
    }
    return undefined;
  }

  close(): void {
    this.#gunzip.close();
  }

  #decode(room: Uint8Array): Uint8Array {
    const input = this.#input;
    const isLast = this.#ended && input.length === 0;
    const { _handle: handle, _writeState: left } = this.#internals;
    handle.writeSync(isLast ? constants.Z_FINISH : constants.Z_NO_FLUSH, input, 0, input.length, room, 0, room.length);
    if (this.#gunzip.errored !== null) throw toInvalidInput(this.#gunzip.errored);
    const [outputLeft = 0, inputLeft = 0] = left;
    this.#isFull = outputLeft === 0;
    // zlib leaves zeros alone that follow the last member.
    if (!this.#isFull && inputLeft > 0) throw followedByOther("gzip");
    // What is done with may be in another thread when this goes on.
    this.#input = inputLeft === 0 ? NO_BYTES : input.subarray(-inputLeft);
    if (isLast && !this.#isFull) this.#isFinished = true;
    return room.subarray(0, room.length - outputLeft);
  }
}

/** @throws TypeError when this Node.js has no such streams any more */
function internalsOf(stream: object): ZlibInternals {
  if (!("_handle" in stream && "_writeState" in stream)) throw new TypeError("node:zlib has changed: its streams have no _handle and _writeState");
  return stream as ZlibInternals;
}

function toInvalidInput(error: Error): Error {
  if ("code" in error && error.code === "Z_BUF_ERROR") return endsEarly("gzip");
  return invalidInput("gzip", `input is damaged: ${errorMessage(error)}`, { cause: error });
}

/** gzip, of any number of members, by minizlib: node:zlib itself, on the calling thread. Its streams would go to another thread and back for every piece. */
import { constants } from "node:zlib";
import { Gunzip } from "minizlib";

import { asBuffer } from "../bytes/as-buffer.ts";
import { errorMessage } from "../errors.ts";
import { type Decoder, endsEarly, followedByOther, invalidInput } from "./decoder.ts";

/** What is given to zlib at once: all that it becomes is there then, which is a thousand times as much at most. */
const PIECE_BYTES = 16 * 1024;
/** The same behind a piece that became more than `MUCH_BYTES`. */
const DENSE_PIECE_BYTES = 1024;
const MUCH_BYTES = 128 * 1024;
/** zlib's own buffer: output of one piece that fits into it is copied once. */
const CHUNK_BYTES = 64 * 1024;
/** Handed on to node:zlib, though its type does not say so. */
const OPTIONS = { flush: constants.Z_NO_FLUSH, chunkSize: CHUNK_BYTES };

export class GzipDecoder implements Decoder {
  readonly #gunzip = new Gunzip(OPTIONS);
  #input: Uint8Array = new Uint8Array(0);
  #output: Uint8Array[] = [];
  #pieceBytes = PIECE_BYTES;
  #ended = false;
  #failure: unknown;

  constructor() {
    this.#gunzip.on("data", (bytes) => this.#output.push(bytes)).on("error", (error) => (this.#failure ??= error));
  }

  push(bytes: Uint8Array): void {
    this.#input = bytes;
  }

  end(): void {
    this.#ended = true;
  }

  next(): Uint8Array | undefined {
    while (this.#output.length === 0) {
      if (this.#input.length > 0) this.#decode();
      else if (this.#ended && !this.#gunzip.ended) this.#finish();
      else return undefined;
    }
    return this.#output.shift();
  }

  close(): void {
    this.#gunzip.close();
  }

  #decode(): void {
    const piece = this.#input.subarray(0, this.#pieceBytes);
    this.#input = this.#input.subarray(piece.length);
    this.#gunzip.write(asBuffer(piece));
    this.#check();
    // zlib leaves bytes alone that follow the last member.
    if (this.#gunzip.handle?.bytesWritten !== piece.length) throw followedByOther("gzip");
    const size = this.#output.reduce((sum, { length }) => sum + length, 0);
    this.#pieceBytes = size > MUCH_BYTES ? DENSE_PIECE_BYTES : PIECE_BYTES;
  }

  #finish(): void {
    this.#gunzip.end();
    this.#check();
  }

  #check(): void {
    if (this.#failure === undefined) return;
    const error = this.#failure;
    if (error instanceof Error && "code" in error && error.code === "Z_BUF_ERROR") throw endsEarly("gzip");
    throw invalidInput("gzip", `input is damaged: ${errorMessage(error instanceof Error ? (error.cause ?? error) : error)}`, { cause: error });
  }
}

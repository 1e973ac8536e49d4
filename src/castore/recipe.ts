/**
 * How some bytes are put together from blobs: what an archive holds beside its files' contents, and which blobs go where. docs/data-model.md has the
 * bytes. The same archive always gives the same recipe, in whatever pieces it came.
 */
import { ByteWriter } from "../bytes/byte-writer.ts";
import { NarborError } from "../errors.ts";
import type { BlobRef } from "./blob-service.ts";
import { DIGEST_LENGTH, toB3Digest } from "./digest.ts";

/** A blob, or part of it. */
export interface BlobSegment extends BlobRef {
  /** First byte. @default 0 */
  readonly start?: number;
  /** Byte to stop before. @default the blob's size */
  readonly end?: number;
}

/** A piece of an archive: bytes as they are, or contents that are read from the blob service. */
export type Segment = Uint8Array | BlobSegment;

/** Bytes of it. */
export function segmentLength(segment: Segment): number {
  return segment instanceof Uint8Array ? segment.length : (segment.end ?? segment.size) - (segment.start ?? 0);
}

const MAGIC = Buffer.from("narbor-recipe-1\n");
const KIND = { literal: 0, zeros: 1, blob: 2, part: 3 } as const;
/** Each record begins with its length times this, and its kind. */
const KINDS = 4;
/** Bytes between two blobs are written in pieces of so many, counted from the blob before. */
const PIECE_BYTES = 64 * 1024;
/** Fewer zeros are not worth a record. */
const MIN_ZEROS = 8;
const ZEROS = new Uint8Array(PIECE_BYTES);

export class RecipeWriter {
  readonly #maxBytes: number;
  readonly #writer = new ByteWriter(4096);
  readonly #piece = Buffer.alloc(PIECE_BYTES);
  #pieceLength = 0;

  /** @param maxBytes most bytes that the recipe itself may take; more is ERR_LIMIT */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
    this.#writer.writeBytes(MAGIC);
  }

  /** Bytes as they are. */
  addBytes(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; ) {
      const length = Math.min(bytes.length - start, PIECE_BYTES - this.#pieceLength);
      this.#piece.set(bytes.subarray(start, start + length), this.#pieceLength);
      this.#pieceLength += length;
      start += length;
      if (this.#pieceLength === PIECE_BYTES) this.#flush();
    }
  }

  /** A blob's bytes, or some of them. */
  addBlob({ digest, size, start = 0, end = size }: BlobSegment): void {
    if (start === end) return;
    this.#flush();
    const isWhole = start === 0 && end === size;
    this.#begin(isWhole ? KIND.blob : KIND.part, end - start);
    if (!isWhole) {
      this.#writer.writeVarint(start);
      this.#writer.writeVarint(size);
    }
    this.#writer.writeBytes(digest);
    this.#checkLimit();
  }

  /** The recipe. */
  finish(): Uint8Array {
    this.#flush();
    return this.#writer.bytes();
  }

  #flush(): void {
    const piece = this.#piece.subarray(0, this.#pieceLength);
    this.#pieceLength = 0;
    let literal = 0;
    for (let at = piece.indexOf(0); at !== -1; at = piece.indexOf(0, at)) {
      let end = at;
      while (end < piece.length && piece[end] === 0) end++;
      if (end - at >= MIN_ZEROS) {
        this.#addLiteral(piece.subarray(literal, at));
        this.#begin(KIND.zeros, end - at);
        literal = end;
      }
      at = end;
    }
    this.#addLiteral(piece.subarray(literal));
    this.#checkLimit();
  }

  #addLiteral(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#begin(KIND.literal, bytes.length);
    this.#writer.writeBytes(bytes);
  }

  #begin(kind: number, length: number): void {
    this.#writer.writeVarint(length * KINDS + kind);
  }

  #checkLimit(): void {
    if (this.#writer.length > this.#maxBytes) throw new NarborError("ERR_LIMIT", `Cannot ingest: what the archive holds beside its files' contents takes more than ${this.#maxBytes} bytes`);
  }
}

/**
 * The pieces of what a recipe makes.
 *
 * @param size bytes that it must make
 * @throws NarborError ERR_DATA_LOSS
 */
export function* readRecipe(recipe: Uint8Array, size: number): Generator<Segment, void, undefined> {
  const bytes = Buffer.from(recipe.buffer, recipe.byteOffset, recipe.length);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw damaged("it does not begin as one");
  let offset = MAGIC.length;
  let made = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = bytes[offset++];
      if (byte === undefined) throw damaged("it ends within a record");
      value += (byte % 0x80) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw damaged("a number is beyond 2^53");
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - offset) throw damaged("it ends within a record");
    return bytes.subarray(offset, (offset += length));
  };
  while (offset < bytes.length) {
    const head = readVarint();
    const length = Math.floor(head / KINDS);
    made += length;
    if (made > size) throw damaged(`it makes more than ${size} bytes`);
    switch (head % KINDS) {
      case KIND.literal:
        yield take(length);
        break;
      case KIND.zeros:
        if (length > PIECE_BYTES) throw damaged(`${length} zeros in a row`);
        yield ZEROS.subarray(0, length);
        break;
      case KIND.blob:
        yield { digest: toB3Digest(take(DIGEST_LENGTH)), size: length };
        break;
      default: {
        const start = readVarint();
        const blobSize = readVarint();
        if (start + length > blobSize) throw damaged("a part is beyond the end of its blob");
        yield { digest: toB3Digest(take(DIGEST_LENGTH)), size: blobSize, start, end: start + length };
      }
    }
  }
  if (made !== size) throw damaged(`it makes ${made} bytes, expected ${size}`);
}

function damaged(what: string): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read a recipe: ${what}`);
}

/**
 * xz without compression: LZMA2 has chunks that are copied, so that any decoder of xz reads what costs no more to write
 * than a checksum.
 * See https://tukaani.org/xz/xz-file-format-1.1.0.txt; the chunks are described in liblzma's lzma2_decoder.c only.
 */
import { ByteWriter } from "../bytes/byte-writer.ts";
import { crc32 } from "./crc32.ts";

/** The most one LZMA2 chunk holds. */
const CHUNK_BYTES = 64 * 1024;
/** A chunk that is copied: the first one begins a new dictionary. Then its size less one, the high byte first. */
const FIRST_CHUNK = 0x01;
const NEXT_CHUNK = 0x02;
const END_OF_CHUNKS = 0x00;
const CHUNK_HEADER_BYTES = 3;

const HEADER_MAGIC = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00);
const FOOTER_MAGIC = Uint8Array.of(0x59, 0x5a);
/** Stream flags: blocks are checked with CRC-32. */
const CHECK_CRC32 = Uint8Array.of(0x00, 0x01);
const CHECK_BYTES = 4;
/**
 * Block header, 12 bytes with its CRC: its size in words less one, one filter and no sizes, LZMA2 with one byte of
 * properties: the smallest dictionary (4 KiB), since none is used.
 */
const BLOCK_HEADER = Uint8Array.of(2, 0x00, 0x21, 1, 0, 0, 0, 0);
const BLOCK_HEADER_BYTES = 12;
const INDEX_INDICATOR = 0x00;

/** Makes one xz stream of one block, or of none when there is nothing to put in. */
export class XzEncoder {
  #chunk = newChunk();
  /** Bytes in `#chunk`, its header not counted. */
  #filled = 0;
  #chunks = 0;
  #size = 0;
  #crc = 0;

  /** Take `bytes`, and give the output that is complete, in memory of its own: pieces of 64 KiB. */
  *push(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    for (let offset = 0; offset < bytes.length; ) {
      const part = bytes.subarray(offset, offset + CHUNK_BYTES - this.#filled);
      this.#chunk.set(part, CHUNK_HEADER_BYTES + this.#filled);
      this.#filled += part.length;
      offset += part.length;
      if (this.#filled === CHUNK_BYTES) yield this.#endChunk();
    }
  }

  /** The rest of the output. Nothing may be pushed after this. */
  end(): Uint8Array {
    const output = new ByteWriter();
    if (this.#filled > 0) output.writeBytes(this.#endChunk());
    else if (this.#chunks === 0) writeStreamHeader(output);
    const index = new ByteWriter();
    index.writeByte(INDEX_INDICATOR);
    if (this.#chunks === 0) {
      index.writeVarint(0);
    } else {
      output.writeByte(END_OF_CHUNKS);
      const dataBytes = this.#size + this.#chunks * CHUNK_HEADER_BYTES + 1;
      writePadding(output, dataBytes);
      output.writeUint32(this.#crc);
      index.writeVarint(1);
      index.writeVarint(BLOCK_HEADER_BYTES + dataBytes + CHECK_BYTES);
      index.writeVarint(this.#size);
    }
    writePadding(index, index.length);
    index.writeUint32(crc32(index.view()));
    output.writeBytes(index.view());

    const footer = new ByteWriter();
    footer.writeUint32(index.length / 4 - 1);
    footer.writeBytes(CHECK_CRC32);
    output.writeUint32(crc32(footer.view()));
    output.writeBytes(footer.view());
    output.writeBytes(FOOTER_MAGIC);
    return output.bytes();
  }

  /** The chunk, behind the headers where it is the first. */
  #endChunk(): Uint8Array {
    const chunk = this.#chunk.subarray(0, CHUNK_HEADER_BYTES + this.#filled);
    const contents = chunk.subarray(CHUNK_HEADER_BYTES);
    const isFirst = this.#chunks === 0;
    chunk[0] = isFirst ? FIRST_CHUNK : NEXT_CHUNK;
    chunk[1] = (contents.length - 1) >> 8;
    chunk[2] = (contents.length - 1) & 0xff;
    this.#crc = crc32(contents, this.#crc);
    this.#size += contents.length;
    this.#chunks++;
    this.#chunk = newChunk();
    this.#filled = 0;
    if (!isFirst) return chunk;
    const output = new ByteWriter(chunk.length + 64);
    writeStreamHeader(output);
    output.writeBytes(BLOCK_HEADER);
    output.writeUint32(crc32(BLOCK_HEADER));
    output.writeBytes(chunk);
    return output.view();
  }
}

function newChunk(): Uint8Array {
  return new Uint8Array(CHUNK_HEADER_BYTES + CHUNK_BYTES);
}

function writeStreamHeader(output: ByteWriter): void {
  output.writeBytes(HEADER_MAGIC);
  output.writeBytes(CHECK_CRC32);
  output.writeUint32(crc32(CHECK_CRC32));
}

/** Zeros up to a multiple of four, behind `length` bytes. */
function writePadding(output: ByteWriter, length: number): void {
  for (let size = length; size % 4 !== 0; size++) output.writeByte(0);
}

/**
 * zstd frames that hold bytes as they are: what goes between frames that are compressed already. A stream may be many frames.
 * See https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1
 */

/** Most bytes of one block. */
const MAX_BLOCK_LENGTH = 128 * 1024;
/** Little-endian: the magic number, then a descriptor that says "one segment, its size in four bytes". */
const MAGIC = 0xfd2f_b528;
const DESCRIPTOR = 0xa0;
const FRAME_HEADER_LENGTH = 9;
const BLOCK_HEADER_LENGTH = 3;

/** Most bytes that `rawFrameHead` is for. */
export const MAX_SHORT_FRAME_LENGTH = MAX_BLOCK_LENGTH;
/** Bytes of `rawFrameHead`. */
export const SHORT_FRAME_HEAD_LENGTH = FRAME_HEADER_LENGTH + BLOCK_HEADER_LENGTH;

/** What stands before 1 to `MAX_SHORT_FRAME_LENGTH` bytes to make them a frame. */
export function rawFrameHead(length: number): Uint8Array {
  const head = new Uint8Array(SHORT_FRAME_HEAD_LENGTH);
  writeFrameHeader(head, length);
  writeBlockHeader(head, FRAME_HEADER_LENGTH, length, true);
  return head;
}

/** Bytes of the frame that `rawFrame` makes of so many. */
export function rawFrameLength(length: number): number {
  return FRAME_HEADER_LENGTH + length + BLOCK_HEADER_LENGTH * Math.ceil(length / MAX_BLOCK_LENGTH);
}

/** A frame that holds these bytes as they are: one at least, less than 4 GiB. */
export function rawFrame(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(rawFrameLength(bytes.length));
  writeFrameHeader(frame, bytes.length);
  let offset = FRAME_HEADER_LENGTH;
  for (let start = 0; start < bytes.length; start += MAX_BLOCK_LENGTH) {
    const block = bytes.subarray(start, start + MAX_BLOCK_LENGTH);
    writeBlockHeader(frame, offset, block.length, start + block.length === bytes.length);
    frame.set(block, offset + BLOCK_HEADER_LENGTH);
    offset += BLOCK_HEADER_LENGTH + block.length;
  }
  return frame;
}

function writeFrameHeader(frame: Uint8Array, length: number): void {
  const view = new DataView(frame.buffer, frame.byteOffset);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, DESCRIPTOR);
  view.setUint32(5, length, true);
}

/** Three bytes: whether it is the last, two bits for "raw", the length. */
function writeBlockHeader(frame: Uint8Array, offset: number, length: number, isLast: boolean): void {
  const header = (length << 3) | (isLast ? 1 : 0);
  for (let byte = 0; byte < BLOCK_HEADER_LENGTH; byte++) frame[offset + byte] = (header >> (8 * byte)) & 0xff;
}

/**
 * Follows zstd frames through their compressed bytes without decoding them (RFC 8878, section 3.1).
 *
 * libzstd's streams do not say whether the input ended at the end of a frame, and decode whatever they are given at
 * once. Headers of frames and blocks tell both: where a frame ends, and how much a block can become.
 */
import { NarborError } from "../errors.ts";
import { endsEarly, followedByOther, invalidInput, MAX_WINDOW_BYTES } from "./decoder.ts";

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const MAX_BLOCK_BYTES = 128 * 1024;
/** What frames of level 19 ask for, the largest that we make. */
export const USUAL_WINDOW_BYTES = 8 * 1024 * 1024;
/** Magic, descriptor, window, dictionary, content size. */
const MAX_HEADER_BYTES = 4 + 1 + 1 + 4 + 8;

/** The beginning of a frame. */
export interface ZstdFrameHeader {
  /** Bytes of the header, the magic included. */
  readonly length: number;
  /** How far back the frame may refer: the memory it takes to decode it. */
  readonly windowBytes: number;
  /** Size of the decoded frame, where the header tells. */
  readonly contentBytes: number | undefined;
  readonly hasChecksum: boolean;
}

/** What the next bytes belong to. */
type Part = "frame header" | "block header" | "block" | "checksum" | "skippable frame";

export class ZstdFrameWalker {
  readonly #maxWindowBytes: number;
  #part: Part = "frame header";
  /** Bytes of the part that have not come yet; for headers, how many to look at next. */
  #missing = 4;
  readonly #header = new Uint8Array(MAX_HEADER_BYTES);
  #headerLength = 0;
  #blockBytes = 0;
  #hasChecksum = false;
  #lastBlock = false;
  #frames = 0;
  #windowBytes = 0;

  constructor(maxWindowBytes = MAX_WINDOW_BYTES) {
    this.#maxWindowBytes = maxWindowBytes;
  }

  /** Whether the bytes so far are one or more whole frames and nothing else. */
  get atFrameEnd(): boolean {
    return this.#frames > 0 && this.#part === "frame header" && this.#headerLength === 0;
  }

  /** How many frames have ended, those that are skipped among them. */
  get frames(): number {
    return this.#frames;
  }

  /** The largest window of the frames so far. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * How many of `bytes` to decode at once: at least one, and no further than where blocks that become `outputBytes` have
   * begun. They can become 128 KiB more than that.
   *
   * @throws NarborError `ERR_COMPRESSION_INVALID` where the bytes are not zstd, `ERR_LIMIT` for a window that is too large
   */
  walk(bytes: Uint8Array, outputBytes: number): number {
    let offset = 0;
    for (let output = 0; offset < bytes.length; ) {
      const taken = Math.min(this.#missing, bytes.length - offset);
      if (this.#part === "frame header" || this.#part === "block header") {
        if (this.#part === "block header" && output >= outputBytes) break;
        this.#header.set(bytes.subarray(offset, offset + taken), this.#headerLength);
        this.#headerLength += taken;
      }
      offset += taken;
      this.#missing -= taken;
      if (this.#missing === 0) output += this.#advance();
    }
    return offset;
  }

  /** The part is complete: find the next. Returns how many bytes the block that begins here can become. */
  #advance(): number {
    switch (this.#part) {
      case "frame header":
        this.#beginFrame();
        return 0;
      case "block header":
        return this.#beginBlock();
      case "block":
        if (!this.#lastBlock) this.#expect("block header", 3);
        else if (this.#hasChecksum) this.#expect("checksum", 4);
        else this.#endFrame();
        return 0;
      case "checksum":
      case "skippable frame":
        this.#endFrame();
        return 0;
    }
  }

  #beginFrame(): void {
    const bytes = this.#header.subarray(0, this.#headerLength);
    if (isSkippable(bytes)) {
      // A magic and a length.
      if (bytes.length < 8) return void (this.#missing = 8 - bytes.length);
      this.#expect("skippable frame", readUint32(bytes, 4));
      if (this.#missing === 0) this.#endFrame();
      return;
    }
    if (readUint32(bytes, 0) !== MAGIC) {
      throw this.#frames === 0 ? invalidInput("zstd", "input is not zstd") : followedByOther("zstd");
    }
    const length = zstdHeaderLength(bytes);
    if (bytes.length < length) return void (this.#missing = length - bytes.length);
    const { windowBytes, hasChecksum } = parseZstdFrameHeader(bytes, this.#maxWindowBytes);
    this.#hasChecksum = hasChecksum;
    this.#windowBytes = Math.max(this.#windowBytes, windowBytes);
    this.#blockBytes = Math.min(windowBytes, MAX_BLOCK_BYTES);
    this.#expect("block header", 3);
  }

  #beginBlock(): number {
    const header = readUint32(this.#header, 0) & 0xffffff;
    this.#lastBlock = (header & 1) === 1;
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type === 3) throw invalidInput("zstd", "input is damaged: a block has no known type");
    if (size > this.#blockBytes) throw invalidInput("zstd", "input is damaged: a block is too long");
    // A run is one byte long and says how often it is repeated.
    const isRun = type === 1;
    this.#expect("block", isRun ? 1 : size);
    if (this.#missing === 0) this.#advance();
    return type === 2 ? this.#blockBytes : size;
  }

  #endFrame(): void {
    this.#frames++;
    this.#expect("frame header", 4);
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part;
    this.#missing = bytes;
    this.#headerLength = 0;
    this.#header.fill(0);
  }
}

/**
 * Read the header at the beginning of a frame that is not skippable.
 *
 * @throws NarborError `ERR_COMPRESSION_INVALID`, also when it is cut short, and `ERR_LIMIT` for a window that is too large
 */
export function parseZstdFrameHeader(bytes: Uint8Array, maxWindowBytes = MAX_WINDOW_BYTES): ZstdFrameHeader {
  if (bytes.length < 5) throw endsEarly("zstd");
  if (readUint32(bytes, 0) !== MAGIC) throw invalidInput("zstd", "input is not zstd");
  const length = zstdHeaderLength(bytes);
  if (bytes.length < length) throw endsEarly("zstd");
  const descriptor = bytes[4] ?? 0;
  if ((descriptor & 0x08) !== 0) throw invalidInput("zstd", "input is damaged: a reserved bit is set");
  const fields = headerFields(descriptor);
  const dictionary = bytes.subarray(5 + fields.window, 5 + fields.window + fields.dictionary);
  if (dictionary.some((byte) => byte !== 0)) throw invalidInput("zstd", "input needs a dictionary");
  const contentBytes = fields.content === 0 ? undefined : readContentSize(bytes.subarray(length - fields.content, length));
  const windowBytes = fields.window === 0 ? (contentBytes ?? 0) : windowSize(bytes[5] ?? 0);
  if (windowBytes > maxWindowBytes) {
    throw new NarborError(
      "ERR_LIMIT",
      `Cannot decompress zstd: the frame asks for a window of ${windowBytes} bytes, at most ${maxWindowBytes} are allowed (zstd --long=${Math.floor(Math.log2(maxWindowBytes))})`,
    );
  }
  return { length, windowBytes, contentBytes, hasChecksum: (descriptor & 0x04) !== 0 };
}

/** Whether `bytes` are one frame, which tells its size, and nothing else, and whoever decodes it need not look back further than that. */
export function isSingleZstdFrame(bytes: Uint8Array, maxWindowBytes: number): boolean {
  const walker = new ZstdFrameWalker();
  const end = walker.walk(bytes, Infinity);
  return end === bytes.length && walker.atFrameEnd && walker.frames === 1 && walker.windowBytes <= maxWindowBytes && parseZstdFrameHeader(bytes).contentBytes !== undefined;
}

/** Length of the header that begins with `bytes`. Needs five of them: fewer give 5. */
function zstdHeaderLength(bytes: Uint8Array): number {
  const descriptor = bytes[4];
  if (descriptor === undefined) return 5;
  const { window, dictionary, content } = headerFields(descriptor);
  return 5 + window + dictionary + content;
}

/** Lengths of the fields that follow the descriptor, in their order. */
function headerFields(descriptor: number): { window: number; dictionary: number; content: number } {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const content = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  return { window: isSingleSegment ? 0 : 1, dictionary, content };
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** Eight bytes may say more than a number holds: that is larger than any limit, which is all that matters. */
function readContentSize(bytes: Uint8Array): number {
  const size = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
  // Two bytes count from 256, which one byte could have said.
  return bytes.length === 2 ? size + 256 : size;
}

function isSkippable(bytes: Uint8Array): boolean {
  return (readUint32(bytes, 0) & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC;
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
}

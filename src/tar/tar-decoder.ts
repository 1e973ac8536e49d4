/**
 * A tar decoder that never waits: `push` bytes as they come, take events with `next` until it has none, `end` at the input's end.
 *
 * It reads V7, ustar, GNU, PAX and star, and files with holes as GNU tar writes them in four ways. Nothing is allocated by a length that the
 * input claims; what is kept between pushes is one block, or one extended header of at most 1 MiB.
 *
 * Readers of tar do not agree on what an archive says where its headers contradict each other. This one says what Go's archive/tar does, since
 * Docker, containerd, Podman and skopeo read layers with that. In particular:
 *
 * - A GNU long name or link goes before that of a PAX record, in whichever order they come, and both before the header's own.
 *   The second of two PAX headers for one entry takes the place of the first.
 * - A PAX size is what is stored of an entry, whatever its header says. Links, directories, devices and fifos have no data, whatever either says.
 * - Type NUL is a directory when its path ends with a slash, and a file when not; type 0 is a file.
 * - Names in headers end at their first NUL. PAX paths with a NUL are refused.
 * - Two blocks of zeros are the end, and anything may follow them. Both may be missing, or the second, and the last entry's padding.
 *   A header after one block of zeros is refused; GNU tar and libarchive end there.
 *
 * It is stricter in a few things, and refuses where Go reads: negative sizes of entries without data; sizes, ids and times beyond 2^53; paths of
 * more than 4,096 bytes, and maps of more than 65,536 ranges; sparse maps of an unknown version, or of more or less than is stored; PAX records
 * with a sign before their length, and numbers in PAX records that count for nothing; an archive that ends between an extended header and its entry.
 *
 * Global PAX headers are applied as POSIX says to path, linkpath, size, uid, gid and mtime of all that follows, or not at all: Go hands them to
 * its caller, and those programs ignore them.
 */
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, copyBytes } from "../bytes/collect.ts";
import type { EventDecoder } from "../bytes/event-reader.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import type { PaxRecords } from "./pax-records.ts";
import { overGlobal, parsePaxRecords } from "./pax-records.ts";
import type { PaxSparseVersion } from "./sparse-map.ts";
import { checkSparseRanges, paxSparseRanges, paxSparseSize, paxSparseVersion, readGnuRanges, SparseMapReader } from "./sparse-map.ts";
import { tarError } from "./tar-error.ts";
import type { SparseRange, TarEntry, TarEntryKind, TarEvent } from "./tar-event.ts";
import { MAX_EXTENDED_HEADER_LENGTH, MAX_PATH_LENGTH } from "./tar-event.ts";
import type { TarBlock, TarHeader } from "./tar-header.ts";
import { BLOCK_LENGTH, paddingLength, parseTarHeader, parseTarNumber, TAR_FIELD, wrongNumber } from "./tar-header.ts";

export interface TarDecoderOptions {
  /** Whether global PAX headers say something of the entries that follow, as GNU tar has it, or nothing, as for container runtimes. @default "apply" */
  readonly globalHeaders?: "apply" | "ignore";
}

/** Where in the grammar the next byte stands. */
type State =
  | "header"
  /** After a block of zeros. */
  | "end"
  | "extendedHeader"
  | "gnuSparseMap"
  | "paxSparseMap"
  /** All headers have been read, and the entry is to be told of. */
  | "entry"
  | "data"
  | "padding"
  /** After the end: anything. */
  | "trailer";

/** What becomes a `TarEntry` when its sparse map has been read. */
interface Draft {
  readonly header: TarHeader;
  readonly records: PaxRecords;
  readonly offset: number;
  readonly typeFlag: number;
  readonly kind: TarEntryKind;
  readonly path: Uint8Array;
  readonly linkTarget: Uint8Array;
  readonly size: number;
  storedSize: number;
}

const NO_BYTES = new Uint8Array(0);
const NO_RECORDS: PaxRecords = {};
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();
const SLASH = 0x2f;

const FLAG = { old: 0, file: 0x30, directory: 0x35, longLink: 0x4b, longName: 0x4c, gnuSparse: 0x53, globalHeader: 0x67, extendedHeader: 0x78 } as const;

const KIND_OF_FLAG: Readonly<Partial<Record<number, TarEntryKind>>> = {
  [FLAG.file]: "file",
  0x31: "hardlink",
  0x32: "symlink",
  0x33: "characterDevice",
  0x34: "blockDevice",
  [FLAG.directory]: "directory",
  0x36: "fifo",
  // "Contiguous" files, which are files to everyone.
  0x37: "file",
  [FLAG.gnuSparse]: "file",
};

export class TarDecoder implements EventDecoder<TarEvent> {
  readonly #appliesGlobal: boolean;
  #state: State = "header";
  /** Bytes pushed, of which those from `#at` on are not yet read, and those from `#rawStart` on not yet given. */
  #chunk: Uint8Array = NO_BYTES;
  #at = 0;
  #rawStart = 0;
  /** Position in the archive of the first byte of `#chunk`. */
  #base = 0;
  /** A block that comes in pieces, and how much of it has come. */
  readonly #pieces = new Uint8Array(BLOCK_LENGTH);
  #pieceLength = 0;
  /** The block that was taken last. */
  #block: TarBlock = { bytes: this.#pieces, start: 0, position: 0 };
  /** Bytes to come of an extended header, of data, or of padding. */
  #remaining = 0;
  #paddingLength = 0;
  /** Type and position of the extended header that is being read, and its contents when they come in pieces. */
  #extendedType = 0;
  #extendedAt = 0;
  readonly #extended = new ByteWriter();
  /** What extended headers have said of the entry to come. */
  #records: PaxRecords | undefined;
  #longName: Uint8Array | undefined;
  #longLink: Uint8Array | undefined;
  #global: PaxRecords | undefined;
  #draft: Draft | undefined;
  #ranges: SparseRange[] | undefined;
  #mapReader: SparseMapReader | undefined;
  #entry: TarEntry | undefined;

  constructor(options: TarDecoderOptions = {}) {
    this.#appliesGlobal = options.globalHeaders !== "ignore";
  }

  /** Bytes consumed so far. */
  get position(): number {
    return this.#base + this.#at;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    // Nothing, when all events have been taken.
    const rest = this.#chunk.subarray(this.#rawStart);
    this.#base += this.#rawStart;
    this.#at -= this.#rawStart;
    this.#rawStart = 0;
    this.#chunk = rest.length === 0 ? chunk : concatBytes([rest, chunk]);
  }

  /**
   * The next event, or undefined when more bytes are needed.
   *
   * @throws NarborError ERR_TAR_INVALID
   */
  next(): TarEvent | undefined {
    for (;;) {
      switch (this.#state) {
        case "header":
          if (!this.#takeBlock()) return this.#takeRaw();
          this.#readHeader();
          break;
        case "end":
          if (!this.#takeBlock()) return this.#takeRaw();
          this.#readEnd();
          break;
        case "extendedHeader":
          if (!this.#takeExtended()) return this.#takeRaw();
          break;
        case "gnuSparseMap":
          if (!this.#takeBlock()) return this.#takeRaw();
          this.#readGnuSparseMap(false);
          break;
        case "paxSparseMap":
          if (!this.#takeBlock()) return this.#takeRaw();
          this.#readPaxSparseMap();
          break;
        case "entry": {
          const raw = this.#takeRaw();
          if (raw !== undefined) return raw;
          const entry = this.#entry as TarEntry;
          this.#remaining = entry.storedSize;
          this.#state = "data";
          return { type: "entry", entry };
        }
        case "data": {
          if (this.#remaining === 0) {
            this.#remaining = this.#paddingLength;
            this.#state = "padding";
            return { type: "endEntry" };
          }
          const bytes = this.#chunk.subarray(this.#at, this.#at + this.#remaining);
          if (bytes.length === 0) return undefined;
          this.#at += bytes.length;
          this.#rawStart = this.#at;
          this.#remaining -= bytes.length;
          return { type: "data", bytes };
        }
        case "padding": {
          const length = Math.min(this.#remaining, this.#chunk.length - this.#at);
          this.#at += length;
          this.#remaining -= length;
          if (this.#remaining > 0) return this.#takeRaw();
          this.#state = "header";
          break;
        }
        case "trailer":
          this.#at = this.#chunk.length;
          return this.#takeRaw();
      }
    }
  }

  /**
   * The input has ended.
   *
   * @throws NarborError ERR_TAR_INVALID when it may not end here
   */
  end(): void {
    const within = this.#whereabouts();
    if (within !== undefined) throw tarError(`input ends within ${within}`, this.#base + this.#chunk.length);
  }

  /** What the input may not end in; undefined where it may. */
  #whereabouts(): string | undefined {
    switch (this.#state) {
      case "header":
      case "padding": {
        if (this.#pieceLength > 0) return "a header";
        const isPending = this.#records !== undefined || this.#longName !== undefined || this.#longLink !== undefined;
        return isPending ? "an entry, after its extended header" : undefined;
      }
      case "end":
        return this.#pieceLength > 0 ? "the end" : undefined;
      case "extendedHeader":
        return "an extended header";
      case "gnuSparseMap":
      case "paxSparseMap":
        return `the sparse map of entry ${quoteBytes(this.#draft?.path ?? NO_BYTES)}`;
      case "entry":
      case "data":
        return `the contents of entry ${quoteBytes(this.#entry?.path ?? NO_BYTES)}`;
      case "trailer":
        return undefined;
    }
  }

  /** Consume a block, which is `#block` then; or what there is of one, and say that more bytes are needed. */
  #takeBlock(): boolean {
    const available = this.#chunk.length - this.#at;
    if (this.#pieceLength === 0 && available >= BLOCK_LENGTH) {
      this.#block = { bytes: this.#chunk, start: this.#at, position: this.position };
      this.#at += BLOCK_LENGTH;
      return true;
    }
    const length = Math.min(BLOCK_LENGTH - this.#pieceLength, available);
    this.#pieces.set(this.#chunk.subarray(this.#at, this.#at + length), this.#pieceLength);
    this.#at += length;
    this.#pieceLength += length;
    if (this.#pieceLength < BLOCK_LENGTH) return false;
    this.#pieceLength = 0;
    this.#block = { bytes: this.#pieces, start: 0, position: this.position - BLOCK_LENGTH };
    return true;
  }

  /** What was consumed and is no one's contents, in one piece. */
  #takeRaw(): TarEvent | undefined {
    if (this.#rawStart === this.#at) return undefined;
    const bytes = this.#chunk.subarray(this.#rawStart, this.#at);
    this.#rawStart = this.#at;
    return { type: "raw", bytes };
  }

  #readHeader(): void {
    const header = parseTarHeader(this.#block);
    const offset = this.#block.position;
    if (header === undefined) {
      if (this.#whereabouts() !== undefined) throw tarError("the end follows an extended header", offset);
      this.#state = "end";
      return;
    }
    switch (header.typeFlag) {
      case FLAG.extendedHeader:
      case FLAG.globalHeader:
      case FLAG.longName:
      case FLAG.longLink:
        if (header.size > MAX_EXTENDED_HEADER_LENGTH) throw tarError(`extended header of ${header.size} bytes is longer than ${MAX_EXTENDED_HEADER_LENGTH}`, offset);
        this.#extendedType = header.typeFlag;
        this.#extendedAt = this.position;
        this.#remaining = header.size;
        this.#paddingLength = paddingLength(header.size);
        this.#state = "extendedHeader";
        return;
      default:
        this.#readEntry(header, offset);
    }
  }

  #readEnd(): void {
    const { bytes, start, position } = this.#block;
    for (let at = start; at < start + BLOCK_LENGTH; at++) if (bytes[at] !== 0) throw tarError("a header follows a block of zeros", position);
    this.#state = "trailer";
  }

  /** Consume the contents of an extended header; or what there is of them, and say that more bytes are needed. */
  #takeExtended(): boolean {
    const bytes = this.#chunk.subarray(this.#at, this.#at + this.#remaining);
    this.#at += bytes.length;
    this.#remaining -= bytes.length;
    const isWhole = this.#remaining === 0;
    if (isWhole && this.#extended.length === 0) this.#readExtended(bytes);
    else this.#extended.writeBytes(bytes);
    if (!isWhole) return false;
    if (this.#extended.length > 0) this.#readExtended(this.#extended.view());
    this.#extended.clear();
    this.#remaining = this.#paddingLength;
    this.#state = "padding";
    return true;
  }

  #readExtended(bytes: Uint8Array): void {
    switch (this.#extendedType) {
      case FLAG.extendedHeader:
        this.#records = parsePaxRecords(bytes, this.#extendedAt);
        return;
      case FLAG.globalHeader: {
        const records = parsePaxRecords(bytes, this.#extendedAt);
        if (this.#appliesGlobal) this.#global = overGlobal(records, this.#global ?? NO_RECORDS);
        // To Go it is an entry, for which what came before it was said.
        this.#forget();
        return;
      }
      case FLAG.longName:
        this.#longName = untilNul(bytes);
        return;
      case FLAG.longLink:
        this.#longLink = untilNul(bytes);
    }
  }

  #readEntry(header: TarHeader, offset: number): void {
    const own = this.#records ?? NO_RECORDS;
    const records = this.#global === undefined ? own : overGlobal(own, this.#global);
    const path = notEmpty(this.#longName) ?? notEmpty(records.path) ?? header.path;
    const linkTarget = notEmpty(this.#longLink) ?? notEmpty(records.linkPath) ?? header.linkPath;
    const typeFlag = header.typeFlag === FLAG.old ? (path.at(-1) === SLASH ? FLAG.directory : FLAG.file) : header.typeFlag;
    const kind = KIND_OF_FLAG[typeFlag] ?? "other";
    const size = records.size ?? header.size;
    if (size < 0) throw tarError(`size of entry ${quoteBytes(path)} is ${size}`, offset);
    const hasData = kind === "file" || kind === "other";
    const storedSize = hasData ? size : 0;
    const draft: Draft = { header, records, offset, typeFlag, kind, path, linkTarget, size: storedSize, storedSize };
    this.#paddingLength = paddingLength(storedSize);
    this.#forget();
    if (typeFlag === FLAG.gnuSparse) this.#beginGnuSparse(draft);
    else if (own.sparse !== undefined) this.#beginPaxSparse(draft, own.sparse, size);
    else this.#finish(draft);
  }

  #forget(): void {
    this.#records = this.#longName = this.#longLink = undefined;
  }

  #beginGnuSparse(draft: Draft): void {
    // Star has the same letter for a map of its own.
    if (!draft.header.isGnu) throw tarError(`entry ${quoteBytes(draft.path)} has GNU's sparse type and another format's header`, draft.offset);
    const size = parseTarNumber(this.#block, TAR_FIELD.gnuRealSize);
    if (!Number.isSafeInteger(size)) throw wrongNumber("sparse size", draft.path, size, draft.offset);
    this.#draft = { ...draft, size };
    this.#ranges = [];
    this.#readGnuSparseMap(true);
  }

  #readGnuSparseMap(isHeader: boolean): void {
    const draft = this.#draft as Draft;
    const ranges = this.#ranges as SparseRange[];
    if (this.position - draft.offset > MAX_EXTENDED_HEADER_LENGTH) {
      throw tarError(`sparse map of entry ${quoteBytes(draft.path)} is longer than ${MAX_EXTENDED_HEADER_LENGTH} bytes`, draft.offset);
    }
    if (readGnuRanges(this.#block, isHeader, ranges, draft)) this.#state = "gnuSparseMap";
    else this.#finish(draft, ranges);
  }

  #beginPaxSparse(draft: Draft, records: ReadonlyMap<string, Uint8Array>, headerSize: number): void {
    const version: PaxSparseVersion = paxSparseVersion(records, draft);
    if (version === undefined) return this.#finish(draft);
    if (draft.kind !== "file" && draft.kind !== "other") throw tarError(`entry ${quoteBytes(draft.path)} is a ${draft.kind} with a sparse map`, draft.offset);
    const path = notEmpty(records.get("name")) ?? draft.path;
    const sparse = { ...draft, path, size: paxSparseSize(records, draft) ?? headerSize };
    if (version === "0") return this.#finish(sparse, paxSparseRanges(records, sparse));
    this.#draft = sparse;
    this.#mapReader = new SparseMapReader(sparse);
    this.#state = "paxSparseMap";
  }

  #readPaxSparseMap(): void {
    const draft = this.#draft as Draft;
    const reader = this.#mapReader as SparseMapReader;
    // The map is a part of what is stored.
    if (reader.length + BLOCK_LENGTH > draft.storedSize) throw tarError(`sparse map of entry ${quoteBytes(draft.path)} is longer than its data`, draft.offset);
    const ranges = reader.addBlock(this.#block);
    if (ranges === undefined) return;
    draft.storedSize -= reader.length;
    this.#mapReader = undefined;
    this.#finish(draft, ranges);
  }

  #finish(draft: Draft, sparse?: readonly SparseRange[]): void {
    const { header, records, kind, path, size, storedSize, offset } = draft;
    if (path.length > MAX_PATH_LENGTH) throw tarError(`path of ${path.length} bytes is longer than ${MAX_PATH_LENGTH}`, offset);
    const linkTarget = kind === "symlink" || kind === "hardlink" ? draft.linkTarget : NO_BYTES;
    if (linkTarget.length > MAX_PATH_LENGTH) {
      throw tarError(`link target of entry ${quoteBytes(path)} of ${linkTarget.length} bytes is longer than ${MAX_PATH_LENGTH}`, offset);
    }
    if (sparse !== undefined) checkSparseRanges(sparse, size, storedSize, draft);
    this.#draft = this.#ranges = undefined;
    this.#entry = {
      path,
      kind,
      typeFlag: String.fromCharCode(draft.typeFlag),
      linkTarget,
      mode: header.mode & 0o7777,
      uid: records.uid ?? header.uid,
      gid: records.gid ?? header.gid,
      mtime: records.mtime ?? header.mtime,
      deviceMajor: header.deviceMajor,
      deviceMinor: header.deviceMinor,
      storedSize,
      size,
      sparse,
      xattrs: records.xattrs ?? NO_XATTRS,
      offset,
    };
    this.#state = "entry";
  }
}

function notEmpty(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined || bytes.length === 0 ? undefined : bytes;
}

function untilNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return copyBytes(end < 0 ? bytes : bytes.subarray(0, end));
}

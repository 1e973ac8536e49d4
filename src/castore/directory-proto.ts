/**
 * Directory and Entry messages of castore.v1, byte for byte.
 *
 * A directory's name is the BLAKE3 of its canonical message, so the bytes matter more than the message: fields ascending, default
 * scalars left out, nothing unknown. They are written here by hand for two reasons. The encoder takes entries one by one in
 * the order of a NAR and keeps nothing but the message's own bytes, since the three lists of a sorted directory are sorted too.
 * And the decoder can refuse whatever is not canonical, which a general protobuf library accepts.
 */
import { ByteWriter } from "../bytes/byte-writer.ts";
import { compareBytes } from "../bytes/compare-bytes.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import type { B3Digest } from "./digest.ts";
import { DIGEST_LENGTH, toB3Digest } from "./digest.ts";
import type { Directory, DirectorySizeProfile, Entry } from "./directory.ts";
import { SIZE_PER_ENTRY } from "./directory.ts";
import type { Node } from "./node.ts";
import { checkPathComponent, checkSymlinkTarget } from "./path-component.ts";

/** Field numbers of both Directory's lists and Entry's oneof. */
const DIRECTORY_FIELD = 1;
const FILE_FIELD = 2;
const SYMLINK_FIELD = 3;
const NAME_FIELD = 1;
/** `digest` of directories and files, `target` of symlinks. */
const CONTENT_FIELD = 2;
const SIZE_FIELD = 3;
const EXECUTABLE_FIELD = 4;

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const NO_BYTES = new Uint8Array(0);

const FIELD_OF_TYPE = { directory: DIRECTORY_FIELD, file: FILE_FIELD, symlink: SYMLINK_FIELD } as const;

/**
 * Builds a directory's message from entries in the order of their names. Names are the caller's to check.
 * One builder serves one directory after another; between them it keeps its memory.
 */
export class DirectoryBuilder {
  readonly #lists = { directory: new ByteWriter(), file: new ByteWriter(), symlink: new ByteWriter() };
  readonly #sizePerEntry: number;
  #size = 0;

  constructor(profile: DirectorySizeProfile) {
    this.#sizePerEntry = SIZE_PER_ENTRY[profile];
  }

  /** Bytes of the message so far. */
  get byteLength(): number {
    return this.#lists.directory.length + this.#lists.file.length + this.#lists.symlink.length;
  }

  add(name: Uint8Array, node: Node): void {
    writeNode(this.#lists[node.type], FIELD_OF_TYPE[node.type], name, node);
    this.#size += this.#sizePerEntry;
    if (node.type === "directory") this.#size += node.size;
  }

  /** The message and the directory's size; the builder is empty again. */
  finish(): { readonly bytes: Uint8Array; readonly size: number } {
    const { directory, file, symlink } = this.#lists;
    const bytes = new Uint8Array(this.byteLength);
    bytes.set(directory.view());
    bytes.set(file.view(), directory.length);
    bytes.set(symlink.view(), directory.length + file.length);
    const size = this.#size;
    for (const list of [directory, file, symlink]) list.clear();
    this.#size = 0;
    return { bytes, size };
  }
}

/** Encode a whole directory. */
export function encodeDirectory(directory: Directory): Uint8Array {
  const builder = new DirectoryBuilder("documented");
  for (const { name, node } of directory) builder.add(name, node);
  return builder.finish().bytes;
}

/** Encode an Entry message, as it stands in NAR URLs (with an empty name) and in PathInfo. */
export function encodeEntry(node: Node, name: Uint8Array = new Uint8Array(0)): Uint8Array {
  const writer = new ByteWriter(128);
  writeNode(writer, FIELD_OF_TYPE[node.type], name, node);
  return writer.bytes();
}

function writeNode(writer: ByteWriter, field: number, name: Uint8Array, node: Node): void {
  const content = node.type === "symlink" ? node.target : node.digest;
  const size = node.type === "symlink" ? 0 : node.size;
  const executable = node.type === "file" && node.executable;
  const length =
    delimitedLength(name.length) + delimitedLength(content.length) + (size === 0 ? 0 : 1 + varintLength(size)) + (executable ? 2 : 0);
  writer.writeByte((field << 3) | LENGTH_DELIMITED);
  writer.writeVarint(length);
  writeDelimited(writer, NAME_FIELD, name);
  writeDelimited(writer, CONTENT_FIELD, content);
  if (size !== 0) {
    writer.writeByte((SIZE_FIELD << 3) | VARINT);
    writer.writeVarint(size);
  }
  if (executable) {
    writer.writeByte((EXECUTABLE_FIELD << 3) | VARINT);
    writer.writeByte(1);
  }
}

function writeDelimited(writer: ByteWriter, field: number, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  writer.writeByte((field << 3) | LENGTH_DELIMITED);
  writer.writeVarint(bytes.length);
  writer.writeBytes(bytes);
}

function delimitedLength(length: number): number {
  return length === 0 ? 0 : 1 + varintLength(length) + length;
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length++;
  return length;
}

/**
 * Decode and check a Directory message: names valid and strictly ascending in each list, no name twice, sizes below 2^53,
 * and the bytes canonical. Names and digests in the result are views of `bytes`.
 *
 * @throws NarborError ERR_CASTORE_INVALID
 */
export function decodeDirectory(bytes: Uint8Array): Directory {
  return [...readDirectory(bytes)];
}

/**
 * The same, entry by entry in the order of their names, for directories too large to hold as objects. What is wrong further on
 * is told only when it is reached.
 *
 * @throws NarborError ERR_CASTORE_INVALID
 */
export function* readDirectory(bytes: Uint8Array): Generator<Entry, void, undefined> {
  const lists = splitLists(bytes);
  for (;;) {
    let first: EntryList | undefined;
    for (const list of lists) {
      if (list.head === undefined) continue;
      const order = first?.head === undefined ? -1 : compareBytes(list.head.name, first.head.name);
      if (order === 0) throw invalid(`the name ${quoteBytes(list.head.name)} twice`);
      if (order < 0) first = list;
    }
    if (first?.head === undefined) return;
    yield first.head;
    first.advance();
  }
}

/** One of a directory's three lists; `head` is the entry whose turn it is. */
class EntryList {
  head: Entry | undefined;
  readonly #reader: MessageReader;
  readonly #field: number;

  constructor(bytes: Uint8Array, field: number) {
    this.#reader = new MessageReader(bytes);
    this.#field = field;
    this.advance();
  }

  advance(): void {
    const previous = this.head;
    this.head = undefined;
    if (this.#reader.atEnd) return;
    this.#reader.readField(LENGTH_DELIMITED);
    const entry = readNode(this.#reader.readMessage(), this.#field);
    checkPathComponent(entry.name);
    if (previous !== undefined && compareBytes(entry.name, previous.name) <= 0) {
      throw invalid(`entry ${quoteBytes(entry.name)} follows ${quoteBytes(previous.name)}`);
    }
    this.head = entry;
  }
}

/** Where one list ends and the next begins. */
function splitLists(bytes: Uint8Array): readonly EntryList[] {
  const reader = new MessageReader(bytes);
  const ends = [0, 0, 0];
  let lastField = DIRECTORY_FIELD;
  while (!reader.atEnd) {
    const field = reader.readField(LENGTH_DELIMITED);
    if (field < DIRECTORY_FIELD || field > SYMLINK_FIELD) throw invalid(`unknown field ${field}`);
    if (field < lastField) throw invalid("its lists are out of order");
    lastField = field;
    reader.readDelimited();
    ends[field - 1] = reader.offset;
  }
  let start = 0;
  return ends.map((end, index) => {
    const list = new EntryList(bytes.subarray(start, Math.max(start, end)), index + 1);
    start = Math.max(start, end);
    return list;
  });
}

/**
 * Decode an Entry message with an empty name, as it stands in NAR URLs.
 *
 * @throws NarborError ERR_CASTORE_INVALID
 */
export function decodeRootNode(bytes: Uint8Array): Node {
  const { name, node } = decodeEntry(bytes);
  if (name.length !== 0) throw invalid(`a root node must have no name, it has ${quoteBytes(name)}`);
  return node;
}

/** Decode an Entry message; its name may be empty. @throws NarborError ERR_CASTORE_INVALID */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new MessageReader(bytes);
  const field = reader.readField(LENGTH_DELIMITED);
  if (field < DIRECTORY_FIELD || field > SYMLINK_FIELD) throw invalid(`unknown field ${field}`);
  const entry = readNode(reader.readMessage(), field);
  if (!reader.atEnd) throw invalid("more than one node");
  return entry;
}

function readNode(reader: MessageReader, kind: number): Entry {
  let name: Uint8Array = NO_BYTES;
  let content: Uint8Array = NO_BYTES;
  let size = 0;
  let executable = false;
  let lastField = 0;
  while (!reader.atEnd) {
    const wireType = reader.peekWireType();
    const field = reader.readField(wireType);
    if (field <= lastField) throw invalid("fields out of order");
    lastField = field;
    if (field === NAME_FIELD && wireType === LENGTH_DELIMITED) name = reader.readNonDefault();
    else if (field === CONTENT_FIELD && wireType === LENGTH_DELIMITED) content = reader.readNonDefault();
    else if (field === SIZE_FIELD && wireType === VARINT && kind !== SYMLINK_FIELD) size = reader.readNonZero();
    else if (field === EXECUTABLE_FIELD && wireType === VARINT && kind === FILE_FIELD) {
      if (reader.readVarint() !== 1) throw invalid("a flag is not canonical");
      executable = true;
    } else throw invalid(`unknown field ${field}`);
  }
  if (kind === SYMLINK_FIELD) {
    checkSymlinkTarget(content);
    return { name, node: { type: "symlink", target: content } };
  }
  if (content.length !== DIGEST_LENGTH) throw invalid(`a digest of ${content.length} bytes`);
  const digest: B3Digest = toB3Digest(content);
  return { name, node: kind === DIRECTORY_FIELD ? { type: "directory", digest, size } : { type: "file", digest, size, executable } };
}

/** Reads protobuf and accepts the shortest form only. */
class MessageReader {
  readonly #bytes: Uint8Array;
  #offset: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#offset = start;
    this.#end = end;
  }

  /** Bytes read. */
  get offset(): number {
    return this.#offset;
  }

  get atEnd(): boolean {
    return this.#offset === this.#end;
  }

  peekWireType(): number {
    return (this.#bytes[this.#offset] ?? 0) & 7;
  }

  readField(wireType: number): number {
    const key = this.readVarint();
    if ((key & 7) !== wireType) throw invalid(`wire type ${key & 7}, expected ${wireType}`);
    return Math.floor(key / 8);
  }

  readVarint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      if (this.#offset === this.#end) throw invalid("it is cut short");
      const byte = this.#bytes[this.#offset++] as number;
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) throw invalid("a number beyond 2^53");
      if (byte < 0x80) {
        if (byte === 0 && scale > 1) throw invalid("a number is not in its shortest form");
        return value;
      }
      scale *= 0x80;
      // Zeros that never end would otherwise keep `value` small.
      if (scale > Number.MAX_SAFE_INTEGER) throw invalid("a number beyond 2^53");
    }
  }

  readNonZero(): number {
    const value = this.readVarint();
    if (value === 0) throw invalid("a default value is written out");
    return value;
  }

  readDelimited(): Uint8Array {
    const start = this.#readLength();
    return this.#bytes.subarray(start, this.#offset);
  }

  /** A message within this one. */
  readMessage(): MessageReader {
    const start = this.#readLength();
    return new MessageReader(this.#bytes, start, this.#offset);
  }

  /** Where as many bytes begin as are said to follow; they are passed over. */
  #readLength(): number {
    const length = this.readVarint();
    const start = this.#offset;
    if (length > this.#end - start) throw invalid("it is cut short");
    this.#offset = start + length;
    return start;
  }

  readNonDefault(): Uint8Array {
    const bytes = this.readDelimited();
    if (bytes.length === 0) throw invalid("a default value is written out");
    return bytes;
  }
}

function invalid(what: string): NarborError {
  return new NarborError("ERR_CASTORE_INVALID", `Cannot read a castore message: found ${what}`);
}

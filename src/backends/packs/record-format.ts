/**
 * What a records block holds: everything the index knows that is not the place of a chunk, so that packs alone can give the index back.
 * Each record is one byte of type, four bytes of length, and its body. docs/data-model.md has the tables.
 */
import { ByteWriter } from "../../bytes/byte-writer.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { DIGEST_LENGTH, toB3Digest } from "../../castore/digest.ts";
import { decodeRootNode, encodeEntry } from "../../castore/directory-proto.ts";
import type { Codec } from "../../compression/codec.ts";
import { NarborError } from "../../errors.ts";
import type { DocumentRecord } from "../../store/document-index.ts";
import type { NarFileRecord, NarRecord } from "../../store/nar-index.ts";
import { CHUNK_ROW_LENGTH, decodeChunkTable, encodeChunkTable } from "./chunk-table.ts";

/** One thing written down. `time` is in milliseconds since 1970; where two records speak of the same path or document, the later one counts. */
export type StoreRecord =
  | { readonly type: "directory"; readonly message: Uint8Array }
  | { readonly type: "blob"; readonly digest: B3Digest; readonly size: number; readonly chunks: readonly ChunkEntry[] }
  | { readonly type: "pathInfo"; readonly time: number; readonly message: Uint8Array }
  | { readonly type: "pathInfoDeleted"; readonly time: number; readonly digest: Uint8Array }
  | { readonly type: "nar"; readonly nar: NarRecord }
  | { readonly type: "narFile"; readonly narSha256: Uint8Array; readonly file: NarFileRecord }
  | { readonly type: "document"; readonly time: number; readonly document: DocumentRecord }
  | { readonly type: "documentDeleted"; readonly time: number; readonly name: string };

const TYPE_NUMBER = { directory: 1, blob: 2, pathInfo: 3, pathInfoDeleted: 4, nar: 5, narFile: 6, document: 7, documentDeleted: 8 } as const;
const SHA256_LENGTH = 32;
/** What a directory's record takes beside its message, and others about, in bytes. */
const DIRECTORY_RECORD_BYTES = 5;
const OTHER_RECORD_BYTES = 128;

/** Append a record. */
export function writeRecord(writer: ByteWriter, record: StoreRecord): void {
  const body = encodeBody(record);
  writer.writeByte(TYPE_NUMBER[record.type]);
  writer.writeUint32(body.length);
  writer.writeBytes(body);
}

/** Records one after another. */
export function encodeRecords(records: readonly StoreRecord[]): Uint8Array<ArrayBuffer> {
  // A group's directories are megabytes, which are not to be copied as they grow.
  const writer = new ByteWriter(records.reduce((sum, record) => sum + (record.type === "directory" ? DIRECTORY_RECORD_BYTES + record.message.length : OTHER_RECORD_BYTES), 0));
  for (const record of records) writeRecord(writer, record);
  return writer.take();
}

function encodeBody(record: StoreRecord): Uint8Array {
  if (record.type === "directory") return record.message;
  const writer = new ByteWriter();
  switch (record.type) {
    case "blob":
      writer.writeBytes(record.digest);
      writer.writeUint64(record.size);
      writer.writeBytes(encodeChunkTable(record.chunks));
      break;
    case "pathInfo":
      writer.writeUint64(record.time);
      writer.writeBytes(record.message);
      break;
    case "pathInfoDeleted":
      writer.writeUint64(record.time);
      writer.writeBytes(record.digest);
      break;
    case "nar":
      writer.writeBytes(record.nar.narSha256);
      writer.writeUint64(record.nar.narSize);
      writer.writeBytes(encodeEntry(record.nar.root));
      break;
    case "narFile":
      writer.writeBytes(record.file.fileSha256);
      writer.writeUint64(record.file.fileSize);
      writer.writeBytes(record.narSha256);
      writer.writeBytes(Buffer.from(record.file.codec));
      break;
    case "document":
      writer.writeUint64(record.time);
      writer.writeBytes(record.document.digest);
      writer.writeUint64(record.document.size);
      writer.writeBytes(Buffer.from(record.document.name));
      break;
    case "documentDeleted":
      writer.writeUint64(record.time);
      writer.writeBytes(Buffer.from(record.name));
      break;
  }
  return writer.view();
}

/** The records of a block's bytes, which were checked by their digest: views of them. @throws NarborError ERR_DATA_LOSS */
export function* readRecords(bytes: Uint8Array): Generator<StoreRecord, void, undefined> {
  const reader = new BodyReader(bytes);
  while (reader.remaining > 0) {
    const type = reader.readBytes(1)[0];
    const length = reader.readUint32();
    yield decodeBody(type ?? 0, new BodyReader(reader.readBytes(length)));
  }
}

function decodeBody(type: number, body: BodyReader): StoreRecord {
  switch (type) {
    case TYPE_NUMBER.directory:
      return { type: "directory", message: body.readRest() };
    case TYPE_NUMBER.blob:
      return { type: "blob", digest: body.readDigest(), size: body.readUint64(), chunks: decodeChunkList(body.readRest()) };
    case TYPE_NUMBER.pathInfo:
      return { type: "pathInfo", time: body.readUint64(), message: body.readRest() };
    case TYPE_NUMBER.pathInfoDeleted:
      return { type: "pathInfoDeleted", time: body.readUint64(), digest: body.readRest() };
    case TYPE_NUMBER.nar:
      return {
        type: "nar",
        nar: { narSha256: body.readBytes(SHA256_LENGTH), narSize: body.readUint64(), root: decodeRootNode(body.readRest()) },
      };
    case TYPE_NUMBER.narFile: {
      const fileSha256 = body.readBytes(SHA256_LENGTH);
      const fileSize = body.readUint64();
      const narSha256 = body.readBytes(SHA256_LENGTH);
      return { type: "narFile", narSha256, file: { fileSha256, fileSize, codec: body.readText() as Codec } };
    }
    case TYPE_NUMBER.document: {
      const time = body.readUint64();
      const digest = body.readDigest();
      const size = body.readUint64();
      return { type: "document", time, document: { name: body.readText(), digest, size } };
    }
    case TYPE_NUMBER.documentDeleted:
      return { type: "documentDeleted", time: body.readUint64(), name: body.readText() };
    default:
      throw damaged(`a record of unknown type ${type}`);
  }
}

/** The chunks of a blob's record, as `encodeChunkTable` writes them. @throws NarborError ERR_DATA_LOSS */
export function decodeChunkList(bytes: Uint8Array): ChunkEntry[] {
  const over = bytes.length % CHUNK_ROW_LENGTH;
  if (over > 0) throw damaged(`${over} bytes behind a blob's chunks, each of which takes ${CHUNK_ROW_LENGTH}`);
  return decodeChunkTable(bytes);
}

class BodyReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  readBytes(length: number): Uint8Array {
    if (length > this.remaining) throw damaged(`a record that needs ${length} bytes where ${this.remaining} are left`);
    const bytes = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return bytes;
  }

  readRest(): Uint8Array {
    return this.readBytes(this.remaining);
  }

  readText(): string {
    return Buffer.from(this.readRest()).toString();
  }

  readDigest(): B3Digest {
    return toB3Digest(this.readBytes(DIGEST_LENGTH));
  }

  readUint32(): number {
    return this.#view(4).getUint32(0, true);
  }

  readUint64(): number {
    return Number(this.#view(8).getBigUint64(0, true));
  }

  #view(length: number): DataView {
    const bytes = this.readBytes(length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }
}

function damaged(what: string): NarborError {
  return new NarborError("ERR_DATA_LOSS", `Cannot read a records block: found ${what}`);
}

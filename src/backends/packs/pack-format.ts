/**
 * The bytes of a pack: a header, then blocks, each of which says what it holds and can be checked by itself. docs/data-model.md has
 * the tables. All integers are little-endian.
 */
import { copyBytes } from "../../bytes/collect.ts";
import { blake3 } from "../../hash/blake3.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import { DIGEST_LENGTH } from "../../castore/digest.ts";
import { ZSTD_ENCODER } from "../../compression/zstd.ts";
import { CHUNK_ROW_LENGTH, decodeChunkTable, encodeChunkTable } from "./chunk-table.ts";

/** First bytes of a pack file: "narborpk", the version, four zeros. */
export const PACK_HEADER = new Uint8Array(Buffer.concat([Buffer.from("narborpk"), Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])]));

/** Bytes of a block's header before its table of chunks. */
export const BLOCK_HEADER_LENGTH = 64;
/** Begins every block; a scan finds the next good block by it. */
export const BLOCK_MAGIC = new Uint8Array(Buffer.from("NBLK"));

const KIND_OFFSET = 4;
const CODEC_OFFSET = 5;
const LEVEL_OFFSET = 6;
const CUT_OFFSET = 7;
const COUNT_OFFSET = 8;
const RAW_LENGTH_OFFSET = 12;
const STORED_LENGTH_OFFSET = 16;
const STORED_DIGEST_OFFSET = 20;
const CUT_BIT = 1;
/** Above that. */
const ENCODER_SHIFT = 1;
const CHECK_OFFSET = 52;
const CHECK_LENGTH = 12;

/** No block is larger than this before compression: the largest directory message with room to spare. */
export const MAX_RAW_LENGTH = 512 * 1024 * 1024;

/** `chunks`: contents, with a table of what they are; `records`: what is written down about them. */
export type BlockKind = "chunks" | "records";
/** How a block's bytes are stored. */
export type BlockCodec = "stored" | "zstd";

const KIND_NUMBER = { chunks: 1, records: 2 } as const;
const CODEC_NUMBER = { stored: 0, zstd: 1 } as const;

/** Of a chunk that was cut here, as blobs are cut everywhere: there is no place in it where a blob would be cut. */
export interface BlockCut {
  /** Level at which zstd was asked for a frame of it; undefined when it was not asked, or an encoder that makes other frames. The chunk is stored where the frame was not shorter. */
  readonly level: number | undefined;
}

export interface BlockHeader {
  readonly kind: BlockKind;
  readonly codec: BlockCodec;
  /** Chunks in the table, or records. */
  readonly count: number;
  /** Of a block that is one chunk, where that was cut here. */
  readonly cut: BlockCut | undefined;
  /** Bytes before compression. */
  readonly rawLength: number;
  /** Bytes as they lie in the pack. */
  readonly storedLength: number;
  /** BLAKE3 of the bytes as they lie in the pack. */
  readonly storedDigest: Uint8Array;
}

/** Bytes of the table that follows a header. */
export function tableLength(header: Pick<BlockHeader, "kind" | "count">): number {
  return header.kind === "chunks" ? header.count * CHUNK_ROW_LENGTH : 0;
}

/** Bytes from a block's first to the next one's. */
export function blockLength(header: BlockHeader): number {
  return BLOCK_HEADER_LENGTH + tableLength(header) + header.storedLength;
}

/** A block's header and table, ready to be followed by `stored`. The chunks' digests are those of their bytes. */
export function encodeBlockHeader(
  block: Pick<BlockHeader, "kind" | "codec" | "count" | "cut" | "rawLength">,
  chunks: readonly ChunkEntry[],
  stored: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(BLOCK_HEADER_LENGTH + tableLength(block));
  const view = new DataView(bytes.buffer);
  bytes.set(BLOCK_MAGIC);
  bytes[KIND_OFFSET] = KIND_NUMBER[block.kind];
  bytes[CODEC_OFFSET] = CODEC_NUMBER[block.codec];
  writeCut(view, block.cut);
  view.setUint32(COUNT_OFFSET, block.count, true);
  view.setUint32(RAW_LENGTH_OFFSET, block.rawLength, true);
  view.setUint32(STORED_LENGTH_OFFSET, stored.length, true);
  // A chunk that is stored as it is, alone, has been hashed.
  const chunk = block.codec === "stored" && chunks.length === 1 ? chunks[0] : undefined;
  bytes.set(chunk?.digest ?? blake3(stored), STORED_DIGEST_OFFSET);
  bytes.set(encodeChunkTable(chunks), BLOCK_HEADER_LENGTH);
  bytes.set(headerCheck(bytes), CHECK_OFFSET);
  return bytes;
}

/** A header without its table, or undefined when these 64 bytes are none. The check needs the table: see `checkBlockHeader`. */
export function decodeBlockHeader(bytes: Uint8Array): BlockHeader | undefined {
  if (bytes.length < BLOCK_HEADER_LENGTH || !equalBytes(bytes.subarray(0, BLOCK_MAGIC.length), BLOCK_MAGIC)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = bytes[KIND_OFFSET] === KIND_NUMBER.chunks ? "chunks" : bytes[KIND_OFFSET] === KIND_NUMBER.records ? "records" : undefined;
  const codec = bytes[CODEC_OFFSET] === CODEC_NUMBER.stored ? "stored" : bytes[CODEC_OFFSET] === CODEC_NUMBER.zstd ? "zstd" : undefined;
  const rawLength = view.getUint32(RAW_LENGTH_OFFSET, true);
  const storedLength = view.getUint32(STORED_LENGTH_OFFSET, true);
  if (kind === undefined || codec === undefined || rawLength > MAX_RAW_LENGTH || storedLength > MAX_RAW_LENGTH) return undefined;
  return {
    kind,
    codec,
    count: view.getUint32(COUNT_OFFSET, true),
    cut: readCut(view),
    rawLength,
    storedLength,
    storedDigest: copyBytes(bytes.subarray(STORED_DIGEST_OFFSET, STORED_DIGEST_OFFSET + DIGEST_LENGTH)),
  };
}

/** Whether a header with its table is as it was written. */
export function checkBlockHeader(headerAndTable: Uint8Array): boolean {
  return equalBytes(headerAndTable.subarray(CHECK_OFFSET, CHECK_OFFSET + CHECK_LENGTH), headerCheck(headerAndTable));
}

/** The chunks of a checked header and table. */
export function chunksOf(header: BlockHeader, headerAndTable: Uint8Array): ChunkEntry[] {
  return decodeChunkTable(headerAndTable.subarray(BLOCK_HEADER_LENGTH, BLOCK_HEADER_LENGTH + tableLength(header)));
}

function writeCut(view: DataView, cut: BlockCut | undefined): void {
  if (cut === undefined) return;
  // What has no room is as good as not known.
  const level = cut.level !== undefined && cut.level === (cut.level << 24) >> 24 ? cut.level : undefined;
  view.setInt8(LEVEL_OFFSET, level ?? 0);
  view.setUint8(CUT_OFFSET, CUT_BIT | (level === undefined ? 0 : ZSTD_ENCODER << ENCODER_SHIFT));
}

function readCut(view: DataView): BlockCut | undefined {
  const bits = view.getUint8(CUT_OFFSET);
  if ((bits & CUT_BIT) === 0) return undefined;
  return { level: bits >> ENCODER_SHIFT === ZSTD_ENCODER ? view.getInt8(LEVEL_OFFSET) : undefined };
}

/** Twelve bytes of the BLAKE3 over everything else in the header and the table. */
function headerCheck(headerAndTable: Uint8Array): Uint8Array {
  const covered = copyBytes(headerAndTable);
  covered.fill(0, CHECK_OFFSET, CHECK_OFFSET + CHECK_LENGTH);
  return blake3(covered).subarray(0, CHECK_LENGTH);
}

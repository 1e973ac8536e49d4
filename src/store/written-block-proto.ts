/** Blocks that a client has made, as the messages of narbor.store.v1 have them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { concatBytes, copyBytes } from "../bytes/collect.ts";
import type { ChunkEntry } from "../castore/blob-block.ts";
import type { BlockContent, WrittenBlock } from "../castore/block-writer.ts";
import { MAX_BLOCK_CHUNKS, MAX_WRITTEN_BYTES } from "../castore/block-writer.ts";
import type { B3Digest } from "../castore/digest.ts";
import { DIGEST_LENGTH, toB3Digest } from "../castore/digest.ts";
import { NarborError } from "../errors.ts";
import { MAX_CHUNK_LENGTH } from "../hash/fastcdc.ts";
import type { WriteBlocksRequest, WriteBlocksRequestSchema } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { BlockCompression } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";

export function writtenBlockToProto({ chunks, content, piece }: WrittenBlock): MessageInitShape<typeof WriteBlocksRequestSchema> {
  return {
    digests: concatBytes(chunks.map(({ digest }) => digest)),
    lengths: chunks.map(({ length }) => length),
    framing: chunks.flatMap(({ isFraming }, index) => (isFraming === true ? [index] : [])),
    ...(content && { compression: content.codec === "zstd" ? BlockCompression.ZSTD : BlockCompression.NONE, size: content.size, data: content.bytes }),
    ...(piece !== undefined && { piece: true, ...(piece !== "more" && { blob: piece }) }),
  };
}

/** @throws NarborError ERR_INVALID when it is no such block; what is in it is not looked at */
export function writtenBlockFromProto(message: WriteBlocksRequest): WrittenBlock {
  const chunks = chunksFromProto(message);
  const content = contentFromProto(message);
  const total = chunks.reduce((sum, { length }) => sum + length, 0);
  if (content === undefined && !message.piece) throw invalid("it has no data");
  if (content !== undefined && total !== content.size) throw invalid(`its chunks have ${total} bytes, it says that it has ${content.size}`);
  return { chunks, content, piece: pieceFromProto(message) };
}

function chunksFromProto({ digests, lengths, framing }: WriteBlocksRequest): readonly ChunkEntry[] {
  const count = lengths.length;
  if (count < 1 || count > MAX_BLOCK_CHUNKS) throw invalid(`it has ${count} lengths, expected 1 to ${MAX_BLOCK_CHUNKS}`);
  if (digests.length !== count * DIGEST_LENGTH) throw invalid(`it has ${digests.length} bytes of digests for ${count} lengths`);
  const tooLong = lengths.find((length) => length > MAX_CHUNK_LENGTH);
  if (tooLong !== undefined) throw invalid(`a chunk has ${tooLong} bytes, at most ${MAX_CHUNK_LENGTH} may be in one`);
  // Of a blob in pieces they are kept until its end, and must not keep the messages that they came in.
  const own = copyBytes(digests);
  const chunks: ChunkEntry[] = lengths.map((length, index) => ({ digest: toB3Digest(own.subarray(index * DIGEST_LENGTH, (index + 1) * DIGEST_LENGTH)), length }));
  let next = 0;
  for (const index of framing) {
    if (index < next || index >= count - 1 || lengths[index] === 0) throw invalid(`chunk ${index} of ${count} cannot be framing here`);
    chunks[index] = { ...(chunks[index] as ChunkEntry), isFraming: true };
    // What it stands before is no framing.
    next = index + 2;
  }
  return chunks;
}

function contentFromProto({ compression, size, data }: WriteBlocksRequest): BlockContent | undefined {
  if (size > MAX_WRITTEN_BYTES) throw invalid(`it says that it has ${size} bytes, at most ${MAX_WRITTEN_BYTES} may be in one`);
  const bytes = withoutTheRest(data);
  switch (compression) {
    case BlockCompression.UNSPECIFIED:
      if (data.length > 0) throw invalid("it does not say how it is compressed");
      return undefined;
    case BlockCompression.NONE:
      if (data.length !== size) throw invalid(`it has ${data.length} bytes, it says that it has ${size}`);
      return { codec: "stored", bytes, size };
    case BlockCompression.ZSTD:
      if (data.length >= size) throw invalid(`it has ${data.length} bytes compressed and ${size} before: then it goes as it is`);
      return { codec: "zstd", bytes, size };
    default:
      throw invalid(`compression ${String(compression)} is not known`);
  }
}

/** It is kept until it is written. What else was in the message is not. */
function withoutTheRest(data: Uint8Array): Uint8Array {
  return data.buffer.byteLength > 2 * data.length ? copyBytes(data) : data;
}

function pieceFromProto({ piece, blob, digests, framing }: WriteBlocksRequest): "more" | B3Digest | undefined {
  if (!piece) {
    if (blob.length > 0) throw invalid("it names a blob and is no piece of one");
    return undefined;
  }
  if (digests.length !== DIGEST_LENGTH || framing.length > 0) throw invalid("a piece of a blob is one chunk");
  return blob.length === 0 ? "more" : toB3Digest(copyBytes(blob));
}

function invalid(what: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot store a block: ${what}`);
}

/** Blobs as they lie in storage, as the messages of narbor.store.v1 have them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { concatBytes } from "../bytes/collect.ts";
import type { BlobBlock, BlockPart, WantedBlob } from "../castore/blob-block.ts";
import { MAX_BLOCK_BYTES, MAX_WANTED_BLOBS, MAX_WANTED_BYTES } from "../castore/blob-block.ts";
import { DIGEST_LENGTH, toB3Digest } from "../castore/digest.ts";
import { NarborError } from "../errors.ts";
import type { BlockPart as BlockPartMessage, ReadBlocksRequest, ReadBlocksRequestSchema, ReadBlocksResponse, ReadBlocksResponseSchema } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { BlockCompression } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";

export function wantedToProto(blobs: readonly WantedBlob[]): MessageInitShape<typeof ReadBlocksRequestSchema> {
  const sizes = blobs.flatMap(({ size }) => (size === undefined ? [] : [BigInt(size)]));
  return { digests: concatBytes(blobs.map(({ digest }) => digest)), sizes };
}

/** Made as they are read: there may be thousands of calls that ask for thousands. @throws NarborError ERR_INVALID, before the first is given */
export function wantedFromProto({ digests, sizes }: ReadBlocksRequest): Iterable<WantedBlob> {
  const count = digests.length / DIGEST_LENGTH;
  if (!Number.isInteger(count) || count < 1 || count > MAX_WANTED_BLOBS) {
    throw new NarborError("ERR_INVALID", `Cannot read blocks: found ${digests.length} bytes of digests, expected ${DIGEST_LENGTH} for each of 1 to ${MAX_WANTED_BLOBS} blobs`);
  }
  if (count > 1 || sizes.length > 0) checkSizes(sizes, count);
  return wantedBlobs(digests, sizes);
}

function* wantedBlobs(digests: Uint8Array, sizes: readonly bigint[]): Generator<WantedBlob, void, undefined> {
  for (let index = 0; index * DIGEST_LENGTH < digests.length; index++) {
    const size = sizes[index];
    yield { digest: toB3Digest(digests.subarray(index * DIGEST_LENGTH, (index + 1) * DIGEST_LENGTH)), size: size === undefined ? undefined : Number(size) };
  }
}

function checkSizes(sizes: readonly bigint[], count: number): void {
  if (sizes.length !== count) throw new NarborError("ERR_INVALID", `Cannot read blocks: found ${sizes.length} sizes for ${count} blobs`);
  const total = sizes.reduce((sum, size) => sum + size, 0n);
  if (total > BigInt(Number.MAX_SAFE_INTEGER)) throw new NarborError("ERR_INVALID", `Cannot read blocks: no blob has ${total} bytes`);
  if (count > 1 && total > BigInt(MAX_WANTED_BYTES)) throw new NarborError("ERR_INVALID", `Cannot read blocks: the blobs have ${total} bytes, at most ${MAX_WANTED_BYTES} may go together`);
}

export function blockToProto({ codec, bytes, size, parts }: BlobBlock): MessageInitShape<typeof ReadBlocksResponseSchema> {
  return {
    compression: codec === "zstd" ? BlockCompression.ZSTD : BlockCompression.NONE,
    size,
    parts: parts.map(({ blobOffset, ...part }) => ({ ...part, blobOffset: BigInt(blobOffset) })),
    data: bytes,
  };
}

/** @throws NarborError ERR_STORE when it is no block with pieces of those blobs */
export function blockFromProto({ compression, size, parts, data }: ReadBlocksResponse, blobs: readonly WantedBlob[]): BlobBlock {
  if (size > MAX_BLOCK_BYTES) throw new NarborError("ERR_STORE", `Cannot read a block: it says that it has ${size} bytes, ${MAX_BLOCK_BYTES} at most may be in one`);
  return { codec: codecOf(compression), bytes: data, size, parts: parts.map((part) => partFromProto(part, size, blobs)) };
}

function codecOf(compression: BlockCompression): BlobBlock["codec"] {
  if (compression === BlockCompression.NONE) return "stored";
  if (compression === BlockCompression.ZSTD) return "zstd";
  throw new NarborError("ERR_STORE", `Cannot read a block: compression ${compression} is not known`);
}

function partFromProto({ blob, blobOffset, offset, length }: BlockPartMessage, size: number, blobs: readonly WantedBlob[]): BlockPart {
  if (blob >= blobs.length || offset + length > size || blobOffset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new NarborError("ERR_STORE", `Cannot read a block: it says that bytes ${offset} to ${offset + length} of ${size} belong to blob ${blob} of ${blobs.length}`);
  }
  return { blob, blobOffset: Number(blobOffset), offset, length };
}

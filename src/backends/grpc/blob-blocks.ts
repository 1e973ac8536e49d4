/** Blobs as a Narbor server stores them: compressed, and many in a block. */
import { copyBytes } from "../../bytes/collect.ts";
import type { BlobBlock, WantedBlob } from "../../castore/blob-block.ts";
import type { BlobRef } from "../../castore/blob-service.ts";
import { blobRefKey, toSmallBlob } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { LentMemory } from "../../bytes/lent-memory.ts";
import { decompressZstd } from "../../compression/zstd.ts";
import { isNarborError, NarborError } from "../../errors.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { blockFromProto, wantedToProto } from "../../store/blob-block-proto.ts";
import type { GrpcCore } from "./grpc-core.ts";
import type { RpcOptions } from "./rpc-channel.ts";
import { checkBlob, notStored } from "./verified-blob.ts";

const { readBlocks } = StoreService.method;

/** Everyone has it. */
const EMPTY = toSmallBlob(new Uint8Array(0));

interface Piece {
  readonly blob: number;
  readonly blobOffset: number;
  readonly bytes: Uint8Array;
}

/**
 * Small blobs, verified, or what is wrong with them; in the order asked, as often as asked. They are asked for again when the server cannot be reached.
 *
 * @param blobs `MAX_WANTED_BLOBS` of `MAX_WANTED_BYTES` at most
 * @throws NarborError ERR_NOT_FOUND or ERR_DATA_LOSS when the server cannot give one of them
 */
export async function readInBlocks(core: GrpcCore, blobs: readonly BlobRef[], options?: CallOptions): Promise<readonly (Uint8Array | NarborError)[]> {
  const distinct = [...new Map(blobs.map((blob) => [blobRefKey(blob), blob])).values()];
  const wanted = distinct.filter((blob) => blobRefKey(blob) !== blobRefKey(EMPTY));
  const contents = wanted.length === 0 ? [] : await core.channel.retrying(options, () => readContents(core, wanted, options));
  const byKey = new Map(wanted.map((blob, index) => [blobRefKey(blob), contents[index]]));
  const results = new Map(distinct.map((blob) => [blobRefKey(blob), checkBlob(blob, byKey.get(blobRefKey(blob)) ?? EMPTY.bytes, core.name)]));
  return blobs.map((blob) => results.get(blobRefKey(blob)) ?? notStored(blob, core.name));
}

/** What the server sends for each, not verified. */
async function readContents(core: GrpcCore, blobs: readonly BlobRef[], options: CallOptions | undefined): Promise<readonly (Uint8Array | undefined)[]> {
  const contents: (Uint8Array | undefined)[] = blobs.map(() => undefined);
  let left = blobs.reduce((sum, { size }) => sum + size, 0);
  for await (const { blob, blobOffset, bytes } of readPieces(core, blobs, { ...options, isTriedOnce: true })) {
    const { size } = blobs[blob] as BlobRef;
    left -= bytes.length;
    if (bytes.length === 0 || left < 0 || blobOffset + bytes.length > size) throw notAsItSays(core);
    if (bytes.length === size) contents[blob] = bytes;
    else (contents[blob] ??= new Uint8Array(size)).set(bytes, blobOffset);
  }
  return contents;
}

/** A blob's bytes, not verified, or undefined when the server has no such blob. */
export async function openInBlocks(core: GrpcCore, digest: B3Digest, size: number | undefined, options?: CallOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
  const pieces = readPieces(core, [{ digest, size }], options);
  try {
    return inOrder(core, await pieces.next(), pieces);
  } catch (error) {
    if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
    throw error;
  }
}

async function* inOrder(core: GrpcCore, first: IteratorResult<Piece, void>, rest: AsyncGenerator<Piece, void, undefined>): AsyncGenerator<Uint8Array, void, undefined> {
  let position = 0;
  let isEmpty = false;
  try {
    for (let next = first; next.done !== true; next = await rest.next()) {
      const { blobOffset, bytes } = next.value;
      if (blobOffset !== position || isEmpty) throw notAsItSays(core);
      // Only an empty blob has an empty piece, and no other.
      isEmpty = bytes.length === 0;
      position += bytes.length;
      yield bytes;
    }
  } finally {
    await rest.return();
  }
}

async function* readPieces(core: GrpcCore, blobs: readonly WantedBlob[], options: RpcOptions | undefined): AsyncGenerator<Piece, void, undefined> {
  for await (const message of core.channel.serverStream(readBlocks, wantedToProto(blobs), options)) {
    const block = blockFromProto(message, blobs);
    const content = await contentOf(block, core);
    if (content.length !== block.size || block.parts.length === 0) throw notAsItSays(core);
    // What is kept of a block must not keep the rest of it, unless that is little.
    const isMostlyWanted = 2 * block.parts.reduce((sum, { length }) => sum + length, 0) >= content.length;
    for (const { blob, blobOffset, offset, length } of block.parts) {
      const bytes = content.subarray(offset, offset + length);
      yield { blob, blobOffset, bytes: isMostlyWanted ? bytes : copyBytes(bytes) };
    }
  }
}

/** Off the main thread, which has the blobs to hash and whatever becomes of them. */
async function contentOf({ codec, bytes, size }: BlobBlock, core: GrpcCore): Promise<Uint8Array> {
  try {
    return codec === "stored" ? bytes : (await decompressZstd(LentMemory.copyOf(bytes), size)).bytes;
  } catch (error) {
    throw isNarborError(error) ? notAsItSays(core, error) : error;
  }
}

function notAsItSays(core: GrpcCore, cause?: unknown): NarborError {
  return new NarborError("ERR_STORE", `Cannot read blobs: ${core.name} sent a block that is not as it says`, { cause });
}

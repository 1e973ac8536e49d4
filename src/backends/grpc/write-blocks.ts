/** Blobs to a Narbor server in blocks that it stores as they come: compressed, many small ones in each, and of large ones only the pieces that it does not have. */
import { LentMemory } from "../../bytes/lent-memory.ts";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { BlobRef, SmallBlob } from "../../castore/blob-service.ts";
import { toSmallBlob } from "../../castore/blob-service.ts";
import type { BlockCompression, BlockContent, WrittenBlock } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { HashedContent } from "../../castore/hashed-content.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey } from "../../castore/digest.ts";
import { shrinkZstd } from "../../compression/zstd.ts";
import { batched } from "../../concurrency/batched.ts";
import { mapConcurrent } from "../../concurrency/map-concurrent.ts";
import { mapItems } from "../../concurrency/map-items.ts";
import { NarborError } from "../../errors.ts";
import { cutBlob, cutStream } from "../../hash/fastcdc.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { BlockBuilder, LARGE_CHUNK_BYTES } from "../../store/block-builder.ts";
import { writtenBlockToProto } from "../../store/written-block-proto.ts";
import { batchFindMissing } from "./blob-batches.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { writeBlocks } = StoreService.method;

/** Blocks of one call that are compressed ahead of what was sent. */
const BLOCKS_AHEAD = 4;
/** Pieces of a large blob that the server is asked for together, and how often ahead of what was sent. */
const GROUP_BYTES = 2 * 1024 * 1024;
const GROUP_COUNT = 64;
const GROUPS_AHEAD = 2;

/** A block before it is compressed. */
interface RawBlock extends Pick<WrittenBlock, "chunks" | "piece"> {
  /** Its bytes, to be given back, where they are lent, when they are sent. */
  readonly raw: Uint8Array | LentMemory;
}

/** A block that is to be sent, and where its bytes are. */
interface ReadyBlock extends WrittenBlock {
  readonly memory?: LentMemory;
}

/**
 * Store blobs together. It is done again when the server cannot be reached.
 *
 * @param missing those of them that are to be sent, by `digestKey`
 */
export async function writeSmallBlobs(
  core: GrpcCore,
  { blobs, missing }: { readonly blobs: readonly SmallBlob[]; readonly missing: ReadonlySet<string> },
  compression: BlockCompression,
  options?: CallOptions,
): Promise<void> {
  await core.channel.retrying(options, async () => {
    const blocks = blocksOf(blobs, missing);
    const known = await findKnown(core, blocks.flatMap(({ chunks, piece }) => (piece === undefined ? [] : chunks)), options);
    await send(core, mapConcurrent(blocks, BLOCKS_AHEAD, (block) => compressUnlessKnown(block, known, compression)), options);
  });
}

/** Store a blob as it comes. */
export async function writeBlob(core: GrpcCore, content: HashedContent, compression: BlockCompression, options?: CallOptions): Promise<B3Digest> {
  let blob: B3Digest | undefined;
  const cutPieces = mapItems(cutStream(content.bytes), (piece) => ({ size: piece.length, chunks: [toEntry(toSmallBlob(piece))], raw: LentMemory.copyOf(piece) }));
  const groups = mapConcurrent(batched(cutPieces, GROUP_BYTES, GROUP_COUNT), GROUPS_AHEAD, async (group) => {
    const blocks = group.map(({ chunks, raw }) => ({ chunks, raw }));
    const known = await findKnown(core, blocks.flatMap(({ chunks }) => chunks), options);
    return await Promise.all(blocks.map((block) => compressUnlessKnown(block, known, compression)));
  });
  async function* pieces(): AsyncGenerator<ReadyBlock, void, undefined> {
    let held: ReadyBlock | undefined;
    let isFirst = true;
    for await (const blocks of groups) {
      for (const block of blocks) {
        if (held !== undefined) {
          yield { ...held, piece: "more" };
          isFirst = false;
        }
        held = block;
      }
    }
    blob = content.digest();
    if (held === undefined) yield { chunks: [{ digest: blob, length: 0 }], content: { codec: "stored", bytes: new Uint8Array(0), size: 0 } };
    else if (!isFirst) yield { ...held, piece: blob };
    // One that was not cut is a blob like any other, and may be there.
    else if (held.content !== undefined) yield held;
  }
  await send(core, pieces(), options);
  if (blob === undefined) throw new NarborError("ERR_MISMATCH", `Cannot store a blob: ${core.name} answered before all of it was sent`);
  return blob;
}

async function send(core: GrpcCore, blocks: AsyncIterable<ReadyBlock>, options: CallOptions | undefined): Promise<void> {
  async function* messages(): AsyncGenerator<ReturnType<typeof writtenBlockToProto>, void, undefined> {
    for await (const { memory, ...block } of blocks) {
      yield writtenBlockToProto(block);
      // The next is asked for when this one has been encoded.
      memory?.release();
    }
  }
  await core.channel.clientStream(writeBlocks, messages(), options);
}

function blocksOf(blobs: readonly SmallBlob[], missing: ReadonlySet<string>): readonly RawBlock[] {
  const left = new Set(missing);
  const builder = new BlockBuilder();
  const blocks: RawBlock[] = [];
  const take = (): void => {
    const block = builder.take();
    if (block !== undefined) blocks.push(block);
  };
  for (const blob of blobs) {
    // Each once, should one come twice.
    const isWanted = left.delete(digestKey(blob.digest));
    if (isWanted && blob.size < LARGE_CHUNK_BYTES) {
      if (builder.isFullFor(blob.size, blob.framing)) take();
      builder.add(toEntry(blob), blob.bytes, blob.framing);
      continue;
    }
    if (blob.size > 0) builder.skip();
    if (isWanted) blocks.push(...cut(blob));
  }
  take();
  return blocks;
}

function cut(blob: SmallBlob): readonly RawBlock[] {
  const pieces = [...cutBlob(blob.bytes)];
  if (pieces.length === 1) return [{ raw: blob.bytes, chunks: [toEntry(blob)] }];
  return pieces.map((raw, index) => ({ raw, chunks: [toEntry(toSmallBlob(raw))], piece: index === pieces.length - 1 ? blob.digest : "more" }));
}

function toEntry({ digest, size }: BlobRef): ChunkEntry {
  return { digest, length: size };
}

/** Those that need not be sent, by `digestKey`. */
async function findKnown(core: GrpcCore, chunks: readonly ChunkEntry[], options: CallOptions | undefined): Promise<ReadonlySet<string>> {
  if (chunks.length === 0) return new Set();
  const missing = new Set((await batchFindMissing(core, chunks.map(({ digest }) => digest), options)).map(digestKey));
  return new Set(chunks.map(({ digest }) => digestKey(digest)).filter((key) => !missing.has(key)));
}

async function compressUnlessKnown({ raw, ...block }: RawBlock, known: ReadonlySet<string>, compression: BlockCompression): Promise<ReadyBlock> {
  const isKnown = block.chunks.every(({ digest }) => known.has(digestKey(digest)));
  if (isKnown && raw instanceof LentMemory) raw.release();
  return isKnown ? block : { ...block, ...(await compress(raw, compression)) };
}

async function compress(raw: Uint8Array | LentMemory, compression: BlockCompression): Promise<{ readonly content: BlockContent; readonly memory?: LentMemory }> {
  if (compression === "none" && raw instanceof Uint8Array) return { content: { codec: "stored", bytes: raw, size: raw.length } };
  const memory = raw instanceof LentMemory ? raw : LentMemory.copyOf(raw);
  const size = memory.bytes.length;
  if (compression !== "none") await shrinkZstd(memory, compression);
  return { content: { codec: memory.bytes.length < size ? "zstd" : "stored", bytes: memory.bytes, size }, memory };
}

/**
 * The Remote Execution API's ContentAddressableStorage and Capabilities over the same blobs: many small blobs in one call.
 * See https://github.com/bazelbuild/remote-apis
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { collectBytes } from "../bytes/collect.ts";
import { streamOf } from "../bytes/stream-of.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";
import type { BlobRef, SmallBlob } from "../castore/blob-service.ts";
import { blobRefKey, SMALL_BLOB_LIMIT, toSmallBlob } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { digestKey, formatDigest, toB3Digest } from "../castore/digest.ts";
import { compress } from "../compression/compress.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError, isNarborError } from "../errors.ts";
import { fromCasDigest, toCasDigest } from "../proto/cas-digest.ts";
import type { BatchReadBlobsResponse_ResponseSchema, BatchUpdateBlobsRequest_Request } from "../proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import {
  Capabilities,
  Compressor_Value,
  ContentAddressableStorage,
  type Digest,
  DigestFunction_Value,
  SymlinkAbsolutePathStrategy_Value,
} from "../proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { RPC_STATUS, toRpcFailure } from "../proto/rpc-status.ts";
import type { Store } from "../store/store.ts";
import { MAX_BATCH_BYTES } from "./cas-limits.ts";
import { decompressBlob } from "./compressed-blob.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import type { WriteGate } from "./write-gate.ts";

/** Blobs of one call that are compressed or decompressed at once. */
const CODECS_AT_ONCE = 4;
/** Blobs of one call that are looked at before others have their turn: there may be a hundred thousand that are empty or wrong. */
const BLOBS_PER_TURN = 1024;
/** A blob smaller than this is not compressed: a frame's head and a thread's turn cost more than they save. */
const COMPRESS_FROM_BYTES = 512;

export function capabilitiesService(): RpcService {
  return rpcService(Capabilities, {
    getCapabilities: async ({ instanceName }) => {
      checkInstanceName(instanceName);
      return {
        cacheCapabilities: {
          digestFunctions: [DigestFunction_Value.BLAKE3],
          actionCacheUpdateCapabilities: { updateEnabled: false },
          maxBatchTotalSizeBytes: BigInt(MAX_BATCH_BYTES),
          symlinkAbsolutePathStrategy: SymlinkAbsolutePathStrategy_Value.ALLOWED,
          supportedCompressors: [Compressor_Value.ZSTD],
          supportedBatchUpdateCompressors: [Compressor_Value.ZSTD],
        },
        lowApiVersion: { major: 2, minor: 0 },
        highApiVersion: { major: 2, minor: 3 },
      };
    },
  });
}

export function casService(store: Store, gate: WriteGate): RpcService {
  return rpcService(ContentAddressableStorage, {
    findMissingBlobs: async ({ instanceName, digestFunction, blobDigests }, options) => {
      checkCall(instanceName, digestFunction);
      const asked = new Map<string, Digest>();
      const digests = blobDigests.map((message) => {
        const { digest } = toBlobRef(message);
        asked.set(digestKey(digest), message);
        return digest;
      });
      const missing = await store.blobs.findMissing(digests, options);
      return { missingBlobDigests: missing.map((digest) => asked.get(digestKey(digest)) as Digest) };
    },
    batchUpdateBlobs: async ({ instanceName, digestFunction, requests }, options) => {
      gate.check();
      checkCall(instanceName, digestFunction);
      const updates: Update[] = [];
      for await (const request of inTurns(requests)) updates.push({ request, expected: toBlobRefOrError(request.digest) });
      checkBatch(updates.reduce((sum, update) => sum + bytesOf(update), 0));
      const checked: (SmallBlob | NarborError)[] = [];
      for await (const blob of mapConcurrent(inTurns(updates), CODECS_AT_ONCE, (update) => readUpdate(update, options))) checked.push(blob);
      await putAll(checked.filter((blob): blob is SmallBlob => !(blob instanceof Error)), store, options);
      return { responses: requests.map(({ digest }, index) => ({ ...(digest && { digest }), status: statusOf(checked[index]) })) };
    },
    batchReadBlobs: async ({ instanceName, digestFunction, digests, acceptableCompressors }, options) => {
      checkCall(instanceName, digestFunction);
      const blobs = digests.map(toBlobRef);
      const distinct = [...new Map(blobs.map((blob) => [blobRefKey(blob), blob])).values()];
      checkBatch(distinct.reduce((sum, { size }) => sum + size, 0));
      const zstd = acceptableCompressors.includes(Compressor_Value.ZSTD);
      const responses: MessageInitShape<typeof BatchReadBlobsResponse_ResponseSchema>[] = [];
      const answers = mapConcurrent(readAll(distinct, store, options), CODECS_AT_ONCE, async ({ blob, result }) => {
        const digest = toCasDigest(blob.digest, blob.size);
        if (result instanceof Error) return { digest, status: statusOf(result) };
        if (!zstd || result.length < COMPRESS_FROM_BYTES) return { digest, data: result, status: statusOf(undefined) };
        return { digest, data: await compressWhole(result, options), compressor: Compressor_Value.ZSTD, status: statusOf(undefined) };
      });
      for await (const answer of answers) responses.push(answer);
      return { responses };
    },
  });
}

/** @throws NarborError ERR_INVALID */
export function checkInstanceName(instanceName: string): void {
  if (instanceName !== "") throw new NarborError("ERR_INVALID", `There is no instance ${JSON.stringify(instanceName.slice(0, 80))}; the instance name is empty here`);
}

function checkCall(instanceName: string, digestFunction: DigestFunction_Value): void {
  checkInstanceName(instanceName);
  if (digestFunction !== DigestFunction_Value.BLAKE3 && digestFunction !== DigestFunction_Value.UNKNOWN) {
    throw new NarborError("ERR_INVALID", `Cannot use digest function ${digestFunction}: blobs are named by BLAKE3 (${DigestFunction_Value.BLAKE3}) here`);
  }
}

function checkBatch(bytes: number): void {
  if (bytes > MAX_BATCH_BYTES) throw new NarborError("ERR_INVALID", `Cannot take the batch: its blobs have ${bytes} bytes, at most ${MAX_BATCH_BYTES} may go together`);
}

function toBlobRef(message: Parameters<typeof fromCasDigest>[0]): BlobRef {
  const { bytes, size } = fromCasDigest(message);
  return { digest: toB3Digest(bytes), size };
}

function toBlobRefOrError(message: Parameters<typeof fromCasDigest>[0]): BlobRef | NarborError {
  try {
    return toBlobRef(message);
  } catch (error) {
    if (isNarborError(error)) return error;
    throw error;
  }
}

async function* inTurns<T>(items: readonly T[]): AsyncGenerator<T, void, undefined> {
  for (const [index, item] of items.entries()) {
    if (index % BLOBS_PER_TURN === BLOBS_PER_TURN - 1) await nextTurn();
    yield item;
  }
}

/** A blob that is to be stored, with what it is said to be, or what is wrong with that. */
interface Update {
  readonly request: BatchUpdateBlobsRequest_Request;
  readonly expected: BlobRef | NarborError;
}

/** What a blob counts in its batch: a size that is wrong is not one to count with, and its blob is not decompressed. */
function bytesOf({ request: { data, compressor }, expected }: Update): number {
  if (compressor === Compressor_Value.IDENTITY) return data.length;
  return expected instanceof Error ? 0 : expected.size;
}

/** The blob that was sent, or what is wrong with it. */
async function readUpdate({ request: { data, compressor }, expected }: Update, options: CallOptions): Promise<SmallBlob | NarborError> {
  if (expected instanceof Error) return expected;
  try {
    const blob = toSmallBlob(await decompressWhole(data, compressor, expected.size, options));
    if (blob.size !== expected.size) return new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(expected.digest)}: it came with ${blob.size} bytes, its digest says ${expected.size}`);
    if (!equalBytes(blob.digest, expected.digest)) return new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(expected.digest)}: what came is ${formatDigest(blob.digest)}`);
    return blob;
  } catch (error) {
    options.signal?.throwIfAborted();
    if (isNarborError(error)) return error;
    throw error;
  }
}

async function decompressWhole(data: Uint8Array, compressor: Compressor_Value, size: number, options: CallOptions): Promise<Uint8Array> {
  switch (compressor) {
    case Compressor_Value.IDENTITY:
      return data;
    case Compressor_Value.ZSTD:
      return await collectBytes(decompressBlob(streamOf(data), { maxOutputBytes: size, signal: options.signal }), size, "a blob");
    case Compressor_Value.DEFLATE:
    case Compressor_Value.BROTLI:
    default:
      throw new NarborError("ERR_COMPRESSION_UNSUPPORTED", `Cannot store a blob: compressor ${compressor} is not one of identity and zstd`);
  }
}

async function compressWhole(bytes: Uint8Array, options: CallOptions): Promise<Uint8Array> {
  return await collectBytes(compress(streamOf(bytes), "zstd", options), Number.MAX_SAFE_INTEGER, "a blob");
}

async function putAll(blobs: readonly SmallBlob[], store: Store, options: CallOptions): Promise<void> {
  const small = blobs.filter(({ size }) => size <= SMALL_BLOB_LIMIT);
  const large = blobs.filter(({ size }) => size > SMALL_BLOB_LIMIT);
  await Promise.all([store.blobs.putMany(small, options), ...large.map(({ bytes }) => store.blobs.put(streamOf(bytes), options))]);
}

interface ReadBlob {
  readonly blob: BlobRef;
  readonly result: Uint8Array | NarborError;
}

/** Every blob, or what is wrong with it; in one sweep as long as nothing is. */
async function* readAll(blobs: readonly BlobRef[], store: Store, options: CallOptions): AsyncGenerator<ReadBlob, void, undefined> {
  const small = blobs.filter(({ size }) => size <= SMALL_BLOB_LIMIT && size > 0);
  let position = 0;
  while (position < small.length) {
    try {
      for await (const result of store.blobs.readMany(small.slice(position), options)) yield { blob: small[position++] as BlobRef, result };
      // A store that leaves some out would be asked for them for ever.
      if (position !== small.length) throw new NarborError("ERR_STORE", `Cannot read blobs: the store gave ${position} of ${small.length}`);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!isNarborError(error, "ERR_NOT_FOUND", "ERR_DATA_LOSS")) throw error;
      yield { blob: small[position++] as BlobRef, result: error };
    }
  }
  for (const blob of blobs) {
    if (blob.size > SMALL_BLOB_LIMIT) yield { blob, result: await readLarge(blob, store, options) };
    else if (blob.size === 0) yield { blob, result: emptyBlob(blob) };
  }
}

async function readLarge({ digest, size }: BlobRef, store: Store, options: CallOptions): Promise<Uint8Array | NarborError> {
  // A blob of another size than is asked for is not that blob, and one byte more tells.
  const content = await store.blobs.openRead(digest, { ...options, start: 0, end: size + 1 });
  const bytes = content === undefined ? undefined : await collectBytes(content, size + 1, "a blob");
  if (bytes?.length !== size) return new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(digest)} of ${size} bytes is not stored`);
  return bytes;
}

/** The API has everyone hold the empty blob. */
function emptyBlob({ digest }: BlobRef): Uint8Array | NarborError {
  const empty = toSmallBlob(new Uint8Array(0));
  return equalBytes(digest, empty.digest) ? empty.bytes : new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(digest)} of 0 bytes is not stored`);
}

function statusOf(result: SmallBlob | NarborError | undefined): { readonly code: number; readonly message: string } {
  if (!(result instanceof Error)) return { code: RPC_STATUS.OK, message: "" };
  const { status, message } = toRpcFailure(result);
  return { code: status, message };
}

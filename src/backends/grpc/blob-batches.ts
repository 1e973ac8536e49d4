/** Many small blobs in one call, by the Remote Execution API's ContentAddressableStorage. */
import type { BlobRef, SmallBlob } from "../../castore/blob-service.ts";
import { blobRefKey } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, toB3Digest } from "../../castore/digest.ts";
import { NarborError, errorMessage } from "../../errors.ts";
import { fromCasDigest, toCasDigest } from "../../proto/cas-digest.ts";
import type { BatchReadBlobsResponse_Response, Digest } from "../../proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { Compressor_Value, ContentAddressableStorage, DigestFunction_Value } from "../../proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { RPC_STATUS, fromRpcStatus } from "../../proto/rpc-status.ts";
import type { GrpcCore } from "./grpc-core.ts";
import { checkBlob, notStored } from "./verified-blob.ts";

const { findMissingBlobs, batchUpdateBlobs, batchReadBlobs } = ContentAddressableStorage.method;
const digestFunction = DigestFunction_Value.BLAKE3;

/** Those that the server does not have. */
export async function batchFindMissing({ channel, name }: GrpcCore, digests: readonly B3Digest[], options?: CallOptions): Promise<readonly B3Digest[]> {
  // A castore digest comes without a size.
  const { missingBlobDigests } = await channel.unary(findMissingBlobs, { digestFunction, blobDigests: digests.map((digest) => toCasDigest(digest, 0)) }, options);
  return missingBlobDigests.map((digest) => answeredDigest(digest, name));
}

/** @throws NarborError ERR_STORE: it is not the caller's fault */
function answeredDigest(digest: Digest, name: string): B3Digest {
  try {
    return toB3Digest(fromCasDigest(digest).bytes);
  } catch (error) {
    throw new NarborError("ERR_STORE", `${name} answered FindMissingBlobs with what is no digest: ${errorMessage(error)}`, { cause: error });
  }
}

/** Store all of them. @throws NarborError as the first that was not stored */
export async function batchUpdate({ channel, name }: GrpcCore, blobs: readonly SmallBlob[], options?: CallOptions): Promise<void> {
  const requests = blobs.map(({ digest, size, bytes }) => ({ digest: toCasDigest(digest, size), data: bytes }));
  const { responses } = await channel.unary(batchUpdateBlobs, { digestFunction, requests }, options);
  const unanswered = new Set(blobs.map(({ digest }) => digestKey(digest)));
  for (const { digest, status } of responses) {
    if (status !== undefined && status.code !== RPC_STATUS.OK) throw new NarborError(fromRpcStatus(status.code, undefined), `${name}: ${status.message}`);
    unanswered.delete(digestKey(fromCasDigest(digest).bytes));
  }
  if (unanswered.size > 0) throw new NarborError("ERR_MISMATCH", `${name} says nothing of ${unanswered.size} of ${blobs.length} blobs that it was sent`);
}

/** Each of them, verified, or what is wrong with it; in the order asked, as often as asked. */
export async function batchRead({ channel, name }: GrpcCore, blobs: readonly BlobRef[], options?: CallOptions): Promise<readonly (Uint8Array | NarborError)[]> {
  const distinct = [...new Map(blobs.map((blob) => [blobRefKey(blob), blob])).values()];
  const { responses } = await channel.unary(batchReadBlobs, { digestFunction, digests: distinct.map(({ digest, size }) => toCasDigest(digest, size)) }, options);
  const answers = new Map(responses.map((response) => [blobRefKey(readDigest(response.digest)), response]));
  const results = new Map(distinct.map((blob) => [blobRefKey(blob), readAnswer(blob, answers.get(blobRefKey(blob)), name)]));
  return blobs.map((blob) => results.get(blobRefKey(blob)) ?? notStored(blob, name));
}

function readDigest(digest: Digest | undefined): BlobRef {
  const { bytes, size } = fromCasDigest(digest);
  return { digest: toB3Digest(bytes), size };
}

function readAnswer(blob: BlobRef, answer: BatchReadBlobsResponse_Response | undefined, name: string): Uint8Array | NarborError {
  if (answer === undefined) return new NarborError("ERR_MISMATCH", `${name} says nothing of a blob that it was asked for`);
  const { status, data, compressor } = answer;
  if (status !== undefined && status.code !== RPC_STATUS.OK) return new NarborError(fromRpcStatus(status.code, undefined), `${name}: ${status.message}`);
  if (compressor !== Compressor_Value.IDENTITY) return new NarborError("ERR_COMPRESSION_UNSUPPORTED", `${name} sent a blob compressed, which it was not asked to`);
  return checkBlob(blob, data, name);
}

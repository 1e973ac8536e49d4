/** Google's ByteStream over the same blobs, as the Remote Execution API uses it: blobs of any size, compressed or not, with uploads that can be resumed. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import { streamOf } from "../bytes/stream-of.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { formatDigest, toB3Digest } from "../castore/digest.ts";
import { compress } from "../compression/compress.ts";
import { abortable } from "../concurrency/abortable.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { NarborError } from "../errors.ts";
import { blake3, createBlake3 } from "../hash/blake3.ts";
import type { WriteRequest } from "../proto/gen/google/bytestream/bytestream_pb.ts";
import { ByteStream } from "../proto/gen/google/bytestream/bytestream_pb.ts";
import type { Store } from "../store/store.ts";
import type { ResourceName } from "./byte-stream-name.ts";
import { parseReadName, parseWriteName } from "./byte-stream-name.ts";
import { frames } from "../bytes/frames.ts";
import { decompressBlob } from "./compressed-blob.ts";
import { PendingUploads } from "./pending-uploads.ts";
import type { RpcContext } from "./rpc-call.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import type { WriteGate } from "./write-gate.ts";

/** In answer to a compressed upload of what is there already. */
const ALREADY_THERE = -1n;

const EMPTY = new Uint8Array(0);
const EMPTY_BLOB = blake3(EMPTY);

export function byteStreamService(store: Store, gate: WriteGate, pending: PendingUploads): RpcService {
  return rpcService(ByteStream, {
    read: async function* ({ resourceName, readOffset, readLimit }, { signal }) {
      const name = parseReadName(resourceName);
      for await (const data of frames(readResource(name, toOffset(readOffset), toOffset(readLimit), store, { signal }))) yield { data };
    },
    write: async (requests, context) => {
      gate.check();
      return { committedSize: await write(requests, store, pending, context) };
    },
    queryWriteStatus: async ({ resourceName }, { signal }) => {
      const name = parseWriteName(resourceName);
      const received = pending.find(resourceName)?.received;
      if (received !== undefined) return { committedSize: BigInt(received), complete: false };
      if (await isStored(name, store, { signal })) return { committedSize: BigInt(name.blob.size), complete: true };
      throw new NarborError("ERR_NOT_FOUND", `Nothing is known of the upload ${JSON.stringify(resourceName.slice(0, 200))}`);
    },
  });
}

async function write(requests: AsyncIterable<WriteRequest>, store: Store, pending: PendingUploads, { signal }: RpcContext): Promise<bigint> {
  let owner: ReturnType<PendingUploads["take"]> | undefined;
  let resourceName = "";
  using reading = linkSignal(signal);
  try {
    for await (const request of abortable(requests, reading.signal)) {
      if (owner === undefined) {
        resourceName = request.resourceName;
        const name = parseWriteName(resourceName);
        if (await isStored(name, store, { signal })) return name.compressor === undefined ? BigInt(name.blob.size) : ALREADY_THERE;
        owner = pending.take(resourceName, toOffset(request.writeOffset), (content) => putVerified(name, content, store));
        // What has come may show that it is wrong, and nothing more may come.
        owner.stored.catch((error: unknown) => reading.abort(error));
      } else if (request.resourceName !== "" && request.resourceName !== resourceName) {
        throw new NarborError("ERR_INVALID", `Cannot go on with the upload: its name has become ${JSON.stringify(request.resourceName.slice(0, 200))}`);
      }
      // The upload may outlive this call's message buffer.
      await untilAborted(owner.give(request.data, toOffset(request.writeOffset)), signal);
      if (request.finishWrite) {
        await untilAborted(owner.finish(), signal);
        return BigInt(owner.upload.received);
      }
    }
    if (owner === undefined) throw new NarborError("ERR_INVALID", "Cannot write: the stream has no message");
    return BigInt(owner.upload.received);
  } finally {
    owner?.leave();
  }
}

/** Store what comes, if it is the blob of that name; otherwise nothing is stored. */
async function putVerified({ blob, compressor }: ResourceName, content: AsyncIterable<Uint8Array>, store: Store): Promise<void> {
  const plain = compressor === undefined ? content : decompressBlob(content);
  await store.blobs.put(verified(plain, blob));
}

async function* verified(content: AsyncIterable<Uint8Array>, { digest, size }: BlobRef): AsyncGenerator<Uint8Array, void, undefined> {
  const hasher = createBlake3();
  let received = 0;
  try {
    for await (const bytes of content) {
      received += bytes.length;
      if (received > size) throw new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(digest)}: more than the ${size} bytes that its name says were sent`);
      hasher.update(bytes);
      yield bytes;
    }
    if (received !== size) throw new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(digest)}: ${received} bytes were sent, its name says ${size}`);
    const found = toB3Digest(hasher.digest());
    if (!equalBytes(found, digest)) throw new NarborError("ERR_MISMATCH", `Cannot store blob ${formatDigest(digest)}: what was sent is ${formatDigest(found)}`);
  } finally {
    hasher.discard();
  }
}

async function* readResource({ blob, compressor }: ResourceName, offset: number, limit: number, store: Store, options: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const { digest, size } = blob;
  if (offset > size) throw new NarborError("ERR_OUT_OF_RANGE", `Cannot read from byte ${offset}: blob ${formatDigest(digest)} has ${size}`);
  if (compressor !== undefined && limit !== 0) throw new NarborError("ERR_INVALID", "Cannot read a compressed blob with a read_limit");
  const end = limit === 0 ? size : Math.min(size, offset + limit);
  const content = size === 0 ? emptyBlob(digest) : await store.blobs.openRead(digest, { ...options, start: offset, end: end === size ? size + 1 : end });
  if (content === undefined) throw new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(digest)} is not stored`);
  const counted = exactly(content, end - offset, blob);
  yield* compressor === undefined ? counted : compress(counted, compressor, options);
}

/** The API has everyone hold the empty blob. */
function emptyBlob(digest: B3Digest): AsyncIterable<Uint8Array> | undefined {
  return equalBytes(digest, EMPTY_BLOB) ? streamOf(EMPTY) : undefined;
}

/** A blob of another size than its name says is not that blob. */
async function* exactly(content: AsyncIterable<Uint8Array>, length: number, { digest, size }: BlobRef): AsyncGenerator<Uint8Array, void, undefined> {
  let given = 0;
  for await (const bytes of content) {
    given += bytes.length;
    if (given > length) break;
    yield bytes;
  }
  if (given !== length) throw new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(digest)} is not stored with ${size} bytes`);
}

/** @throws NarborError ERR_MISMATCH when the blob is stored, and has another size than its name says */
async function isStored({ blob: { digest, size } }: ResourceName, store: Store, options: CallOptions): Promise<boolean> {
  const lastByte = await store.blobs.openRead(digest, { ...options, start: Math.max(0, size - 1), end: size + 1 });
  if (lastByte === undefined) return false;
  let found = 0;
  for await (const { length } of lastByte) found += length;
  if (found !== Math.min(size, 1)) throw new NarborError("ERR_MISMATCH", `Cannot write blob ${formatDigest(digest)}: it is stored, and has ${found === 0 ? "fewer" : "more"} than ${size} bytes`);
  return true;
}

function toOffset(value: bigint): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw new NarborError("ERR_OUT_OF_RANGE", `Cannot use an offset or limit of ${value}`);
  return Number(value);
}

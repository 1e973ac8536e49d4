/** castore.v1 BlobService. */
import { toB3Digest } from "../castore/digest.ts";
import { formatDigest } from "../castore/digest.ts";
import { NarborError } from "../errors.ts";
import { BlobService } from "../proto/gen/snix/castore/v1/rpc_blobstore_pb.ts";
import type { Store } from "../store/store.ts";
import { frames } from "../bytes/frames.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import type { WriteGate } from "./write-gate.ts";

export function blobService(store: Store, gate: WriteGate): RpcService {
  return rpcService(
    BlobService,
    {
      stat: async ({ digest, sendChunks }, { signal }) => {
        const blob = toB3Digest(digest);
        const stat = await store.blobs.stat(blob, { signal });
        if (stat === undefined) throw new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(blob)} is not stored`);
        return { chunks: sendChunks ? stat.chunks.map((chunk) => ({ digest: chunk.digest, size: BigInt(chunk.size) })) : [] };
      },
      read: async function* ({ digest }, { signal }) {
        const blob = toB3Digest(digest);
        const content = await store.blobs.openRead(blob, { signal });
        if (content === undefined) throw new NarborError("ERR_NOT_FOUND", `Blob ${formatDigest(blob)} is not stored`);
        yield* frames(content);
      },
      put: async (chunks, { signal }) => {
        gate.check();
        return { digest: await store.blobs.put(chunks, { signal }) };
      },
    },
    ["tvix.castore.v1.BlobService"],
  );
}

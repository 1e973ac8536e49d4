/** castore.v1 DirectoryService. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { B3Digest } from "../castore/digest.ts";
import { formatDigest, toB3Digest } from "../castore/digest.ts";
import { readDirectory } from "../castore/directory-proto.ts";
import { NarborError, isNarborError } from "../errors.ts";
import { DirectorySchema } from "../proto/gen/snix/castore/v1/castore_pb.ts";
import type { GetDirectoryRequest } from "../proto/gen/snix/castore/v1/rpc_directory_pb.ts";
import { DirectoryService } from "../proto/gen/snix/castore/v1/rpc_directory_pb.ts";
import type { Store } from "../store/store.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import type { WriteGate } from "./write-gate.ts";

export function directoryService(store: Store, gate: WriteGate): RpcService {
  return rpcService(
    DirectoryService,
    {
      get: async function* (request, { signal }) {
        const digest = requestedDigest(request);
        if (request.recursive) {
          // A missing root is an empty stream.
          for await (const { bytes } of (await store.directories.getClosure(digest, { signal })) ?? []) yield bytes;
          return;
        }
        const bytes = await store.directories.get(digest, { signal });
        if (bytes === undefined) throw new NarborError("ERR_NOT_FOUND", `Directory ${formatDigest(digest)} is not stored`);
        yield bytes;
      },
      put: async (directories, { signal }) => {
        gate.check();
        return { rootDigest: await store.directories.putClosure(canonical(directories), { signal }) };
      },
    },
    ["tvix.castore.v1.DirectoryService"],
  );
}

function requestedDigest({ byWhat }: GetDirectoryRequest): B3Digest {
  if (byWhat.case === undefined) throw new NarborError("ERR_INVALID", "Cannot get a directory: the request has no digest");
  return toB3Digest(byWhat.value);
}

async function* canonical(messages: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const message of messages) yield toCanonical(message);
}

/**
 * The message a directory is named by. Nearly always it is what was sent; a sender may also have written fields in another order, or
 * fields that are not known here, which a protobuf reader must ignore.
 */
function toCanonical(message: Uint8Array): Uint8Array {
  try {
    for (const _entry of readDirectory(message));
    return message;
  } catch (error) {
    if (!isNarborError(error)) throw error;
    return rewrite(message) ?? message;
  }
}

/** Undefined for bytes that are no message at all, of which whoever checks it says more. */
function rewrite(message: Uint8Array): Uint8Array | undefined {
  try {
    return toBinary(DirectorySchema, fromBinary(DirectorySchema, message, { readUnknownFields: false }));
  } catch {
    return undefined;
  }
}

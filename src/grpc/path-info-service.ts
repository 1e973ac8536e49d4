/** store.v1 PathInfoService. */
import { toBinary } from "@bufbuild/protobuf";
import { decodeRootNode } from "../castore/directory-proto.ts";
import { NarborError } from "../errors.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import { EntrySchema } from "../proto/gen/snix/castore/v1/castore_pb.ts";
import type { GetPathInfoRequest } from "../proto/gen/snix/store/v1/rpc_pathinfo_pb.ts";
import { PathInfoService } from "../proto/gen/snix/store/v1/rpc_pathinfo_pb.ts";
import { knownNar } from "../render/known-nar.ts";
import { checkMergedPathInfo, checkPathInfoCounts } from "../store/path-info.ts";
import { pathInfoFromProto, pathInfoToProto } from "../store/path-info-proto.ts";
import type { Store } from "../store/store.ts";
import { checkStorePathDigest } from "./store-path-digest.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import type { WriteGate } from "./write-gate.ts";

export function pathInfoService(store: Store, gate: WriteGate): RpcService {
  return rpcService(
    PathInfoService,
    {
      get: async (request, { signal }) => {
        const digest = requestedDigest(request);
        const pathInfo = await store.pathInfos.get(digest, { signal });
        if (pathInfo === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no store path ${encodeNix32(digest)} here`);
        return pathInfoToProto(pathInfo);
      },
      put: async (message, { signal }) => {
        gate.check();
        checkPathInfoCounts(Math.max(message.references.length, message.narinfo?.referenceNames.length ?? 0), message.narinfo?.signatures.length ?? 0);
        const pathInfo = pathInfoFromProto(message);
        checkMergedPathInfo(await store.pathInfos.get(pathInfo.storePath.digest, { signal }), pathInfo);
        return pathInfoToProto(await store.pathInfos.put(pathInfo, { signal }));
      },
      calculateNAR: async (entry, { signal }) => {
        if (entry.entry.case === undefined) throw new NarborError("ERR_INVALID", "Cannot calculate a NAR: the request has no entry");
        const { narSize, narSha256 } = await knownNar(decodeRootNode(toBinary(EntrySchema, entry)), store, { signal });
        return { narSize: BigInt(narSize), narSha256 };
      },
      list: async function* (_request, { signal }) {
        for await (const pathInfo of store.pathInfos.list({ signal })) yield pathInfoToProto(pathInfo);
      },
    },
    ["tvix.store.v1.PathInfoService"],
  );
}

function requestedDigest({ byWhat }: GetPathInfoRequest): Uint8Array {
  if (byWhat.case === undefined) throw new NarborError("ERR_INVALID", "Cannot get a path info: the request has no output hash");
  return checkStorePathDigest(byWhat.value);
}

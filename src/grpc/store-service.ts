/** narbor.store.v1 StoreService: what one Narbor asks another beyond the castore and store protocols. */
import type { CallOptions } from "../castore/call-options.ts";
import { mapItems } from "../concurrency/map-items.ts";
import { NarborError } from "../errors.ts";
import type { GetNarRequest } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { DirectorySize, StoreService } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { blockToProto, wantedFromProto } from "../store/blob-block-proto.ts";
import {
  documentFromProto,
  documentToProto,
  narFileFromProto,
  narFileToProto,
  narFromProto,
  narToProto,
  rootFromProto,
  sha256FromProto,
} from "../store/nar-record-proto.ts";
import { checkClaimedNar } from "../render/known-nar.ts";
import type { NarFileRecord, NarRecord } from "../store/nar-index.ts";
import type { Store } from "../store/store.ts";
import { writtenBlockFromProto } from "../store/written-block-proto.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";
import { checkStorePathDigest } from "./store-path-digest.ts";
import type { WriteGate } from "./write-gate.ts";

/** @param version of the program */
export function storeService(store: Store, gate: WriteGate, version: string): RpcService {
  return rpcService(StoreService, {
    getInfo: async (_request, options) => {
      const profile = await store.directorySizeProfile(options);
      const { blockWriter } = store.blobs;
      return {
        directorySize: profile === "doubled" ? DirectorySize.DOUBLED : DirectorySize.DOCUMENTED,
        version,
        readsBlocks: store.blobs.readBlocks !== undefined,
        ...(blockWriter && { blockLevel: blockWriter.compression === "none" ? 0 : blockWriter.compression }),
      };
    },
    getNar: async (request, options) => {
      const { nar, file } = await findNar(request, store, options);
      if (nar === undefined) throw new NarborError("ERR_NOT_FOUND", "That NAR is not known here");
      return { nar: narToProto(nar), ...(file && { file: narFileToProto(file) }) };
    },
    putNar: async ({ nar, file }, options) => {
      gate.check();
      const record = narFromProto(nar);
      await checkClaimedNar(record, store, options);
      await store.nars.put(record, file && narFileFromProto(file), options);
      return {};
    },
    getDocument: async ({ name }, options) => {
      const document = await store.documents.get(name, options);
      if (document === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(name.slice(0, 200))} here`);
      return { document: documentToProto(document) };
    },
    putDocument: async ({ document }, options) => {
      gate.check();
      await store.documents.put(documentFromProto(document), options);
      return {};
    },
    listDocuments: async function* ({ prefix }, { signal }) {
      for await (const document of store.documents.list(prefix, { signal })) yield { document: documentToProto(document) };
    },
    deleteDocument: async ({ name }, options) => {
      gate.check();
      return { deleted: await store.documents.delete(name, options) };
    },
    getComputed: async ({ kind, digest }, options) => {
      const value = await store.computed.get({ kind, digest }, options);
      if (value === undefined) throw new NarborError("ERR_NOT_FOUND", "That was not computed here");
      return { value };
    },
    putComputed: async ({ kind, digest, value, seconds }, options) => {
      gate.check();
      await store.computed.put({ kind, digest }, value, seconds, options);
      return {};
    },
    getComputedStats: async (_request, options) => {
      const kinds = await store.computed.stats(options);
      return { kinds: kinds.map(({ entries, hits, misses, ...rest }) => ({ ...rest, entries: BigInt(entries), hits: BigInt(hits), misses: BigInt(misses) })) };
    },
    clearComputed: async (_request, options) => {
      gate.check();
      return { entries: BigInt(await store.computed.clear(options)) };
    },
    readBlocks: async function* (request, { signal }) {
      if (store.blobs.readBlocks === undefined) throw new NarborError("ERR_UNSUPPORTED", "This store has no blocks");
      for await (const block of store.blobs.readBlocks(wantedFromProto(request), { signal })) yield blockToProto(block);
    },
    writeBlocks: async (requests, { signal }) => {
      gate.check();
      if (store.blobs.blockWriter === undefined) throw new NarborError("ERR_UNSUPPORTED", "This store has no blocks");
      await store.blobs.blockWriter.write(mapItems(requests, writtenBlockFromProto), { signal });
      return {};
    },
    deletePathInfo: async ({ outputHash }, options) => {
      gate.check();
      return { deleted: await store.pathInfos.delete(checkStorePathDigest(outputHash), options) };
    },
  });
}

async function findNar({ byWhat }: GetNarRequest, store: Store, options: CallOptions): Promise<{ readonly nar: NarRecord | undefined; readonly file?: NarFileRecord }> {
  switch (byWhat.case) {
    case "narSha256":
      return { nar: await store.nars.byNarHash(sha256FromProto(byWhat.value, "nar_sha256"), options) };
    case "fileSha256": {
      const found = await store.nars.byFileHash(sha256FromProto(byWhat.value, "file_sha256"), options);
      return { nar: found, ...(found && { file: found }) };
    }
    case "root":
      return { nar: await store.nars.byRoot(rootFromProto(byWhat.value), options) };
    case undefined:
      throw new NarborError("ERR_INVALID", "Cannot look up a NAR: the request does not say by what");
  }
}

import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { DIGEST_LENGTH, toB3Digest } from "../../castore/digest.ts";
import { DigestTable } from "../../castore/digest-table.ts";
import { NarborError, isNarborError } from "../../errors.ts";
import { encodeNix32 } from "../../nix/nix32.ts";
import type { StorePath } from "../../nix/store-path.ts";
import { formatStorePath } from "../../nix/store-path.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { PathInfoService as PathInfoServiceDescriptor } from "../../proto/gen/snix/store/v1/rpc_pathinfo_pb.ts";
import type { PathInfo } from "../../store/path-info.ts";
import { pathInfoFromProto, pathInfoToProto } from "../../store/path-info-proto.ts";
import type { PathInfoService } from "../../store/path-info-service.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { get, put, list } = PathInfoServiceDescriptor.method;

export class GrpcPathInfoService implements PathInfoService {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async get(digest: Uint8Array, options?: CallOptions): Promise<PathInfo | undefined> {
    const { family } = await this.#core.peer(options);
    try {
      const answer = await this.#core.single(options, () => this.#core.channel.unary(get, { byWhat: { case: "byOutputHash", value: digest } }, { ...options, family }));
      return this.#checkPath(this.#read(answer), digest);
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async put(pathInfo: PathInfo, options?: CallOptions): Promise<PathInfo> {
    const { family } = await this.#core.peer(options);
    const answer = await this.#core.single(options, () => this.#core.channel.unary(put, pathInfoToProto(pathInfo), { ...options, family }));
    return this.#checkPath(this.#read(answer), pathInfo.storePath.digest);
  }

  async *list(options?: CallOptions): AsyncGenerator<PathInfo, void, undefined> {
    const { family } = await this.#core.peer(options);
    const came = new DigestTable();
    for await (const message of this.#core.channel.serverStream(list, {}, { ...options, family })) {
      this.#core.channel.check(options);
      const pathInfo = this.#read(message);
      // Nothing else ends a list that says the same for ever.
      if (!came.add(toKey(pathInfo.storePath)).isNew) throw new NarborError("ERR_STORE", `Cannot list the path infos of ${this.#core.name}: it sent ${formatStorePath(pathInfo.storePath)} twice`);
      yield pathInfo;
    }
  }

  async delete(digest: Uint8Array, options?: CallOptions): Promise<boolean> {
    const { isNarbor } = await this.#core.peer(options);
    if (!isNarbor) throw new NarborError("ERR_UNSUPPORTED", `Cannot delete a path: ${this.#core.name} is not a Narbor and has no way to`);
    return (await this.#core.channel.unary(StoreService.method.deletePathInfo, { outputHash: digest }, options)).deleted;
  }

  #read(message: Parameters<typeof pathInfoFromProto>[0]): PathInfo {
    try {
      return pathInfoFromProto(message);
    } catch (error) {
      if (!isNarborError(error)) throw error;
      throw this.#lost(error.message);
    }
  }

  #checkPath(pathInfo: PathInfo, digest: Uint8Array): PathInfo {
    if (equalBytes(pathInfo.storePath.digest, digest)) return pathInfo;
    throw this.#lost(`asked for ${encodeNix32(digest)}, it sent ${encodeNix32(pathInfo.storePath.digest)}`);
  }

  #lost(what: string): NarborError {
    return new NarborError("ERR_DATA_LOSS", `Cannot read a path info from ${this.#core.name}: ${what}`);
  }
}

/** A path's 20 bytes as a digest, of which a table takes a third of what a Set of strings does. */
function toKey({ digest }: StorePath): B3Digest {
  const bytes = new Uint8Array(DIGEST_LENGTH);
  bytes.set(digest);
  return toB3Digest(bytes);
}

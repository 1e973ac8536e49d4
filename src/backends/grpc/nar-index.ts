import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { encodeEntry } from "../../castore/directory-proto.ts";
import type { Node } from "../../castore/node.ts";
import { NarborError, isNarborError } from "../../errors.ts";
import type { GetNarResponse } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { GetNarRequestSchema, StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import type { ToSend } from "../../proto/rpc-codec.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../store/nar-index.ts";
import { narFileFromProto, narFileToProto, narFromProto, narToProto, rootToProto } from "../../store/nar-record-proto.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { getNar, putNar } = StoreService.method;

/** The NAR index of another Narbor. */
export class GrpcNarIndex implements NarIndex {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined> {
    const answer = await this.#get({ byWhat: { case: "narSha256", value: narSha256 } }, options);
    return answer && this.#check(narFromProto(answer.nar), (nar) => equalBytes(nar.narSha256, narSha256));
  }

  async byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined> {
    const answer = await this.#get({ byWhat: { case: "fileSha256", value: fileSha256 } }, options);
    if (answer?.file === undefined) return undefined;
    return this.#check({ ...narFromProto(answer.nar), ...narFileFromProto(answer.file) }, (found) => equalBytes(found.fileSha256, fileSha256));
  }

  async byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined> {
    const answer = await this.#get({ byWhat: { case: "root", value: rootToProto(root) } }, options);
    return answer && this.#check(narFromProto(answer.nar), (nar) => equalBytes(encodeEntry(nar.root), encodeEntry(root)));
  }

  async put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void> {
    this.#core.channel.check(options);
    await this.#core.channel.unary(putNar, { nar: narToProto(nar), ...(file && { file: narFileToProto(file) }) }, options);
  }

  async #get(request: ToSend<typeof GetNarRequestSchema>, options: CallOptions | undefined): Promise<GetNarResponse | undefined> {
    this.#core.channel.check(options);
    try {
      return await this.#core.single(options, () => this.#core.channel.unary(getNar, request, options));
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  #check<T>(found: T, isIt: (found: T) => boolean): T {
    if (isIt(found)) return found;
    throw new NarborError("ERR_DATA_LOSS", `Cannot read a NAR record from ${this.#core.name}: it sent another than was asked for`);
  }
}

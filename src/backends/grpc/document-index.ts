import type { CallOptions } from "../../castore/call-options.ts";
import { isNarborError } from "../../errors.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import type { DocumentIndex, DocumentRecord } from "../../store/document-index.ts";
import { documentFromProto, documentToProto } from "../../store/nar-record-proto.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { getDocument, putDocument } = StoreService.method;

/** The documents of another Narbor. */
export class GrpcDocumentIndex implements DocumentIndex {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined> {
    this.#core.channel.check(options);
    try {
      return documentFromProto((await this.#core.channel.unary(getDocument, { name }, options)).document);
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async put(document: DocumentRecord, options?: CallOptions): Promise<void> {
    this.#core.channel.check(options);
    await this.#core.channel.unary(putDocument, { document: documentToProto(document) }, options);
  }
}

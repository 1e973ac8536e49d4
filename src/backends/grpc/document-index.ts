import type { CallOptions } from "../../castore/call-options.ts";
import { NarborError, isNarborError } from "../../errors.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import type { DocumentIndex, DocumentRecord } from "../../store/document-index.ts";
import { documentFromProto, documentToProto } from "../../store/nar-record-proto.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { getDocument, putDocument, listDocuments, deleteDocument } = StoreService.method;

/** The documents of another Narbor. */
export class GrpcDocumentIndex implements DocumentIndex {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined> {
    this.#core.channel.check(options);
    try {
      const document = documentFromProto((await this.#core.channel.unary(getDocument, { name }, options)).document);
      if (document.name !== name) throw new NarborError("ERR_DATA_LOSS", `Cannot read ${JSON.stringify(name)} from ${this.#core.name}: it sent ${JSON.stringify(document.name)}`);
      return document;
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async put(document: DocumentRecord, options?: CallOptions): Promise<void> {
    this.#core.channel.check(options);
    await this.#core.channel.unary(putDocument, { document: documentToProto(document) }, options);
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<DocumentRecord, void, undefined> {
    this.#core.channel.check(options);
    const came = new Set<string>();
    for await (const { document } of this.#core.channel.serverStream(listDocuments, { prefix }, options)) {
      this.#core.channel.check(options);
      const record = documentFromProto(document);
      // Nothing else ends a list that says the same for ever.
      if (came.has(record.name)) throw new NarborError("ERR_STORE", `Cannot list the documents of ${this.#core.name}: it sent ${JSON.stringify(record.name)} twice`);
      came.add(record.name);
      yield record;
    }
  }

  async delete(name: string, options?: CallOptions): Promise<boolean> {
    this.#core.channel.check(options);
    return (await this.#core.channel.unary(deleteDocument, { name }, options)).deleted;
  }
}

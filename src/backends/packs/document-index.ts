import type { CallOptions } from "../../castore/call-options.ts";
import type { DocumentIndex, DocumentRecord } from "../../store/document-index.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

export class PacksDocumentIndex implements DocumentIndex {
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined> {
    this.#core.check(options);
    return this.#core.index.document(name);
  }

  async put(document: DocumentRecord, options?: CallOptions): Promise<void> {
    this.#core.check(options);
    const time = this.#core.index.nextDocumentTime(document.name);
    await this.#sink.settle([this.#core.writer.addRecord({ type: "document", time, document })]);
  }
}

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

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<DocumentRecord, void, undefined> {
    this.#core.check(options);
    // One at a time by key: no statement stays open while the reader is slow.
    const { index } = this.#core;
    // Nothing comes between a name and itself with a NUL behind it.
    for (let next = index.documentFrom(prefix, prefix); next !== undefined; next = index.documentFrom(`${next.name}\0`, prefix)) {
      yield next;
      this.#core.check(options);
    }
  }

  async delete(name: string, options?: CallOptions): Promise<boolean> {
    this.#core.check(options);
    if (this.#core.index.document(name) === undefined) return false;
    await this.#sink.settle([this.#core.writer.addRecord({ type: "documentDeleted", time: this.#core.index.nextDocumentTime(name), name })]);
    return true;
  }
}

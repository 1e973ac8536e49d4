import type { CallOptions } from "../../castore/call-options.ts";
import type { Node } from "../../castore/node.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../store/nar-index.ts";
import { equalNars } from "../../store/nar-index.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

export class PacksNarIndex implements NarIndex {
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined> {
    this.#core.check(options);
    return this.#core.index.nar(narSha256);
  }

  async byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined> {
    this.#core.check(options);
    return this.#core.index.narFile(fileSha256);
  }

  async byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined> {
    this.#core.check(options);
    return this.#core.index.narOfRoot(root);
  }

  async put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void> {
    this.#core.check(options);
    this.#sink.check();
    const groups: Group[] = [];
    const { index, writer } = this.#core;
    const known = index.nar(nar.narSha256);
    if (known === undefined || !equalNars(known, nar)) groups.push(writer.addRecord({ type: "nar", nar }));
    if (file !== undefined && !isKnownFile(index.narFile(file.fileSha256), nar, file)) groups.push(writer.addRecord({ type: "narFile", narSha256: nar.narSha256, file }));
    await this.#sink.settle(groups);
  }
}

function isKnownFile(known: (NarFileRecord & NarRecord) | undefined, nar: NarRecord, file: NarFileRecord): boolean {
  return known !== undefined && equalBytes(known.narSha256, nar.narSha256) && known.codec === file.codec && known.fileSize === file.fileSize;
}

/** Indexes of which it shows only at the first call where they are. */
import type { CallOptions } from "../../castore/call-options.ts";
import type { Node } from "../../castore/node.ts";
import type { ComputedCache, ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import type { DocumentIndex, DocumentRecord } from "../../store/document-index.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../store/nar-index.ts";

export class ChosenNarIndex implements NarIndex {
  readonly #choose: (options: CallOptions | undefined) => Promise<NarIndex>;

  constructor(choose: (options: CallOptions | undefined) => Promise<NarIndex>) {
    this.#choose = choose;
  }

  async byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined> {
    return await (await this.#choose(options)).byNarHash(narSha256, options);
  }

  async byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined> {
    return await (await this.#choose(options)).byFileHash(fileSha256, options);
  }

  async byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined> {
    return await (await this.#choose(options)).byRoot(root, options);
  }

  async put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void> {
    await (await this.#choose(options)).put(nar, file, options);
  }
}

export class ChosenComputedCache implements ComputedCache {
  readonly #choose: (options: CallOptions | undefined) => Promise<ComputedCache>;

  constructor(choose: (options: CallOptions | undefined) => Promise<ComputedCache>) {
    this.#choose = choose;
  }

  async get(key: ComputedKey, options?: CallOptions): Promise<Uint8Array | undefined> {
    return await (await this.#choose(options)).get(key, options);
  }

  async put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void> {
    await (await this.#choose(options)).put(key, value, seconds, options);
  }

  async stats(options?: CallOptions): Promise<readonly ComputedStats[]> {
    return await (await this.#choose(options)).stats(options);
  }

  async clear(options?: CallOptions): Promise<number> {
    return await (await this.#choose(options)).clear(options);
  }
}

export class ChosenDocumentIndex implements DocumentIndex {
  readonly #choose: (options: CallOptions | undefined) => Promise<DocumentIndex>;

  constructor(choose: (options: CallOptions | undefined) => Promise<DocumentIndex>) {
    this.#choose = choose;
  }

  async get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined> {
    return await (await this.#choose(options)).get(name, options);
  }

  async put(document: DocumentRecord, options?: CallOptions): Promise<void> {
    await (await this.#choose(options)).put(document, options);
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<DocumentRecord, void, undefined> {
    yield* (await this.#choose(options)).list(prefix, options);
  }

  async delete(name: string, options?: CallOptions): Promise<boolean> {
    return await (await this.#choose(options)).delete(name, options);
  }
}

import type { CallOptions } from "../../castore/call-options.ts";
import { NarborError } from "../../errors.ts";
import type { PathInfo } from "../../store/path-info.ts";
import { decodePathInfo, encodePathInfo } from "../../store/path-info-proto.ts";
import type { PathInfoService } from "../../store/path-info-service.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

export class PacksPathInfoService implements PathInfoService {
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async get(digest: Uint8Array, options?: CallOptions): Promise<PathInfo | undefined> {
    this.#core.check(options);
    const message = this.#core.index.pathInfo(digest);
    return message === undefined ? undefined : decodePathInfo(message);
  }

  async put(pathInfo: PathInfo, options?: CallOptions): Promise<PathInfo> {
    this.#core.check(options);
    const { digest } = pathInfo.storePath;
    const message = encodePathInfo(pathInfo);
    // What was stored for the path is merged when the index takes the record in, in one transaction.
    await this.#sink.settle([this.#core.writer.addRecord({ type: "pathInfo", time: this.#core.index.nextPathInfoTime(digest), message })]);
    const stored = this.#core.index.pathInfo(digest);
    if (stored === undefined) throw new NarborError("ERR_STORE", "The path info was deleted while it was put");
    return decodePathInfo(stored);
  }

  async *list(options?: CallOptions): AsyncGenerator<PathInfo, void, undefined> {
    let after: Uint8Array = new Uint8Array(0);
    for (;;) {
      this.#core.check(options);
      // One at a time by key: no statement stays open while the reader is slow.
      const next = this.#core.index.nextPathInfo(after);
      if (next === undefined) return;
      yield decodePathInfo(next.message);
      after = next.digest;
    }
  }

  async delete(digest: Uint8Array, options?: CallOptions): Promise<boolean> {
    this.#core.check(options);
    if (this.#core.index.pathInfo(digest) === undefined) return false;
    await this.#sink.settle([this.#core.writer.addRecord({ type: "pathInfoDeleted", time: this.#core.index.nextPathInfoTime(digest), digest })]);
    return true;
  }
}

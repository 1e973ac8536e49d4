import { asBuffer } from "../../bytes/as-buffer.ts";
import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { NarborError } from "../../errors.ts";
import type { PathInfo } from "../../store/path-info.ts";
import { decodePathInfo, encodePathInfo } from "../../store/path-info-message.ts";
import type { PathInfoService } from "../../store/path-info-service.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

/** Bytes of messages of path infos that were read, and are given again as long as the index has the same of the path. */
const KEPT_BYTES = 2 * 1024 * 1024;
/** A path info counts as so many more. */
const KEPT_OVERHEAD_BYTES = 512;

export class PacksPathInfoService implements PathInfoService {
  readonly #core: PacksCore;
  readonly #sink: WriteSink;
  /** By the digest. */
  readonly #kept = new Map<string, { readonly message: Uint8Array; readonly pathInfo: PathInfo }>();
  #keptBytes = 0;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async get(digest: Uint8Array, options?: CallOptions): Promise<PathInfo | undefined> {
    this.#core.check(options);
    const message = this.#core.index.pathInfo(digest);
    return message === undefined ? undefined : this.#decode(digest, message);
  }

  #decode(digest: Uint8Array, message: Uint8Array): PathInfo {
    const key = asBuffer(digest).toString("latin1");
    const kept = this.#kept.get(key);
    if (kept !== undefined && equalBytes(kept.message, message)) return kept.pathInfo;
    const pathInfo = decodePathInfo(message);
    this.#drop(key);
    this.#kept.set(key, { message, pathInfo });
    this.#keptBytes += message.length + KEPT_OVERHEAD_BYTES;
    for (const oldest of this.#kept.keys()) {
      if (this.#keptBytes <= KEPT_BYTES) break;
      this.#drop(oldest);
    }
    return pathInfo;
  }

  #drop(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#keptBytes -= kept.message.length + KEPT_OVERHEAD_BYTES;
    this.#kept.delete(key);
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

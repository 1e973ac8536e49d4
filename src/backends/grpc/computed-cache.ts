import type { CallOptions } from "../../castore/call-options.ts";
import { isNarborError } from "../../errors.ts";
import { StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import type { ComputedCache, ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import { checkComputed } from "../../store/computed-cache.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { getComputed, putComputed, getComputedStats, clearComputed } = StoreService.method;

/** What another Narbor, and whoever else uses it, has computed. */
export class GrpcComputedCache implements ComputedCache {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async get(key: ComputedKey, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#core.channel.check(options);
    checkComputed(key);
    try {
      return (await this.#core.single(options, () => this.#core.channel.unary(getComputed, key, options))).value;
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void> {
    this.#core.channel.check(options);
    checkComputed(key, value, seconds);
    await this.#core.single(options, () => this.#core.channel.unary(putComputed, { ...key, value, seconds }, options));
  }

  async stats(options?: CallOptions): Promise<readonly ComputedStats[]> {
    this.#core.channel.check(options);
    const { kinds } = await this.#core.channel.unary(getComputedStats, {}, options);
    return kinds.map(({ kind, entries, hits, misses, secondsSaved }) => ({ kind, entries: Number(entries), hits: Number(hits), misses: Number(misses), secondsSaved }));
  }

  async clear(options?: CallOptions): Promise<number> {
    this.#core.channel.check(options);
    return Number((await this.#core.channel.unary(clearComputed, {}, options)).entries);
  }
}

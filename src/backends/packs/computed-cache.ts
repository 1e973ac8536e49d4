import type { CallOptions } from "../../castore/call-options.ts";
import type { ComputedCache, ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import { checkComputed } from "../../store/computed-cache.ts";
import type { PacksCore } from "./packs-core.ts";

/** In the index alone: what is lost with it can be computed again. */
export class PacksComputedCache implements ComputedCache {
  readonly #core: PacksCore;

  constructor(core: PacksCore) {
    this.#core = core;
  }

  async get(key: ComputedKey, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#core.check(options);
    checkComputed(key);
    return this.#core.index.computed(key);
  }

  async put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void> {
    this.#core.check(options);
    checkComputed(key, value, seconds);
    this.#core.index.putComputed(key, value, seconds);
  }

  async stats(options?: CallOptions): Promise<readonly ComputedStats[]> {
    this.#core.check(options);
    return this.#core.index.computedStats();
  }

  async clear(options?: CallOptions): Promise<number> {
    this.#core.check(options);
    return this.#core.index.clearComputed();
  }
}

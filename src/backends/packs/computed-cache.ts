import type { CallOptions } from "../../castore/call-options.ts";
import type { ComputedCache, ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import { checkComputed } from "../../store/computed-cache.ts";
import { isNarborError } from "../../errors.ts";
import type { ComputedValue } from "./index-database.ts";
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
    const found = this.#core.index.computed(key);
    if (this.#core.indexThread.isIdle) this.#core.index.countComputed(key, found);
    else void this.#countLater(key, found);
    return found?.value;
  }

  async put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void> {
    checkComputed(key, value, seconds);
    await this.#ready(options);
    this.#core.index.putComputed(key, value, seconds);
  }

  async stats(options?: CallOptions): Promise<readonly ComputedStats[]> {
    this.#core.check(options);
    return this.#core.index.computedStats();
  }

  async clear(options?: CallOptions): Promise<number> {
    await this.#ready(options);
    return this.#core.index.clearComputed();
  }

  /** Whoever has asked need not wait for that, nor hear of it when it fails. */
  async #countLater(key: ComputedKey, found: ComputedValue | undefined): Promise<void> {
    try {
      await this.#ready(undefined);
      this.#core.index.countComputed(key, found);
    } catch (error) {
      if (!isNarborError(error)) throw error;
    }
  }

  /** To be awaited before something is written. */
  async #ready(options: CallOptions | undefined): Promise<void> {
    this.#core.check(options);
    await this.#core.indexThread.untilIdle();
    this.#core.check(options);
  }
}

import { encodeEntry } from "../castore/directory-proto.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";

export interface PlanCacheOptions {
  /** Bytes of trees that are kept. @default 33554432 (32 MiB) */
  readonly maxBytes?: number;
  /** Whether all of a tree is there is looked up again after so long. @default 60000 */
  readonly maxAgeMilliseconds?: number;
}

interface Kept<Plan> {
  readonly plan: Promise<Plan>;
  /** 0 until it is planned. */
  bytes: number;
  plannedAt: number;
}

const DEFAULT_MAX_BYTES = 32 * 1024 * 1024;
const DEFAULT_MAX_AGE_MILLISECONDS = 60_000;

/** Plans by the root of a tree: each made once for all who ask for it at the same time, and kept for a while. */
export class PlanCache<Plan> {
  readonly #maxBytes: number;
  readonly #maxAge: number;
  /** The last one is the one that was asked for last. */
  readonly #kept = new Map<string, Kept<Plan>>();
  #bytes = 0;

  constructor(options: PlanCacheOptions = {}) {
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#maxAge = options.maxAgeMilliseconds ?? DEFAULT_MAX_AGE_MILLISECONDS;
  }

  /**
   * The plan that is known, or is being made, or is made now. A caller's signal ends its waiting, and not the planning, which others may wait for.
   *
   * @param make the plan, and about how much memory it takes, in bytes, at least 1
   */
  async plan(root: Node, make: () => Promise<{ readonly plan: Plan; readonly bytes: number }>, options?: CallOptions): Promise<Plan> {
    options?.signal?.throwIfAborted();
    const key = rootKey(root);
    const known = this.#kept.get(key);
    if (known !== undefined && (known.bytes === 0 || performance.now() - known.plannedAt < this.#maxAge)) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return await waitFor(known.plan, options);
    }
    this.#drop(key);
    const made = make();
    const kept: Kept<Plan> = { plan: made.then(({ plan }) => plan), bytes: 0, plannedAt: 0 };
    this.#kept.set(key, kept);
    made.then(
      ({ bytes }) => this.#keep(key, kept, bytes),
      () => this.#drop(key, kept),
    );
    return await waitFor(kept.plan, options);
  }

  /** Make it anew the next time. */
  forget(root: Node): void {
    this.#drop(rootKey(root));
  }

  #keep(key: string, kept: Kept<Plan>, bytes: number): void {
    // Forgotten meanwhile, or planned anew.
    if (this.#kept.get(key) !== kept) return;
    kept.bytes = bytes;
    kept.plannedAt = performance.now();
    this.#bytes += bytes;
    for (const [other, { bytes: size }] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) break;
      if (size > 0) this.#drop(other);
    }
  }

  /** @param kept only if it is this one */
  #drop(key: string, kept = this.#kept.get(key)): void {
    if (kept === undefined || this.#kept.get(key) !== kept) return;
    this.#bytes -= kept.bytes;
    this.#kept.delete(key);
  }
}

function rootKey(root: Node): string {
  return Buffer.from(encodeEntry(root)).toString("latin1");
}

async function waitFor<T>(promise: Promise<T>, options: CallOptions | undefined): Promise<T> {
  return await (options?.signal === undefined ? promise : untilAborted(promise, options.signal));
}

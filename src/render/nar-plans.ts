/** NARs that are asked for again: by many clients at once, in ranges, or by a client that comes back. */
import type { CallOptions } from "../castore/call-options.ts";
import { encodeEntry } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import type { TreeServices } from "./render-nar.ts";
import { planTree } from "./render-nar.ts";
import type { RenderOptions, RenderPlan } from "./segments.ts";
import { renderArchive } from "./segments.ts";
import { loadTree, treeBytes } from "./tree.ts";

export interface NarPlansOptions {
  /** Bytes of trees that are kept. @default 33554432 (32 MiB) */
  readonly maxBytes?: number;
  /** Whether all of a tree is there is looked up again after so long. @default 60000 */
  readonly maxAgeMilliseconds?: number;
}

interface Kept {
  readonly plan: Promise<RenderPlan>;
  /** 0 until it is planned. */
  bytes: number;
  plannedAt: number;
}

const DEFAULT_MAX_BYTES = 32 * 1024 * 1024;
const DEFAULT_MAX_AGE_MILLISECONDS = 60_000;

/** Plans NARs, each once for all who ask for it at the same time, and keeps the plans of the last ones for a while. */
export class NarPlans {
  readonly #services: TreeServices;
  readonly #maxBytes: number;
  readonly #maxAge: number;
  /** The last one is the one that was asked for last. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  constructor(services: TreeServices, options: NarPlansOptions = {}) {
    this.#services = services;
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#maxAge = options.maxAgeMilliseconds ?? DEFAULT_MAX_AGE_MILLISECONDS;
  }

  /** As `planNar`. A caller's signal ends its waiting, and not the planning, which others may wait for. */
  async plan(root: Node, options?: CallOptions): Promise<RenderPlan> {
    options?.signal?.throwIfAborted();
    const key = keyOf(root);
    const known = this.#kept.get(key);
    if (known !== undefined && (known.bytes === 0 || performance.now() - known.plannedAt < this.#maxAge)) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return await waitFor(known.plan, options);
    }
    this.#forget(key);
    const planned = this.#make(root);
    const kept: Kept = { plan: planned.then(({ plan }) => plan), bytes: 0, plannedAt: 0 };
    this.#kept.set(key, kept);
    planned.then(
      ({ bytes }) => this.#keep(key, kept, bytes),
      () => this.#forget(key, kept),
    );
    return await waitFor(kept.plan, options);
  }

  /** As `renderArchive`; a NAR that cannot be rendered is planned anew the next time. */
  async *render(root: Node, plan: RenderPlan, options?: RenderOptions): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* renderArchive(plan, this.#services, options);
    } catch (error) {
      this.#forget(keyOf(root));
      throw error;
    }
  }

  async #make(root: Node): Promise<{ readonly plan: RenderPlan; readonly bytes: number }> {
    const tree = await loadTree(root, this.#services.directories);
    return { plan: await planTree(tree, this.#services), bytes: treeBytes(tree) };
  }

  #keep(key: string, kept: Kept, bytes: number): void {
    // Forgotten meanwhile, or planned anew.
    if (this.#kept.get(key) !== kept) return;
    kept.bytes = bytes;
    kept.plannedAt = performance.now();
    this.#bytes += bytes;
    for (const [other, { bytes: size }] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) break;
      if (size > 0) this.#forget(other);
    }
  }

  /** @param kept only if it is this one */
  #forget(key: string, kept = this.#kept.get(key)): void {
    if (kept === undefined || this.#kept.get(key) !== kept) return;
    this.#bytes -= kept.bytes;
    this.#kept.delete(key);
  }
}

function keyOf(root: Node): string {
  return Buffer.from(encodeEntry(root)).toString("latin1");
}

async function waitFor<T>(promise: Promise<T>, options: CallOptions | undefined): Promise<T> {
  return await (options?.signal === undefined ? promise : untilAborted(promise, options.signal));
}

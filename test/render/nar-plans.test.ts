import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { Node } from "../../src/castore/node.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { NarPlans } from "../../src/render/nar-plans.ts";
import type { PlanCacheOptions } from "../../src/render/plan-cache.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

interface Watched {
  readonly plans: NarPlans;
  readonly roots: readonly Node[];
  readonly nars: readonly Uint8Array[];
  readonly asked: { closures: number; lookups: number };
  /** What it waits for before it looks anything up. */
  gate: Promise<void>;
  isLost: boolean;
}

/** Two trees of some files, in a store that counts what it is asked for. */
async function watchedPlans(options?: PlanCacheOptions): Promise<Watched> {
  const store = new MemoryStore();
  const nars = [1, 2].map((seed) => {
    const files = Array.from({ length: 20 }, (_, index) => [Buffer.from(String(index).padStart(2, "0")), { type: "file", bytes: sampleBytes(500, seed * 100 + index) }] as const);
    return referenceNar({ type: "directory", entries: files });
  });
  const roots: Node[] = [];
  for (const nar of nars) roots.push((await importNar(sourceOf(nar), { blobs: store.blobs, directories: store.directories })).root);
  const asked = { closures: 0, lookups: 0 };
  const watched: Watched = {
    roots,
    nars,
    asked,
    gate: Promise.resolve(),
    isLost: false,
    plans: new NarPlans(
      {
        computed: store.computed,
        directories: {
          getClosure: async (digest) => {
            asked.closures++;
            await watched.gate;
            return watched.isLost ? undefined : await store.directories.getClosure(digest);
          },
        },
        blobs: {
          findMissing: async (digests) => {
            asked.lookups++;
            return await store.blobs.findMissing(digests);
          },
          openRead: async (digest, readOptions) => await store.blobs.openRead(digest, readOptions),
          readMany: (blobs) => store.blobs.readMany(watched.isLost ? [{ digest: new Uint8Array(32) as never, size: 1 }] : blobs),
        },
      },
      options,
    ),
  };
  return watched;
}

async function expectNar({ plans, roots, nars }: Watched, index: number): Promise<void> {
  const root = roots[index] as Node;
  expectBytes(await collect(plans.render(root, await plans.plan(root))), nars[index] as Uint8Array);
}

describe("NarPlans", () => {
  test("plans a NAR once for all who ask at the same time, and for those who come later", async () => {
    const watched = await watchedPlans();
    await Promise.all(Array.from({ length: 10 }, () => expectNar(watched, 0)));
    await expectNar(watched, 0);
    expect(watched.asked).toEqual({ closures: 1, lookups: 1 });
    await expectNar(watched, 1);
    expect(watched.asked).toEqual({ closures: 2, lookups: 2 });
  });

  test("looks up again what it has known for too long", async () => {
    const watched = await watchedPlans({ maxAgeMilliseconds: 20 });
    await expectNar(watched, 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    await expectNar(watched, 0);
    expect(watched.asked.closures).toBe(2);
  });

  test("keeps no more than it may, and what was asked for last", async () => {
    const watched = await watchedPlans({ maxBytes: 2_000 });
    for (const index of [0, 1, 0, 0, 1]) await expectNar(watched, index);
    expect(watched.asked.closures).toBe(4);
    const none = await watchedPlans({ maxBytes: 10 });
    for (const index of [0, 0, 1]) await expectNar(none, index);
    expect(none.asked.closures).toBe(3);
  });

  test("goes on planning for others when one of those who wait leaves", async () => {
    const watched = await watchedPlans();
    let open!: () => void;
    watched.gate = new Promise((resolve) => (open = resolve));
    const controller = new AbortController();
    const reason = new Error("the client left");
    const [leaving, staying] = [watched.plans.plan(watched.roots[0] as Node, { signal: controller.signal }), expectNar(watched, 0)];
    controller.abort(reason);
    await expectReason(leaving, reason);
    open();
    await staying;
    expect(watched.asked.closures).toBe(1);
  });

  test("remembers no failure: neither a tree that is not there nor one that cannot be rendered", async () => {
    const watched = await watchedPlans();
    watched.isLost = true;
    await expectCode(expectNar(watched, 0), "ERR_NOT_FOUND");
    watched.isLost = false;
    await expectNar(watched, 0);
    watched.isLost = true;
    await expectCode(expectNar(watched, 0), "ERR_DATA_LOSS");
    watched.isLost = false;
    await expectNar(watched, 0);
    expect(watched.asked.closures).toBe(3);
  });
});

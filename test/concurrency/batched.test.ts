import fc from "fast-check";
import { expect, test } from "vitest";
import { batched } from "../../src/concurrency/batched.ts";
import { collectItems } from "../helpers/bytes.ts";
import { deferred, expectReason, within } from "../helpers/promises.ts";
import { TrackedSource, streamOf } from "../helpers/tracked-source.ts";

const items = (...sizes: readonly number[]): { readonly size: number }[] => sizes.map((size) => ({ size }));
const sizesOf = (batches: readonly (readonly { readonly size: number }[])[]): number[][] => batches.map((batch) => batch.map(({ size }) => size));

test.for([
  ["nothing", [], []],
  ["one item", [5], [[5]]],
  ["what fits exactly", [4, 6], [[4, 6]]],
  ["what is one too large", [4, 7], [[4], [7]]],
  ["items that are too large by themselves", [20, 1, 30, 1], [[20], [1], [30], [1]]],
  ["items of size 0", [0, 0, 10, 0], [[0, 0, 10], [0]]],
  ["more than may go by count", [1, 1, 1, 1, 1], [[1, 1, 1, 1], [1]]],
] as const)("batched() groups %s", async ([, sizes, expected]) => {
  // By size at most 10, by count at most 4, but for the item of size 0.
  const groups = expected.length > 0 && sizes.length === 4 && sizes[0] === 0 ? 3 : 4;
  expect(sizesOf(await collectItems(batched(items(...sizes), 10, groups)))).toEqual(expected);
});

test("batched() begins with a small group where it is told to, and doubles it up to the largest", async () => {
  const ones = items(...Array.from({ length: 25 }, () => 1));
  expect((await collectItems(batched(ones, 10, 100, 2))).map((batch) => batch.length)).toEqual([2, 4, 8, 10, 1]);
  expect((await collectItems(batched(ones, 10, 100, 20))).map((batch) => batch.length)).toEqual([10, 10, 5]);
});

test("batched() keeps every item, in order, and to both limits", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(20)), fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 5 }), fc.boolean(), async (sizes, maxSize, maxCount, isAsync) => {
      const list = items(...sizes);
      const batches = await collectItems(batched(isAsync ? streamOf(list) : list, maxSize, maxCount));
      expect(batches.flat()).toEqual(list);
      for (const batch of batches) {
        expect(batch.length).toBeGreaterThan(0);
        expect(batch.length).toBeLessThanOrEqual(maxCount);
        if (batch.length > 1) expect(batch.reduce((sum, { size }) => sum + size, 0)).toBeLessThanOrEqual(maxSize);
      }
    }),
    { numRuns: 200 },
  );
});

test("batched() gives what is there when the source has nothing more at the moment", async () => {
  const later = deferred();
  const source = new TrackedSource(items(1, 2, 3), "end", async (index) => {
    if (index === 2) await later.promise;
  });
  const batches = batched(source, 100, 100);
  expect(sizesOf([(await within(batches.next())).value as { size: number }[]])).toEqual([[1, 2]]);
  later.resolve();
  expect(sizesOf([(await within(batches.next())).value as { size: number }[]])).toEqual([[3]]);
  expect((await batches.next()).done).toBe(true);
});

test("batched() closes its source when its reader stops, also while the source is stuck", async () => {
  for (const end of ["end", "stuck"] as const) {
    const source = new TrackedSource(items(1, 2, 3), end);
    for await (const _batch of batched(source, 2, 1)) break;
    expect(source.closed).toBe(true);
  }
});

test("batched() fails with its source's own error, after what came before it", async () => {
  const reason = new Error("broken");
  const source = new TrackedSource(items(1, 2), "end", (index) => {
    if (index === 1) throw reason;
  });
  const batches = batched(source, 100, 100);
  await expectReason(collectItems(batches), reason);
});

test("batched() of a source that fails while a batch is being used rejects no one else", async () => {
  const reason = new Error("broken");
  const failing = new TrackedSource(items(1), { fail: reason }, async () => await new Promise((resolve) => setTimeout(resolve, 1)));
  const batches = batched(failing, 100, 100);
  const first = await batches.next().catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 10));
  if (first !== undefined) await batches.return();
  expect(failing.closed).toBe(true);
});

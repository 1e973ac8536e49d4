import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Semaphore } from "../../src/concurrency/semaphore.ts";
import { expectReason } from "../helpers/promises.ts";

/** Whether a promise has settled once everything at hand has run. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let pending = true;
  promise.then(
    () => (pending = false),
    () => (pending = false),
  );
  await new Promise((resolve) => setImmediate(resolve));
  return pending;
}

test("Semaphore.acquire() gives what is free at once, and waits for the rest", async () => {
  const semaphore = new Semaphore(10);
  const releaseSix = await semaphore.acquire(6);
  await semaphore.acquire(4);
  expect(semaphore.held).toBe(10);
  const waiting = semaphore.acquire(5);
  expect(await isPending(waiting)).toBe(true);
  releaseSix();
  await waiting;
  expect(semaphore.held).toBe(9);
});

test("Semaphore.acquire() is first come, first served, also where a later one would fit", async () => {
  const semaphore = new Semaphore(10);
  const release = await semaphore.acquire(8);
  const order: string[] = [];
  const large = semaphore.acquire(10).then((free) => (order.push("large"), free));
  const small = semaphore.acquire(1).then((free) => (order.push("small"), free));
  expect(await isPending(small)).toBe(true);
  release();
  (await large)();
  await small;
  expect(order).toEqual(["large", "small"]);
});

test("Semaphore.acquire() of more than the capacity takes all of it", async () => {
  const semaphore = new Semaphore(10);
  const release = await semaphore.acquire(1_000);
  expect(semaphore.held).toBe(10);
  release();
  expect(semaphore.held).toBe(0);
});

test("a release that is called again does nothing", async () => {
  const semaphore = new Semaphore(2);
  const [first] = [await semaphore.acquire(1), await semaphore.acquire(1)];
  first();
  first();
  expect(semaphore.held).toBe(1);
});

test("Semaphore.acquire() rejects with the signal's reason, before and while it waits", async () => {
  const semaphore = new Semaphore(1);
  const reason = new Error("not any more");
  await expectReason(semaphore.acquire(1, AbortSignal.abort(reason)), reason);
  expect(semaphore.held).toBe(0);
  const release = await semaphore.acquire(1);
  const controller = new AbortController();
  const waiting = semaphore.acquire(1, controller.signal);
  controller.abort(reason);
  await expectReason(waiting, reason);
  release();
  expect(semaphore.held).toBe(0);
});

test("Semaphore.acquire() lets the next one through when the one before it is aborted", async () => {
  const semaphore = new Semaphore(10);
  await semaphore.acquire(5);
  const controller = new AbortController();
  const large = semaphore.acquire(10, controller.signal);
  const small = semaphore.acquire(5);
  expect(await isPending(small)).toBe(true);
  const reason = new Error("not any more");
  controller.abort(reason);
  await expectReason(large, reason);
  await small;
  expect(semaphore.held).toBe(10);
});

test("a signal that fires after its weight was given takes nothing back", async () => {
  const semaphore = new Semaphore(2);
  const controller = new AbortController();
  const first = await semaphore.acquire(2);
  const waiting = semaphore.acquire(1, controller.signal);
  first();
  const release = await waiting;
  controller.abort();
  expect(semaphore.held).toBe(1);
  release();
  expect(semaphore.held).toBe(0);
});

test.for([0, -1, Number.NaN])("Semaphore of capacity %s is a RangeError", (capacity) => {
  expect(() => new Semaphore(capacity)).toThrow(RangeError);
});

test("Semaphore never gives more than its capacity, and in the end everything back", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.integer({ min: 0, max: 30 }), fc.boolean(), fc.nat({ max: 3 })), { maxLength: 30 }), async (requests) => {
      const semaphore = new Semaphore(20);
      let held = 0;
      await Promise.all(
        requests.map(async ([weight, aborts, turns]) => {
          const controller = new AbortController();
          const acquiring = semaphore.acquire(weight, controller.signal);
          if (aborts) setImmediate(() => controller.abort());
          const release = await acquiring.catch(() => undefined);
          if (release === undefined) return;
          held += Math.min(weight, 20);
          expect(held).toBeLessThanOrEqual(20);
          for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
          held -= Math.min(weight, 20);
          release();
        }),
      );
      expect(semaphore.held).toBe(0);
    }),
    { numRuns: 50 },
  );
});

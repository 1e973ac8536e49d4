import { describe, expect, test } from "vitest";
import { abortable } from "../../src/concurrency/abortable.ts";
import { linkSignal } from "../../src/concurrency/linked-signal.ts";
import { mapConcurrent } from "../../src/concurrency/map-concurrent.ts";
import { collectItems } from "../helpers/bytes.ts";
import { deferred, expectReason } from "../helpers/promises.ts";
import { streamOf, TrackedSource } from "../helpers/tracked-source.ts";

const REASON = { why: "not any more" };
const LIVE = new AbortController().signal;

describe("abortable", () => {
  test.for([[undefined], [LIVE]] as const)("abortable() gives every item of a stream or a list when nothing fires", async ([signal]) => {
    const source = new TrackedSource([1, 2, 3]);
    expect(await collectItems(abortable(source, signal))).toEqual([1, 2, 3]);
    expect(source).toMatchObject({ opened: 1, closed: true });
    expect(await collectItems(abortable([1, 2, 3], signal))).toEqual([1, 2, 3]);
    expect(await collectItems(abortable([], signal))).toEqual([]);
  });

  test("abortable() does not open its source when the signal has fired", async () => {
    const source = new TrackedSource([1]);
    await expectReason(collectItems(abortable(source, AbortSignal.abort(REASON))), REASON);
    expect(source.opened).toBe(0);
  });

  test("abortable() rejects at once while its source is stuck, and tells it to close", async () => {
    const controller = new AbortController();
    const source = new TrackedSource([1], "stuck");
    const items: number[] = [];
    const reading = (async () => {
      for await (const item of abortable(source, controller.signal)) items.push(item);
    })();
    void source.atEnd.then(() => controller.abort(REASON));
    await expectReason(reading, REASON);
    expect(items).toEqual([1]);
    expect(source.returned).toBe(true);
  });

  test("abortable() rejects when the signal fires between two items", async () => {
    const controller = new AbortController();
    const source = new TrackedSource([1, 2, 3]);
    const reading = (async () => {
      for await (const item of abortable(source, controller.signal)) if (item === 2) controller.abort(REASON);
    })();
    await expectReason(reading, REASON);
    expect(source).toMatchObject({ taken: 2, returned: true });
  });

  test.for([[undefined], [LIVE]] as const)("abortable() closes its source when it is stopped early, and rejects with its error when it fails", async ([signal]) => {
    const stopped = new TrackedSource([1, 2, 3]);
    for await (const item of abortable(stopped, signal)) if (item === 1) break;
    expect(stopped.returned).toBe(true);
    const failure = new Error("broken");
    await expectReason(collectItems(abortable(new TrackedSource([1], { fail: failure }), signal)), failure);
  });

  test("abortable() leaves no listener on a signal that lives on", async () => {
    const listeners: unknown[] = [];
    const signal = {
      aborted: false,
      throwIfAborted: () => undefined,
      addEventListener: (_type: string, listener: unknown) => listeners.push(listener),
      removeEventListener: (_type: string, listener: unknown) => listeners.splice(listeners.indexOf(listener), 1),
    } as unknown as AbortSignal;
    await collectItems(abortable([1, 2, 3], signal));
    for await (const _item of abortable([1, 2, 3], signal)) {
      void _item;
      break;
    }
    expect(listeners).toEqual([]);
  });

  test("abortable() gives what a source does that fails when it is told to close after an abort no one to hurt", async () => {
    const controller = new AbortController();
    const source: AsyncIterable<number> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => undefined),
        return: () => Promise.reject(new Error("cannot close")),
      }),
    };
    const reading = collectItems(abortable(source, controller.signal));
    setImmediate(() => controller.abort(REASON));
    await expectReason(reading, REASON);
  });
});

describe("linkSignal", () => {
  test("linkSignal() fires with its parent's reason", () => {
    const parent = new AbortController();
    using linked = linkSignal(parent.signal);
    expect(linked.signal.aborted).toBe(false);
    parent.abort(REASON);
    expect(linked.signal.reason).toBe(REASON);
  });

  test("linkSignal() of a parent that has fired has fired", () => {
    using linked = linkSignal(AbortSignal.abort(REASON));
    expect(linked.signal.reason).toBe(REASON);
  });

  test("linkSignal() fires on its own, keeps its first reason, and leaves its parent alone", () => {
    const parent = new AbortController();
    using linked = linkSignal(parent.signal);
    linked.abort(REASON);
    linked.abort("later");
    parent.abort("later still");
    expect(linked.signal.reason).toBe(REASON);
    using alone = linkSignal(undefined);
    alone.abort(REASON);
    expect(alone.signal.reason).toBe(REASON);
  });

  test("linkSignal() follows its parent no more once it is disposed", () => {
    const parent = new AbortController();
    const linked = linkSignal(parent.signal);
    linked[Symbol.dispose]();
    parent.abort(REASON);
    expect(linked.signal.aborted).toBe(false);
  });
});

describe("mapConcurrent", () => {
  test("mapConcurrent() gives results in the order of the items, whichever is done first", async () => {
    const delays = [30, 1, 20, 5, 10];
    const results = mapConcurrent(delays, 3, async (delay) => {
      await new Promise((resolve) => setTimeout(resolve, delay));
      return delay;
    });
    expect(await collectItems(results)).toEqual(delays);
  });

  test("mapConcurrent() has as many under way as it may, and no more", async () => {
    let underway = 0;
    let most = 0;
    const results = mapConcurrent(streamOf(Array.from({ length: 20 }, (_, index) => index)), 4, async (item) => {
      most = Math.max(most, ++underway);
      await new Promise((resolve) => setTimeout(resolve, 2));
      underway--;
      return item;
    });
    expect(await collectItems(results)).toHaveLength(20);
    expect(most).toBe(4);
  });

  test("mapConcurrent() rejects with a failure in its turn, starts nothing more and closes its source", async () => {
    const failure = new Error("the third");
    const started: number[] = [];
    const source = new TrackedSource([1, 2, 3, 4, 5, 6, 7, 8]);
    const results: number[] = [];
    const reading = (async () => {
      const mapped = mapConcurrent(source, 2, async (item) => {
        started.push(item);
        if (item === 3) throw failure;
        return item;
      });
      for await (const result of mapped) results.push(result);
    })();
    await expectReason(reading, failure);
    expect(results).toEqual([1, 2]);
    expect(started.length).toBeLessThanOrEqual(4);
    expect(source.closed).toBe(true);
  });

  test("mapConcurrent() waits for what is under way when it is stopped early, and leaves no rejection behind", async () => {
    const done = deferred();
    let finished = false;
    const mapped = mapConcurrent([1, 2, 3], 2, async (item) => {
      if (item === 2) {
        await done.promise;
        finished = true;
        throw new Error("no one is interested any more");
      }
      return item;
    });
    expect((await mapped.next()).value).toBe(1);
    setTimeout(done.resolve, 5);
    await mapped.return();
    expect(finished).toBe(true);
  });

  test("mapConcurrent() rejects with its source's error", async () => {
    const failure = new Error("broken");
    await expectReason(collectItems(mapConcurrent(new TrackedSource([1], { fail: failure }), 4, async (item) => item)), failure);
  });
});

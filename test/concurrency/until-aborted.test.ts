import { expect, test } from "vitest";
import { untilAborted } from "../../src/concurrency/until-aborted.ts";

const reason = new Error("enough");

test("untilAborted() gives what the promise gives", async () => {
  expect(await untilAborted(Promise.resolve(7), new AbortController().signal)).toBe(7);
  await expect(untilAborted(Promise.reject(reason), new AbortController().signal)).rejects.toBe(reason);
});

test("untilAborted() rejects with the signal's reason while the promise is stuck, and at once when it has fired", async () => {
  const controller = new AbortController();
  const waiting = untilAborted(new Promise(() => undefined), controller.signal);
  controller.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await expect(untilAborted(new Promise(() => undefined), controller.signal)).rejects.toBe(reason);
});

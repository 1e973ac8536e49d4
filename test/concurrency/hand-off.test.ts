import { expect, test } from "vitest";
import { HandOff } from "../../src/concurrency/hand-off.ts";
import { nextTurn } from "../../src/concurrency/next-turn.ts";
import { collectItems } from "../helpers/bytes.ts";
import { expectReason, within } from "../helpers/promises.ts";

/** Whether a promise has resolved by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  await nextTurn();
  return await Promise.race([promise.then(() => true), Promise.resolve().then(() => nextTurn()).then(() => false)]);
}

test("HandOff gives items in order, and give() waits until each was used", async () => {
  const handOff = new HandOff<number>();
  const iterator = handOff[Symbol.asyncIterator]();
  const given = handOff.give(1);
  expect(await isSettled(given)).toBe(false);
  expect(await iterator.next()).toEqual({ done: false, value: 1 });
  expect(await isSettled(given)).toBe(false);
  const next = iterator.next();
  await within(given);
  const second = handOff.give(2);
  expect(await next).toEqual({ done: false, value: 2 });
  handOff.end();
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
  await within(second);
});

test("HandOff lets one who gives go on where another has stopped, and then ends", async () => {
  const handOff = new HandOff<number>();
  const taken = collectItems(handOff);
  await handOff.give(1);
  await Promise.all([handOff.give(2), handOff.give(3)]);
  handOff.end();
  expect(await taken).toEqual([1, 2, 3]);
});

test("HandOff gives what was given before end(), and nothing after it", async () => {
  const handOff = new HandOff<number>();
  const given = handOff.give(1);
  handOff.end();
  await within(handOff.give(2));
  expect(await collectItems(handOff)).toEqual([1]);
  await within(given);
});

test("HandOff.fail() makes the taker fail, waiting or not, and lets go of whoever gives", async () => {
  const reason = new Error("given up");
  const waiting = new HandOff<number>();
  const taken = collectItems(waiting);
  await nextTurn();
  waiting.fail(reason);
  await expectReason(taken, reason);
  const queued = new HandOff<number>();
  const given = queued.give(1);
  queued.fail(reason);
  await expectReason(collectItems(queued), reason);
  await within(given);
  await within(queued.give(2));
});

test("HandOff lets go of whoever gives when the taker stops: those who wait, and those who come later", async () => {
  const handOff = new HandOff<number>();
  void handOff.give(1);
  const waiting = handOff.give(2);
  for await (const item of handOff) if (item === 1) break;
  await within(waiting);
  await within(handOff.give(3));
});

test("HandOff lets go of whoever gave the item in use when the taker stops at it or throws", async () => {
  const handOff = new HandOff<number>();
  const given = handOff.give(1);
  for await (const _item of handOff) break;
  await within(given, 200);
});

test("HandOff.end() and fail() after the end change nothing", async () => {
  const handOff = new HandOff<number>();
  handOff.end();
  handOff.fail(new Error("too late"));
  handOff.end();
  expect(await collectItems(handOff)).toEqual([]);
});

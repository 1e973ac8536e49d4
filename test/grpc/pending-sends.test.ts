import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PendingSends } from "../../src/grpc/pending-sends.ts";

const MIB = 1024 * 1024;

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

/** Adds sends, and says which of them were given up, by their number from 0. */
function watched(): { readonly add: (mebibytes: number) => () => void; readonly givenUp: readonly number[] } {
  const sends = new PendingSends();
  const givenUp: number[] = [];
  let count = 0;
  return {
    add: (mebibytes) => {
      const number = count++;
      return sends.add(mebibytes * MIB, (error) => {
        expect(error.code).toBe("ERR_TIMEOUT");
        givenUp.push(number);
      });
    },
    givenUp,
  };
}

test("those who have not taken anything for long are given up when there is too much, the oldest first, and no more than must be", () => {
  const { add, givenUp } = watched();
  for (let index = 0; index < 4; index++) add(30);
  vi.advanceTimersByTime(6000);
  add(8);
  expect(givenUp).toEqual([]);
  add(1);
  expect(givenUp).toEqual([0]);
  add(60);
  expect(givenUp).toEqual([0, 1, 2]);
});

test("no one is given up who began to wait a moment ago, nor when there is room", () => {
  const { add, givenUp } = watched();
  for (let index = 0; index < 20; index++) add(30);
  vi.advanceTimersByTime(4999);
  add(1);
  expect(givenUp).toEqual([]);
  // And is, though no one else comes.
  vi.advanceTimersByTime(1);
  expect(givenUp).toEqual(Array.from({ length: 16 }, (_, index) => index));
  const few = watched();
  few.add(100);
  vi.advanceTimersByTime(600_000);
  few.add(1);
  expect(few.givenUp).toEqual([]);
});

test("what was taken counts no more, and is not given up", () => {
  const { add, givenUp } = watched();
  const first = add(100);
  const second = add(20);
  vi.advanceTimersByTime(6000);
  first();
  first();
  add(100);
  expect(givenUp).toEqual([]);
  add(20);
  expect(givenUp).toEqual([1]);
  second();
  add(20);
  expect(givenUp).toEqual([1]);
});

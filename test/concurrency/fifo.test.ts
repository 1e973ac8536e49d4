import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Fifo } from "../../src/concurrency/fifo.ts";

test("a Fifo gives what an array would, in any order of coming and going", () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.integer(), { nil: undefined }), { maxLength: 200 }), (steps) => {
      const fifo = new Fifo<number>();
      const array: number[] = [];
      for (const step of steps) {
        if (step === undefined) {
          expect(fifo.peek()).toBe(array[0]);
          expect(fifo.shift()).toBe(array.shift());
        } else {
          fifo.push(step);
          array.push(step);
        }
        expect(fifo.length).toBe(array.length);
      }
    }),
  );
});

test("a Fifo of a million items takes no longer for each than one of a few", () => {
  const fifo = new Fifo<number>();
  for (let item = 0; item < 1_000_000; item++) fifo.push(item);
  let sum = 0;
  for (let item = fifo.shift(); item !== undefined; item = fifo.shift()) sum += item;
  expect(sum).toBe(499_999_500_000);
});

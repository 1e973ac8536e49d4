import { expect, test, vi } from "vitest";
import { collectGarbage, countGarbage } from "../../src/concurrency/thread-garbage.ts";

const MEBIBYTE = 1024 * 1024;

function makeGarbage(count: number): void {
  for (let made = 0; made < count; made++) countGarbage(Buffer.alloc(MEBIBYTE).length);
}

test("buffers that no one has any more are given back at once when they are many, and not for each", async () => {
  const before = process.memoryUsage().arrayBuffers;
  countGarbage(2 * MEBIBYTE - 1);
  collectGarbage();
  makeGarbage(30);
  expect(process.memoryUsage().arrayBuffers - before).toBeGreaterThan(15 * MEBIBYTE);
  collectGarbage();
  // V8 frees them in a thread of its own.
  await vi.waitFor(() => expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5 * MEBIBYTE));
});

import { expect, test } from "vitest";
import { LentMemory } from "../../src/bytes/lent-memory.ts";

const KIB = 1024;

test("LentMemory.lend() gives memory again that was given back, of the size that is asked for now", () => {
  const first = LentMemory.lend(300 * KIB);
  const { buffer } = first.bytes;
  first.narrow(0, 10);
  first.release();
  const again = LentMemory.lend(310 * KIB);
  expect(again.bytes.buffer).toBe(buffer);
  expect(again.bytes).toHaveLength(310 * KIB);
});

test("LentMemory.lend() gives memory that is larger rather than new one, but not more than about twice as large", () => {
  const first = LentMemory.lend(6000 * KIB);
  const { buffer } = first.bytes;
  first.release();
  expect(LentMemory.lend(2000 * KIB).bytes.buffer).not.toBe(buffer);
  const again = LentMemory.lend(4000 * KIB);
  expect(again.bytes.buffer).toBe(buffer);
  expect(again.bytes).toHaveLength(4000 * KIB);
});

test("LentMemory.release() gives back once, whoever calls it again", () => {
  const memory = LentMemory.lend(200 * KIB);
  memory.release();
  memory.release();
  expect(LentMemory.lend(200 * KIB).bytes.buffer).not.toBe(LentMemory.lend(200 * KIB).bytes.buffer);
});

test("LentMemory.release() keeps nothing of memory that a thread has still", () => {
  const memory = LentMemory.lend(400 * KIB);
  const { buffer } = memory.bytes;
  structuredClone(buffer, { transfer: [buffer] });
  memory.release();
  expect(LentMemory.lend(400 * KIB).bytes).toHaveLength(400 * KIB);
});

test("LentMemory keeps 16 MiB at most, and nothing small", () => {
  const many = Array.from({ length: 100 }, () => LentMemory.lend(512 * KIB));
  const buffers = new Set(many.map(({ bytes }) => bytes.buffer));
  for (const memory of many) memory.release();
  const kept = Array.from({ length: 100 }, () => LentMemory.lend(512 * KIB)).filter(({ bytes }) => buffers.has(bytes.buffer));
  expect(kept.length).toBeLessThanOrEqual(32);
  expect(kept.length).toBeGreaterThan(16);
  const small = LentMemory.lend(1000);
  small.release();
  expect(LentMemory.lend(1000).bytes.buffer).not.toBe(small.bytes.buffer);
});

test("LentMemory.restore() shows what a thread has sent back", () => {
  const memory = LentMemory.copyOf(Buffer.from("before"));
  const [sent] = structuredClone([memory.bytes.buffer], { transfer: [memory.bytes.buffer] }) as [ArrayBuffer];
  new Uint8Array(sent).set(Buffer.from("after!"));
  memory.restore(sent, 5);
  expect(Buffer.from(memory.bytes).toString()).toBe("after");
});

/** Many bombs at once: threads that hold too much memory are ended while others are given work. */
import { expect, test } from "vitest";
import { LentMemory } from "../../src/bytes/lent-memory.ts";
import { collectBytes } from "../../src/bytes/collect.ts";
import { decompress } from "../../src/compression/decompress.ts";
import { compressZstd } from "../../src/compression/zstd.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

test("decompress() refuses hundreds of bombs at once, and the process lives on", { timeout: 60_000 }, async () => {
  const bomb = await compressZstd(LentMemory.copyOf(new Uint8Array(30_000_000)), 3);
  const refusals = await Promise.allSettled(
    Array.from({ length: 400 }, () => collectBytes(decompress(sourceOf(bomb), { codec: "zstd", maxOutputBytes: 3_000 }), 3_000, "a bomb")),
  );
  for (const refusal of refusals) expect(refusal).toMatchObject({ status: "rejected", reason: { code: "ERR_LIMIT" } });
  const honest = new Uint8Array(100_000).fill(7);
  expect(await collectBytes(decompress(sourceOf(await compressZstd(LentMemory.copyOf(honest), 3)), { codec: "zstd" }), 100_000, "bytes")).toHaveLength(100_000);
});

import { describe, expect, test } from "vitest";

import { StreamedSha256 } from "../../src/compression/streamed-sha256.ts";
import { workerPoolState } from "../../src/compression/worker-pool.ts";
import { sha256 } from "../../src/hash/sha256.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { eventually, expectReason } from "../helpers/promises.ts";
import { reusingMemory, sourceOf, TrackedSource } from "../helpers/tracked-source.ts";
import { chunked } from "./helpers.ts";

const PIECE = 512 * 1024;

describe("StreamedSha256", () => {
  test.for([0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 10 * PIECE + 12_345])("hands on, counts and hashes %d bytes", async (length) => {
    const bytes = sampleBytes(length, length);
    for (const cut of [length + 1, 99_991, PIECE]) {
      const hash = new StreamedSha256();
      expectBytes(await collect(hash.through(sourceOf(...chunked(bytes, cut)))), bytes);
      expect(hash.size).toBe(length);
      expectBytes(await hash.digest(), sha256(bytes));
      expectBytes(await hash.digest(), sha256(bytes));
    }
    await eventually(() => workerPoolState().jobs === 0);
  });

  test("hashes what was there when it passed, though its source uses the memory again", async () => {
    const bytes = sampleBytes(3 * PIECE, 7);
    const hash = new StreamedSha256();
    for await (const _ of hash.through(reusingMemory(chunked(bytes, 10_007))));
    expectBytes(await hash.digest(), sha256(bytes));
  });

  test("of many streams at once are those of each", async () => {
    const digests = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const bytes = sampleBytes(2 * PIECE + index, index);
        const hash = new StreamedSha256();
        for await (const _piece of hash.through(sourceOf(...chunked(bytes, 77_777))));
        return Buffer.compare(await hash.digest(), sha256(bytes));
      }),
    );
    expect(digests.every((difference) => difference === 0)).toBe(true);
  });

  test("ends with its source's error, closes it, and forgets what it hashed", async () => {
    const failure = new Error("the disk is gone");
    const source = new TrackedSource(chunked(sampleBytes(3 * PIECE), 65_536), { fail: failure });
    const hash = new StreamedSha256();
    await expectReason(collect(hash.through(source)), failure);
    expect(source.closed).toBe(true);
    await expect(hash.digest()).rejects.toThrow("The stream has not ended");
    await eventually(() => workerPoolState().jobs === 0);
  });

  test("of a stream that is left early is none, and nothing of it stays in a thread", async () => {
    const source = new TrackedSource(chunked(sampleBytes(4 * PIECE), 65_536));
    const hash = new StreamedSha256();
    for await (const _ of hash.through(source)) if (hash.size > 2 * PIECE) break;
    expect(source.closed).toBe(true);
    await expect(hash.digest()).rejects.toThrow("The stream has not ended");
    await eventually(() => workerPoolState().jobs === 0);
  });

  test("leaves nothing in a thread when no one asks for the digest", async () => {
    for await (const _ of new StreamedSha256().through(sourceOf(...chunked(sampleBytes(3 * PIECE), 65_536))));
    await eventually(() => workerPoolState().jobs === 0);
  });
});

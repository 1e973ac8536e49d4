/**
 * What `ComputedCache` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import type { ComputedCache, ComputedKey } from "../../src/store/computed-cache.ts";
import { MAX_COMPUTED_BYTES } from "../../src/store/computed-cache.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { sha256Of } from "../helpers/path-infos.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const KEY: ComputedKey = { kind: "layer", digest: sha256Of("a tree") };
const VALUE = Buffer.from("what was computed");

const EVERY_METHOD: readonly (readonly [name: string, call: (computed: ComputedCache, options: CallOptions) => Promise<unknown>])[] = [
  ["get", (computed, options) => computed.get(KEY, options)],
  ["put", (computed, options) => computed.put(KEY, VALUE, 1, options)],
  ["stats", (computed, options) => computed.stats(options)],
  ["clear", (computed, options) => computed.clear(options)],
];

export const COMPUTED_CACHE_CASES: readonly ConformanceCase<ComputedCache>[] = [
  {
    name: "get() gives what was put under that kind and key, and nothing else",
    run: async (computed) => {
      await computed.put(KEY, VALUE, 1);
      expectBytes(await computed.get(KEY), VALUE);
      expect(await computed.get({ ...KEY, kind: "layers" })).toBeUndefined();
      expect(await computed.get({ ...KEY, digest: sha256Of("another tree") })).toBeUndefined();
    },
  },
  {
    name: "put() takes any bytes, none and as many as there may be",
    run: async (computed) => {
      for (const value of [new Uint8Array(0), Uint8Array.of(0, 255), sampleBytes(MAX_COMPUTED_BYTES)]) {
        await computed.put(KEY, value, 0);
        expectBytes(await computed.get(KEY), value);
      }
    },
  },
  {
    name: "put() takes the place of what is there",
    run: async (computed) => {
      await computed.put(KEY, VALUE, 1);
      await computed.put(KEY, Buffer.from("right"), 1);
      expectBytes(await computed.get(KEY), Buffer.from("right"));
      expect(await computed.stats()).toMatchObject([{ kind: "layer", entries: 1 }]);
    },
  },
  {
    name: "put() refuses kinds, keys, values and times that no cache takes",
    run: async (computed) => {
      const wrong: readonly (readonly [ComputedKey, Uint8Array, number])[] = [
        [{ ...KEY, kind: "" }, VALUE, 1],
        [{ ...KEY, kind: "x".repeat(65) }, VALUE, 1],
        [{ ...KEY, digest: new Uint8Array(31) }, VALUE, 1],
        [KEY, new Uint8Array(MAX_COMPUTED_BYTES + 1), 1],
        [KEY, VALUE, -1],
        [KEY, VALUE, Number.NaN],
        [KEY, VALUE, Infinity],
      ];
      for (const [key, value, seconds] of wrong) await expectCode(computed.put(key, value, seconds), "ERR_INVALID");
      await expectCode(computed.get({ ...KEY, digest: new Uint8Array(33) }), "ERR_INVALID");
      expect(await computed.get(KEY)).toBeUndefined();
    },
  },
  {
    name: "stats() counts what was found and what was not, and the time that was saved, by kind",
    run: async (computed) => {
      expect(await computed.stats()).toEqual([]);
      await computed.put(KEY, VALUE, 1.5);
      await computed.put({ ...KEY, digest: sha256Of("another") }, VALUE, 10);
      await computed.put({ ...KEY, kind: "descriptor" }, VALUE, 0.25);
      for (const text of ["a tree", "a tree", "another", "unknown"]) await computed.get({ ...KEY, digest: sha256Of(text) });
      await computed.get({ ...KEY, kind: "never put" });
      expect(await computed.stats()).toEqual([
        { kind: "descriptor", entries: 1, hits: 0, misses: 0, secondsSaved: 0 },
        { kind: "layer", entries: 2, hits: 3, misses: 1, secondsSaved: 13 },
        { kind: "never put", entries: 0, hits: 0, misses: 1, secondsSaved: 0 },
      ]);
    },
  },
  {
    name: "clear() forgets everything, and says how much that was",
    run: async (computed) => {
      for (let index = 0; index < 5; index++) await computed.put({ ...KEY, digest: sha256Of(String(index)) }, VALUE, 1);
      await computed.get(KEY);
      expect(await computed.clear()).toBe(5);
      expect(await computed.stats()).toEqual([]);
      expect(await computed.get({ ...KEY, digest: sha256Of("1") })).toBeUndefined();
      expect(await computed.clear()).toBe(0);
    },
  },
  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (computed: ComputedCache) => {
        const reason = new Error("gone before it began");
        await expectReason(call(computed, { signal: AbortSignal.abort(reason) }), reason);
        expect(await computed.stats()).toEqual([]);
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (computed: ComputedCache, { close }: { readonly close: () => Promise<void> }) => {
        await computed.put(KEY, VALUE, 1);
        await close();
        await expectCode(call(computed, {}), "ERR_CLOSED");
      },
    },
  ]),
];

/** Test that a service keeps the contract of `ComputedCache`. */
export function computedCacheConformance(open: Open<ComputedCache>): void {
  registerCases(COMPUTED_CACHE_CASES, open);
}

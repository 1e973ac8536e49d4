/**
 * What `PathInfoService` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import { formatSignature } from "../../src/nix/signature.ts";
import { sortStorePaths } from "../../src/nix/store-path.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import { encodePathInfo } from "../../src/store/path-info-message.ts";
import type { PathInfoService } from "../../src/store/path-info-service.ts";
import { collectItems, hexes } from "../helpers/bytes.ts";
import { directoryOf, fileNode, symlinkNode } from "../helpers/castore.ts";
import { pathInfoOf, sha256Of, signatureOf, storePathOf } from "../helpers/path-infos.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const HELLO = pathInfoOf("hello-2.12");
const FULL = pathInfoOf("full-1.0", {
  root: directoryOf({ bin: fileNode("x", true), link: symlinkNode("bin") }).node,
  references: sortStorePaths([storePathOf("glibc-2.40"), storePathOf("full-1.0"), storePathOf("zlib-1.3")]),
  narSize: 2 ** 52 + 1,
  signatures: [signatureOf("cache.example.org-1", 1), signatureOf("other", 2)],
  deriver: storePathOf("full-1.0.drv"),
  ca: { method: "nar", hash: { algorithm: "sha256", digest: sha256Of("ca") } },
});

const EVERY_METHOD: readonly (readonly [name: string, call: (pathInfos: PathInfoService, options: CallOptions) => Promise<unknown>])[] = [
  ["get", (pathInfos, options) => pathInfos.get(HELLO.storePath.digest, options)],
  ["put", (pathInfos, options) => pathInfos.put(FULL, options)],
  ["list", (pathInfos, options) => collectItems(pathInfos.list(options))],
  ["delete", (pathInfos, options) => pathInfos.delete(HELLO.storePath.digest, options)],
];

/** Path infos for the path of HELLO that its signatures do not belong to. */
const OTHER_CONTENTS: readonly (readonly [what: string, parts: Partial<PathInfo>])[] = [
  ["another NarHash", { narSha256: sha256Of("another NAR") }],
  ["another NarSize", { narSize: 144 }],
  ["other references", { references: [storePathOf("zlib-1.3")] }],
];

export const PATH_INFO_SERVICE_CASES: readonly ConformanceCase<PathInfoService>[] = [
  {
    name: "get() of a path that was never put is undefined",
    run: async (pathInfos) => {
      await pathInfos.put(HELLO);
      expect(await pathInfos.get(FULL.storePath.digest)).toBeUndefined();
    },
  },
  ...[
    ["the least a path info can have", HELLO],
    ["everything a path info can have", FULL],
    ["a file for its root", pathInfoOf("file", { root: fileNode("contents", true) })],
    ["an empty file for its root", pathInfoOf("empty", { root: fileNode("") })],
  ].map(([what, pathInfo]) => ({
    name: `get() gives what was put: ${what as string}`,
    run: async (pathInfos: PathInfoService) => {
      const info = pathInfo as PathInfo;
      expectSame(await pathInfos.put(info), info);
      expectSame(await pathInfos.get(info.storePath.digest), info);
    },
  })),
  {
    name: "get() knows a path by its digest, whatever its name",
    run: async (pathInfos) => {
      await pathInfos.put(HELLO);
      const found = await pathInfos.get(HELLO.storePath.digest.slice());
      expect(found?.storePath.name).toBe("hello-2.12");
    },
  },
  {
    name: "put() keeps the signatures that are there for the same NAR, beside the new ones and each once",
    run: async (pathInfos) => {
      const [a, b, c] = ["a", "b", "c"].map((name, seed) => signatureOf(name, seed)) as [never, never, never];
      await pathInfos.put({ ...HELLO, signatures: [a, b] });
      const stored = await pathInfos.put({ ...HELLO, signatures: [b, c] });
      expectSignatures(stored, [a, b, c]);
      expectSignatures(await pathInfos.get(HELLO.storePath.digest), [a, b, c]);
      expectSignatures(await pathInfos.put(HELLO), [a, b, c]);
    },
  },
  {
    name: "put() keeps two signatures under one key name",
    run: async (pathInfos) => {
      const two = [signatureOf("key", 1), signatureOf("key", 2)];
      await pathInfos.put({ ...HELLO, signatures: two.slice(0, 1) });
      expectSignatures(await pathInfos.put({ ...HELLO, signatures: two.slice(1) }), two);
    },
  },
  {
    name: "put() keeps every signature when puts race",
    run: async (pathInfos) => {
      const signatures = Array.from({ length: 30 }, (_, seed) => signatureOf(`key-${seed}`, seed));
      const stored = await Promise.all(signatures.map((signature) => pathInfos.put({ ...HELLO, signatures: [signature] })));
      for (const [index, info] of stored.entries()) {
        expect(info.signatures.map(formatSignature)).toContain(formatSignature(signatures[index] as never));
      }
      expectSignatures(await pathInfos.get(HELLO.storePath.digest), signatures);
    },
  },
  {
    name: "put() replaces what is not signed: root, deriver and content address",
    run: async (pathInfos) => {
      const { deriver: _deriver, ca: _ca, ...bare } = FULL;
      await pathInfos.put(FULL);
      const other = { ...bare, root: fileNode("another root") };
      expectSame(await pathInfos.put(other), other);
      expectSame(await pathInfos.get(FULL.storePath.digest), other);
    },
  },
  ...OTHER_CONTENTS.map(([what, parts]) => ({
    name: `put() with ${what} replaces all, signatures too`,
    run: async (pathInfos: PathInfoService) => {
      await pathInfos.put({ ...HELLO, signatures: [signatureOf("old")] });
      const later = { ...HELLO, ...parts, signatures: [signatureOf("new", 2)] };
      expectSame(await pathInfos.put(later), later);
      expectSame(await pathInfos.get(HELLO.storePath.digest), later);
    },
  })),
  {
    name: "put() of many paths at once stores them all",
    run: async (pathInfos) => {
      const many = manyPathInfos(50);
      await Promise.all(many.map((info) => pathInfos.put(info)));
      for (const info of many) expectSame(await pathInfos.get(info.storePath.digest), info);
    },
  },
  {
    name: "list() of nothing is nothing",
    run: async (pathInfos) => expect(await collectItems(pathInfos.list())).toEqual([]),
  },
  {
    name: "list() gives every path info once, in the order of their digests",
    run: async (pathInfos) => {
      const many = [...manyPathInfos(40), FULL];
      for (const info of many) await pathInfos.put(info);
      await pathInfos.put(FULL);
      const listed = await collectItems(pathInfos.list());
      expect(hexes(listed.map((info) => info.storePath.digest))).toEqual(hexes(many.map((info) => info.storePath.digest)).sort());
      expectSame(
        listed.find((info) => info.storePath.name === "full-1.0"),
        FULL,
      );
    },
  },
  {
    name: "list() may be stopped early, and another one put meanwhile",
    run: async (pathInfos) => {
      for (const info of manyPathInfos(10)) await pathInfos.put(info);
      let taken = 0;
      for await (const _info of pathInfos.list()) {
        void _info;
        await pathInfos.put(FULL);
        if (++taken === 3) break;
      }
      expect(await collectItems(pathInfos.list())).toHaveLength(11);
    },
  },
  {
    name: "list() rejects with the signal's reason when it fires between two",
    run: async (pathInfos) => {
      for (const info of manyPathInfos(10)) await pathInfos.put(info);
      const controller = new AbortController();
      const reason = new Error("the reader left");
      const reading = async (): Promise<void> => {
        for await (const _info of pathInfos.list({ signal: controller.signal })) {
          void _info;
          controller.abort(reason);
        }
      };
      await expectReason(reading(), reason);
    },
  },
  {
    name: "delete() forgets a path and says whether there was one",
    run: async (pathInfos) => {
      await pathInfos.put(HELLO);
      await pathInfos.put(FULL);
      expect(await pathInfos.delete(HELLO.storePath.digest)).toBe(true);
      expect(await pathInfos.get(HELLO.storePath.digest)).toBeUndefined();
      expect((await collectItems(pathInfos.list())).map((info) => info.storePath.name)).toEqual(["full-1.0"]);
      expect(await pathInfos.delete(HELLO.storePath.digest)).toBe(false);
      expect(await pathInfos.delete(sha256Of("nothing").subarray(0, 20))).toBe(false);
    },
  },
  {
    name: "delete() forgets the signatures too",
    run: async (pathInfos) => {
      await pathInfos.put({ ...HELLO, signatures: [signatureOf("old")] });
      await pathInfos.delete(HELLO.storePath.digest);
      const later = { ...HELLO, signatures: [signatureOf("new", 2)] };
      expectSame(await pathInfos.put(later), later);
      expectSame(await pathInfos.get(HELLO.storePath.digest), later);
    },
  },
  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (pathInfos: PathInfoService) => {
        await pathInfos.put(HELLO);
        const reason = new Error("gone before it began");
        await expectReason(call(pathInfos, { signal: AbortSignal.abort(reason) }), reason);
        expectSame(await pathInfos.get(HELLO.storePath.digest), HELLO);
        expect(await pathInfos.get(FULL.storePath.digest)).toBeUndefined();
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (pathInfos: PathInfoService, { close }: { readonly close: () => Promise<void> }) => {
        await pathInfos.put(HELLO);
        await close();
        await expectCode(call(pathInfos, {}), "ERR_CLOSED");
      },
    },
  ]),
];

/** Test that a service keeps the contract of `PathInfoService`. */
export function pathInfoServiceConformance(open: Open<PathInfoService>): void {
  registerCases(PATH_INFO_SERVICE_CASES, open);
}

function manyPathInfos(count: number): PathInfo[] {
  return Array.from({ length: count }, (_, index) => pathInfoOf(`path-${index}`, { narSize: 8 * (index + 1) }));
}

/** Path infos are the same when their messages are. */
function expectSame(actual: PathInfo | undefined, expected: PathInfo): void {
  expect(actual).toBeDefined();
  expect(hexes([encodePathInfo(actual as PathInfo)])).toEqual(hexes([encodePathInfo(expected)]));
}

function expectSignatures(actual: PathInfo | undefined, expected: PathInfo["signatures"]): void {
  expect(actual?.signatures.map(formatSignature).sort()).toEqual(expected.map(formatSignature).sort());
}

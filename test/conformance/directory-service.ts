/**
 * What `DirectoryService` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { DirectoryService } from "../../src/castore/directory-service.ts";
import type { NamedDirectory } from "../../src/castore/directory-order.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { collectItems, expectBytes, hexes } from "../helpers/bytes.ts";
import type { TestDirectory } from "../helpers/castore.ts";
import { directoryOf, fileNode, named, symlinkNode, withSize } from "../helpers/castore.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { sourceOf, TrackedSource } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const EMPTY = directoryOf({});
const LEAF = directoryOf({ ".keep": fileNode(""), run: fileNode("#!/bin/sh\n", true), there: symlinkNode("/nix/store/somewhereelse") });
const MIDDLE = directoryOf({ empty: EMPTY, leaf: LEAF, "leaf again": LEAF, z: fileNode("z") });
const ROOT = directoryOf({ a: MIDDLE, b: EMPTY, c: LEAF });
/** ROOT's closure, leaves to root. */
const CLOSURE = [EMPTY, LEAF, MIDDLE, ROOT];
const UNKNOWN = toB3Digest(blake3(Buffer.from("a directory that no one ever puts")));

const EVERY_METHOD: readonly (readonly [name: string, call: (directories: DirectoryService, options: CallOptions) => Promise<unknown>])[] = [
  ["get", (directories, options) => directories.get(EMPTY.digest, options)],
  ["getClosure", (directories, options) => directories.getClosure(EMPTY.digest, options)],
  ["putClosure", (directories, options) => directories.putClosure([LEAF.bytes], options)],
];

/** Streams that must be refused with ERR_CASTORE_INVALID, and which of their directories must not be there afterwards. */
const REFUSED: readonly (readonly [what: string, directories: readonly TestDirectory[]])[] = [
  ["an empty stream", []],
  ["two roots", [EMPTY, LEAF]],
  ["a root beside another one's closure", [EMPTY, LEAF, MIDDLE, directoryOf({ other: symlinkNode("x") })]],
  ["a directory whose child was not sent", [EMPTY, MIDDLE]],
  ["a child that comes after its parent", [EMPTY, MIDDLE, LEAF]],
  ["a root that is not the last", [EMPTY, LEAF, MIDDLE, LEAF]],
  ["a child's size of 0 where it is not", [EMPTY, LEAF, directoryOf({ leaf: withSize(LEAF, 0) })]],
  ["a child's size that is one more", [LEAF, directoryOf({ leaf: withSize(LEAF, LEAF.node.size + 1) })]],
  ["a child's size that is three times right", [LEAF, directoryOf({ leaf: withSize(LEAF, LEAF.node.size * 3) })]],
  ["a wrong size deep below the root", [EMPTY, LEAF, ...chain(directoryOf({ leaf: withSize(LEAF, 1), e: EMPTY }), 3)]],
  ["two sizes for one child of which one is wrong", [LEAF, directoryOf({ a: LEAF, b: withSize(LEAF, 4) })]],
];

/** Messages that are not canonical, in base16, each alone in its stream. */
const DIGEST = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const NOT_CANONICAL: readonly (readonly [what: string, hex: string])[] = [
  ["bytes that are no message", "ff"],
  ["a message that is cut short", `12250a01611220${DIGEST}`.slice(0, -2)],
  ["an unknown field", "2000"],
  ["an unknown field in an entry", `12270a01611220${DIGEST}2801`],
  ["lists that are out of order", `1a060a016112016212250a01621220${DIGEST}`],
  ["names that are out of order", "1a060a01621201621a060a0161120161"],
  ["a name twice in a list", "1a060a01611201621a060a0161120162"],
  ["a name twice across lists", `12250a01611220${DIGEST}1a060a0161120162`],
  ["an empty name", `12221220${DIGEST}`],
  ["the name ..", `12260a022e2e1220${DIGEST}`],
  ["a name with a slash", `12270a03612f621220${DIGEST}`],
  ["a name with a NUL", `12270a036100621220${DIGEST}`],
  ["a digest of 31 bytes", `12240a0161121f${DIGEST.slice(2)}`],
  ["a symlink without a target", "1a030a0161"],
  ["a size of 0 that is written out", `12270a01611220${DIGEST}1800`],
  ["a length that is not in its shortest form", `12a5000a01611220${DIGEST}`],
  ["fields of an entry that are out of order", `12251220${DIGEST}0a0161`],
];

export const DIRECTORY_SERVICE_CASES: readonly ConformanceCase<DirectoryService>[] = [
  {
    name: "putClosure() stores the empty directory",
    run: async (directories) => {
      expect(hexes([await directories.putClosure([EMPTY.bytes])])).toEqual(hexes([EMPTY.digest]));
      expectBytes(await directories.get(EMPTY.digest), new Uint8Array(0));
      expect(hexes((await closureOf(directories, EMPTY.digest)).map(({ digest }) => digest))).toEqual(hexes([EMPTY.digest]));
    },
  },
  {
    name: "putClosure() gives the root's digest and makes every directory readable",
    run: async (directories) => {
      expect(hexes([await directories.putClosure(sourceOf(...CLOSURE.map(({ bytes }) => bytes)))])).toEqual(hexes([ROOT.digest]));
      for (const { digest, bytes } of CLOSURE) expectBytes(await directories.get(digest), bytes);
    },
  },
  {
    name: "putClosure() takes a plain list",
    run: async (directories) => {
      expect(hexes([await put(directories, CLOSURE)])).toEqual(hexes([ROOT.digest]));
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  ...(["documented", "doubled"] as const).map((profile) => ({
    name: `putClosure() accepts sizes in the ${profile} profile`,
    run: async (directories: DirectoryService) => {
      const leaf = directoryOf({ a: fileNode("a"), b: fileNode("b") }, profile);
      const list = [leaf, ...chain(leaf, 4, profile)];
      await put(directories, list);
      await expectClosure(directories, (list.at(-1) as TestDirectory).digest, list);
    },
  })),
  {
    name: "putClosure() accepts either profile for each edge, of the child as it was sent",
    run: async (directories) => {
      const leaf = directoryOf({ a: fileNode("a") });
      const middle = directoryOf({ one: withSize(leaf, 1), two: withSize(leaf, 2) });
      const sizes = [2 + 3, 4 + 3].map((size) => withSize(middle, size)) as [TestDirectory, TestDirectory];
      const root = directoryOf({ documented: sizes[0], doubled: sizes[1] });
      await put(directories, [leaf, middle, root]);
      await expectClosure(directories, root.digest, [leaf, middle, root]);
    },
  },
  {
    name: "putClosure() tolerates a directory that is sent twice",
    run: async (directories) => {
      expect(hexes([await put(directories, [EMPTY, LEAF, EMPTY, LEAF, MIDDLE, LEAF, ROOT, ROOT])])).toEqual(hexes([ROOT.digest]));
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  {
    name: "putClosure() of a closure that is stored gives its root again",
    run: async (directories) => {
      await put(directories, CLOSURE);
      expect(hexes([await put(directories, CLOSURE)])).toEqual(hexes([ROOT.digest]));
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  {
    name: "putClosure() of closures that share directories, many at once, stores them all",
    run: async (directories) => {
      const roots = Array.from({ length: 20 }, (_, index) => directoryOf({ middle: MIDDLE, own: fileNode(String(index)) }));
      await Promise.all(roots.map((root) => put(directories, [EMPTY, LEAF, MIDDLE, root])));
      for (const root of roots) await expectClosure(directories, root.digest, [EMPTY, LEAF, MIDDLE, root]);
    },
  },
  {
    name: "putClosure() stores a directory of many entries and a deep tree",
    run: async (directories) => {
      const wide = directoryOf(Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`file ${index}`, fileNode("x")])));
      const list = [wide, ...chain(wide, 200)];
      await put(directories, list);
      await expectClosure(directories, (list.at(-1) as TestDirectory).digest, list);
    },
  },

  ...REFUSED.map(([what, list]) => ({
    name: `putClosure() refuses ${what}, and stores none of it`,
    run: async (directories: DirectoryService) => {
      await expectCode(put(directories, list), "ERR_CASTORE_INVALID");
      await expectNotStored(directories, list);
    },
  })),
  {
    name: "putClosure() refuses a child that is stored but was not sent",
    run: async (directories) => {
      await put(directories, [LEAF]);
      const parent = directoryOf({ leaf: LEAF });
      await expectCode(put(directories, [parent]), "ERR_CASTORE_INVALID");
      await expectNotStored(directories, [parent]);
      await put(directories, [LEAF, parent]);
      expectBytes(await directories.get(parent.digest), parent.bytes);
    },
  },
  ...NOT_CANONICAL.map(([what, hex]) => ({
    name: `putClosure() refuses ${what}`,
    run: async (directories: DirectoryService) => {
      const message = named(Buffer.from(hex, "hex"), 1);
      await expectCode(put(directories, [message]), "ERR_CASTORE_INVALID");
      await expectNotStored(directories, [message]);
    },
  })),

  {
    name: "putClosure() makes nothing readable before the stream's end",
    run: async (directories) => {
      const seen: unknown[] = [];
      const source = new TrackedSource(CLOSURE.map(({ bytes }) => bytes), "end", async (index) => {
        for (const { digest } of CLOSURE.slice(0, index)) seen.push(await directories.get(digest), await directories.getClosure(digest));
      });
      await directories.putClosure(source);
      expect(seen).toEqual(Array.from({ length: 12 }, () => undefined));
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  ...[0, 1, 3, 4].flatMap((count) => [
    {
      name: `putClosure() rejects with its stream's own error after ${count} directories, and none becomes readable`,
      run: async (directories: DirectoryService) => {
        const failure = new Error("the sender broke");
        const source = new TrackedSource(CLOSURE.slice(0, count).map(({ bytes }) => bytes), { fail: failure });
        await expectReason(directories.putClosure(source), failure);
        expect(source).toMatchObject({ opened: 1, closed: true });
        await expectNotStored(directories, CLOSURE);
      },
    },
    {
      name: `putClosure() rejects with the signal's reason after ${count} directories, also while its stream is stuck`,
      run: async (directories: DirectoryService) => {
        const controller = new AbortController();
        const source = new TrackedSource(CLOSURE.slice(0, count).map(({ bytes }) => bytes), "stuck");
        const reason = new Error("the sender left");
        void source.atEnd.then(() => controller.abort(reason));
        await expectReason(directories.putClosure(source, { signal: controller.signal }), reason);
        expect(source.closed).toBe(true);
        await expectNotStored(directories, CLOSURE);
      },
    },
  ]),
  {
    name: "putClosure() stops reading and closes its stream when the signal fires between two directories",
    run: async (directories) => {
      const controller = new AbortController();
      const reason = new Error("the sender left");
      const source = new TrackedSource(CLOSURE.map(({ bytes }) => bytes), "end", (index) => {
        if (index === 1) controller.abort(reason);
      });
      await expectReason(directories.putClosure(source, { signal: controller.signal }), reason);
      expect(source.taken).toBeLessThanOrEqual(2);
      expect(source.closed).toBe(true);
      await expectNotStored(directories, CLOSURE);
    },
  },
  {
    name: "putClosure() closes its stream when it refuses a directory",
    run: async (directories) => {
      const source = new TrackedSource([Buffer.from("ff", "hex"), LEAF.bytes, LEAF.bytes]);
      await expectCode(directories.putClosure(source), "ERR_CASTORE_INVALID");
      expect(source).toMatchObject({ opened: 1, closed: true, ended: false });
    },
  },
  {
    name: "a putClosure() that fails leaves one that shares its directories alone",
    run: async (directories) => {
      const failing = new TrackedSource([EMPTY.bytes, LEAF.bytes, MIDDLE.bytes], { fail: new Error("broken") });
      const outcomes = await Promise.allSettled([directories.putClosure(failing), put(directories, CLOSURE)]);
      expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },

  {
    name: "get() and getClosure() of an unknown digest are undefined",
    run: async (directories) => {
      await put(directories, [LEAF]);
      await expectNotStored(directories, [EMPTY]);
      expect(await directories.get(UNKNOWN)).toBeUndefined();
      expect(await directories.getClosure(UNKNOWN)).toBeUndefined();
    },
  },
  {
    name: "getClosure() gives the root first, each directory once and after one that holds it",
    run: async (directories) => {
      await put(directories, CLOSURE);
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  {
    name: "getClosure() gives what hangs from a directory in the middle",
    run: async (directories) => {
      await put(directories, CLOSURE);
      await expectClosure(directories, MIDDLE.digest, [EMPTY, LEAF, MIDDLE]);
      await expectClosure(directories, LEAF.digest, [LEAF]);
    },
  },
  {
    name: "getClosure() gives the shared directory of a diamond once, and after a parent",
    run: async (directories) => {
      // The bottom hangs from the root both directly and far below.
      const bottom = directoryOf({ x: symlinkNode("y") });
      const left = directoryOf({ bottom, left: fileNode("l") });
      const right = directoryOf({ bottom, right: fileNode("r") });
      const list = [bottom, left, right, ...chain(right, 5)];
      const root = directoryOf({ a: list.at(-1) as TestDirectory, b: left, c: right, d: bottom });
      await put(directories, [...list, root]);
      await expectClosure(directories, root.digest, [...list, root]);
    },
  },
  {
    name: "getClosure() of a diamond of diamonds is not exponential",
    run: async (directories) => {
      const list = [directoryOf({ bottom: fileNode("0") })];
      for (let level = 0; level < 40; level++) {
        const below = list.at(-1) as TestDirectory;
        // Sizes double at every level, and stay below 2^53.
        list.push(directoryOf({ a: below, b: below, level: fileNode(String(level)) }));
      }
      await put(directories, list);
      await expectClosure(directories, (list.at(-1) as TestDirectory).digest, list);
    },
  },
  {
    name: "getClosure() may be stopped early",
    run: async (directories) => {
      await put(directories, CLOSURE);
      for (let times = 0; times < 5; times++) {
        for await (const { digest } of (await directories.getClosure(ROOT.digest)) as AsyncIterable<NamedDirectory>) {
          expect(hexes([digest])).toEqual(hexes([ROOT.digest]));
          break;
        }
      }
      await expectClosure(directories, ROOT.digest, CLOSURE);
    },
  },
  {
    name: "getClosure()'s stream rejects with the signal's reason",
    run: async (directories) => {
      const list = [LEAF, ...chain(LEAF, 300)];
      await put(directories, list);
      const controller = new AbortController();
      const reason = new Error("the reader left");
      let taken = 0;
      const reading = async (): Promise<void> => {
        const stream = await directories.getClosure((list.at(-1) as TestDirectory).digest, { signal: controller.signal });
        for await (const _directory of stream as AsyncIterable<NamedDirectory>) {
          void _directory;
          if (++taken === 2) controller.abort(reason);
        }
      };
      await expectReason(reading(), reason);
      expect(taken).toBe(2);
    },
  },

  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (directories: DirectoryService) => {
        await put(directories, [EMPTY]);
        const reason = new Error("gone before it began");
        await expectReason(call(directories, { signal: AbortSignal.abort(reason) }), reason);
        await expectNotStored(directories, [LEAF]);
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (directories: DirectoryService, { close }: { readonly close: () => Promise<void> }) => {
        await put(directories, [EMPTY]);
        await close();
        await expectCode(call(directories, {}), "ERR_CLOSED");
      },
    },
  ]),
  {
    name: "getClosure()'s stream rejects with ERR_CLOSED when the service is closed meanwhile",
    run: async (directories, { close }) => {
      await put(directories, CLOSURE);
      const unread = (await directories.getClosure(ROOT.digest)) as AsyncIterable<NamedDirectory>;
      const begun = ((await directories.getClosure(ROOT.digest)) as AsyncIterable<NamedDirectory>)[Symbol.asyncIterator]();
      await begun.next();
      await close();
      await expectCode(begun.next(), "ERR_CLOSED");
      await expectCode(collectItems(unread), "ERR_CLOSED");
    },
  },
];

/** Test that a service keeps the contract of `DirectoryService`. */
export function directoryServiceConformance(open: Open<DirectoryService>): void {
  registerCases(DIRECTORY_SERVICE_CASES, open);
}

function put(directories: DirectoryService, list: readonly TestDirectory[]): Promise<B3Digest> {
  return directories.putClosure(list.map(({ bytes }) => bytes));
}

/** Directories each of which holds the one before it, and a file that makes it different. */
function chain(bottom: TestDirectory, count: number, profile: "documented" | "doubled" = "documented"): TestDirectory[] {
  const list: TestDirectory[] = [];
  for (let index = 0; index < count; index++) list.push(directoryOf({ below: list.at(-1) ?? bottom, number: fileNode(String(index)) }, profile));
  return list;
}

async function closureOf(directories: DirectoryService, root: B3Digest): Promise<NamedDirectory[]> {
  const stream = await directories.getClosure(root);
  expect(stream).toBeDefined();
  return await collectItems(stream as AsyncIterable<NamedDirectory>);
}

/** That a closure is read back: these directories, the root first, each once and after one that holds it. */
async function expectClosure(directories: DirectoryService, root: B3Digest, expected: readonly TestDirectory[]): Promise<void> {
  const closure = await closureOf(directories, root);
  const bytesOf = new Map(expected.map(({ digest, bytes }) => [hex(digest), bytes]));
  expect(closure.map(({ digest }) => hex(digest)).sort()).toEqual([...bytesOf.keys()].sort());
  const held = new Set([hex(root)]);
  for (const { digest, bytes } of closure) {
    expect(held, "a directory before every one that holds it").toContain(hex(digest));
    expectBytes(bytes, bytesOf.get(hex(digest)) as Uint8Array);
    for (const { node } of decodeDirectory(bytes)) if (node.type === "directory") held.add(hex(node.digest));
  }
  expect(hex((closure[0] as NamedDirectory).digest)).toBe(hex(root));
}

async function expectNotStored(directories: DirectoryService, list: readonly TestDirectory[]): Promise<void> {
  for (const { digest } of list) {
    expect(await directories.get(digest)).toBeUndefined();
    expect(await directories.getClosure(digest)).toBeUndefined();
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/**
 * What `NarIndex` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import { decodeRootNode, encodeEntry } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../src/store/nar-index.ts";
import { sha256 } from "../../src/hash/sha256.ts";
import { directoryOf, fileNode, symlinkNode } from "../helpers/castore.ts";
import { sha256Of } from "../helpers/path-infos.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { referenceNar, symlink } from "../helpers/reference-nar.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const NAR: NarRecord = { narSha256: sha256Of("nar"), narSize: 136, root: symlinkNode("/nix/store/somewhereelse") };
const FILE: NarFileRecord = { fileSha256: sha256Of("file"), fileSize: 77, codec: "xz" };

const EVERY_METHOD: readonly (readonly [name: string, call: (nars: NarIndex, options: CallOptions) => Promise<unknown>])[] = [
  ["byNarHash", (nars, options) => nars.byNarHash(NAR.narSha256, options)],
  ["byFileHash", (nars, options) => nars.byFileHash(FILE.fileSha256, options)],
  ["byRoot", (nars, options) => nars.byRoot(NAR.root, options)],
  ["put", (nars, options) => nars.put(NAR, FILE, options)],
];

const ROOTS = [
  NAR.root,
  fileNode(""),
  fileNode("contents", true),
  directoryOf({}).node,
  { ...directoryOf({ a: fileNode("a") }).node, size: Number.MAX_SAFE_INTEGER },
] as const;

export const NAR_INDEX_CASES: readonly ConformanceCase<NarIndex>[] = [
  {
    name: "byNarHash() and byFileHash() of what was never put are undefined",
    run: async (nars) => {
      await nars.put(NAR, FILE);
      expect(await nars.byNarHash(sha256Of("another"))).toBeUndefined();
      expect(await nars.byFileHash(sha256Of("another"))).toBeUndefined();
      expect(await nars.byNarHash(FILE.fileSha256)).toBeUndefined();
      expect(await nars.byFileHash(NAR.narSha256)).toBeUndefined();
    },
  },
  ...ROOTS.map((root, index) => ({
    name: `byNarHash() gives the NAR that was put: a ${root.type} (${index})`,
    run: async (nars: NarIndex) => {
      const nar = { narSha256: sha256Of(String(index)), narSize: Number.MAX_SAFE_INTEGER - index, root };
      await nars.put(nar);
      expectNar(await nars.byNarHash(nar.narSha256), nar);
    },
  })),
  ...ROOTS.map((root, index) => ({
    name: `byRoot() gives the NAR of the tree that was put, and of no other one: a ${root.type} (${index})`,
    run: async (nars: NarIndex) => {
      await putAll(nars, ROOTS.toSpliced(index, 1));
      expect(await nars.byRoot(root)).toBeUndefined();
      const nar = { narSha256: sha256Of("the one"), narSize: Number.MAX_SAFE_INTEGER - index, root };
      await nars.put(nar, FILE);
      expectNar(await nars.byRoot(copyOf(root)), nar);
    },
  })),
  {
    name: "byRoot() tells apart roots that differ in whether they are executable, in their kind, or in their size only",
    run: async (nars) => {
      const { digest } = directoryOf({});
      const alike: readonly Node[] = [
        { type: "file", digest, size: 8, executable: false },
        { type: "file", digest, size: 8, executable: true },
        { type: "file", digest, size: 9, executable: false },
        { type: "directory", digest, size: 8 },
        { type: "directory", digest, size: 0 },
        symlinkNode("contents"),
        symlinkNode("contents/"),
      ];
      await putAll(nars, alike);
      for (const [index, root] of alike.entries()) expectNar(await nars.byRoot(root), numbered(index, root));
    },
  },
  {
    name: "put() of another tree for a NAR counts from then on",
    run: async (nars) => {
      await nars.put({ ...truth("a"), root: symlinkNode("b") }, FILE);
      await nars.put(truth("a"));
      expectNar(await nars.byNarHash(truth("a").narSha256), truth("a"));
      expectNar(await nars.byFileHash(FILE.fileSha256), truth("a"));
      expectNar(await nars.byRoot(symlinkNode("a")), truth("a"));
    },
  },
  {
    name: "put() of another NAR for a tree counts from then on",
    run: async (nars) => {
      await nars.put({ ...truth("a"), narSha256: sha256Of("another") });
      await nars.put(truth("a"));
      expectNar(await nars.byRoot(symlinkNode("a")), truth("a"));
    },
  },
  {
    name: "put() of another NarSize counts from then on",
    run: async (nars) => {
      await nars.put({ ...truth("a"), narSize: 1 });
      await nars.put(truth("a"));
      expectNar(await nars.byNarHash(truth("a").narSha256), truth("a"));
      expectNar(await nars.byRoot(symlinkNode("a")), truth("a"));
    },
  },
  {
    name: "put() of another NAR for a file, or of another size or compression of it, counts from then on",
    run: async (nars) => {
      const later = [FILE, { ...FILE, fileSize: 78 }, { ...FILE, fileSize: 78, codec: "zstd" }] as const;
      await nars.put(truth("a"), FILE);
      for (const file of later) {
        await nars.put(truth("b"), file);
        const found = await nars.byFileHash(FILE.fileSha256);
        expectNar(found, truth("b"));
        expectFile(found, file);
      }
    },
  },
  ...(["none", "xz", "zstd", "bzip2", "gzip", "br"] as const).map((codec) => ({
    name: `byFileHash() gives the file that was put, compressed with ${codec}, and its NAR`,
    run: async (nars: NarIndex) => {
      const file = { ...FILE, codec };
      await nars.put(NAR, file);
      const found = await nars.byFileHash(FILE.fileSha256);
      expectNar(found, NAR);
      expectFile(found, file);
    },
  })),
  {
    name: "put() takes several files for one NAR",
    run: async (nars) => {
      const files = (["none", "xz", "zstd"] as const).map((codec, index) => ({ fileSha256: sha256Of(codec), fileSize: 100 + index, codec }));
      for (const file of files) await nars.put(NAR, file);
      for (const file of files) expectFile(await nars.byFileHash(file.fileSha256), file);
      expectNar(await nars.byNarHash(NAR.narSha256), NAR);
    },
  },
  {
    name: "put() takes a file for a NAR that was put without one",
    run: async (nars) => {
      await nars.put(NAR);
      expect(await nars.byFileHash(FILE.fileSha256)).toBeUndefined();
      await nars.put(NAR, FILE);
      expectFile(await nars.byFileHash(FILE.fileSha256), FILE);
    },
  },
  {
    name: "put() of an uncompressed NAR whose FileHash is its NarHash is found by both",
    run: async (nars) => {
      const file: NarFileRecord = { fileSha256: NAR.narSha256, fileSize: NAR.narSize, codec: "none" };
      await nars.put(NAR, file);
      expectNar(await nars.byNarHash(NAR.narSha256), NAR);
      expectFile(await nars.byFileHash(NAR.narSha256), file);
    },
  },
  {
    name: "put() of the same again is no error, one after the other or at once",
    run: async (nars) => {
      await nars.put(NAR, FILE);
      await nars.put(NAR, FILE);
      await nars.put(NAR);
      await Promise.all(Array.from({ length: 10 }, () => nars.put(truth("racing"), { ...FILE, fileSha256: sha256Of("too") })));
      expectFile(await nars.byFileHash(FILE.fileSha256), FILE);
      expectNar(await nars.byFileHash(sha256Of("too")), truth("racing"));
    },
  },
  {
    name: "put() of many NARs at once stores them all",
    run: async (nars) => {
      const many = Array.from({ length: 100 }, (_, index) => ({ ...NAR, narSha256: sha256Of(`nar ${index}`), narSize: index, root: symlinkNode(`${index}`) }));
      await Promise.all(many.map((nar) => nars.put(nar, { ...FILE, fileSha256: sha256Of(`file ${nar.narSize}`), fileSize: nar.narSize })));
      for (const nar of many) expectNar(await nars.byFileHash(sha256Of(`file ${nar.narSize}`)), nar);
    },
  },
  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (nars: NarIndex) => {
        const reason = new Error("gone before it began");
        await expectReason(call(nars, { signal: AbortSignal.abort(reason) }), reason);
        expect(await nars.byNarHash(NAR.narSha256)).toBeUndefined();
        expect(await nars.byFileHash(FILE.fileSha256)).toBeUndefined();
        expect(await nars.byRoot(NAR.root)).toBeUndefined();
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (nars: NarIndex, { close }: { readonly close: () => Promise<void> }) => {
        await nars.put(NAR, FILE);
        await close();
        await expectCode(call(nars, {}), "ERR_CLOSED");
      },
    },
  ]),
];

/** What is true of a tree: a service may look into it before it believes what contradicts an earlier record. */
function truth(target: string): NarRecord {
  const bytes = referenceNar(symlink(target));
  return { narSha256: sha256(bytes), narSize: bytes.length, root: symlinkNode(target) };
}

/** A NAR that is unlike that of any other number. */
function numbered(index: number, root: Node): NarRecord {
  return { narSha256: sha256Of(`root ${index}`), narSize: index, root };
}

async function putAll(nars: NarIndex, roots: readonly Node[]): Promise<void> {
  for (const [index, root] of roots.entries()) await nars.put(numbered(index, root));
}

/** The same root made of other objects: a service must not go by which object it is. */
function copyOf(root: Node): Node {
  return decodeRootNode(encodeEntry(root));
}

/** Test that a service keeps the contract of `NarIndex`. */
export function narIndexConformance(open: Open<NarIndex>): void {
  registerCases(NAR_INDEX_CASES, open);
}

function expectNar(actual: NarRecord | undefined, expected: NarRecord): void {
  expect(actual && comparableNar(actual)).toEqual(comparableNar(expected));
}

function expectFile(actual: NarFileRecord | undefined, expected: NarFileRecord): void {
  expect(actual && comparableFile(actual)).toEqual(comparableFile(expected));
}

function comparableNar({ narSha256, narSize, root }: NarRecord): object {
  return { narSha256: hex(narSha256), narSize, root: hex(encodeEntry(root)) };
}

function comparableFile({ fileSha256, fileSize, codec }: NarFileRecord): object {
  return { fileSha256: hex(fileSha256), fileSize, codec };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

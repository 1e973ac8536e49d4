/** tar archives to castore and back: every byte of every archive, and the tree that whoever unpacks it gets. */
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { BlobRef } from "../../src/castore/blob-service.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { abortable } from "../../src/concurrency/abortable.ts";
import { linkSignal } from "../../src/concurrency/linked-signal.ts";
import { isNarborError } from "../../src/errors.ts";
import { BlobUploader } from "../../src/ingest/blob-uploader.ts";
import { dumpFilesystem } from "../../src/ingest/dump-filesystem.ts";
import type { ImportNarOptions } from "../../src/ingest/ingest-nar.ts";
import type { IngestedTar, IngestTarOptions } from "../../src/ingest/ingest-tar.ts";
import { ingestTar } from "../../src/ingest/ingest-tar.ts";
import { ClosureUpload } from "../../src/ingest/closure-upload.ts";
import { planNar } from "../../src/render/render-nar.ts";
import { planRecipe } from "../../src/render/render-recipe.ts";
import { type ReadBlobs, renderArchive } from "../../src/render/segments.ts";
import { chunked, collect, cuts, expectBytes, hexes, sampleBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { outputOf } from "../helpers/programs.ts";
import { RecordingStore } from "../helpers/recording-services.ts";
import { base256, END, GNU, gnuRanges, longName, pax, tarEntry, tarHeader } from "../helpers/reference-tar.ts";
import { sourceOf, streamOf, TrackedSource } from "../helpers/tracked-source.ts";
import { seededRandom } from "../nar/mutate-nar.ts";
import { mutateTar } from "../tar/mutate-tar.ts";
import { PYTHON } from "../tar/references.ts";
import { READ, REFUSED } from "../tar/tar-cases.ts";
import { CASES, GNU_TAR, makeDevices, makeTrees, writeArchive, writePythonArchives } from "../tar/write-archives.ts";

const MIB = 1024 * 1024;
type Limits = Pick<IngestTarOptions, "maxEntries" | "maxFileBytes" | "maxRecipeBytes" | "onEntry">;

/** Take an archive in as an image's layer is, and store all of it. */
async function ingest(source: AsyncIterable<Uint8Array>, store: Pick<ImportNarOptions, "blobs" | "directories">, limits: Limits = {}): Promise<IngestedTar> {
  using stop = linkSignal(undefined);
  const uploader = new BlobUploader(store.blobs, stop);
  try {
    const tar = await ingestTar(source, { ...limits, uploader, directorySizeProfile: "documented" });
    await uploader.join();
    await new ClosureUpload(store.directories, stop).finish(tar.directories);
    return tar;
  } catch (error) {
    stop.abort(error);
    throw error;
  }
}

async function rendered({ recipe, size }: IngestedTar, store: MemoryStore): Promise<Uint8Array> {
  return await collect(renderArchive(await planRecipe(recipe, size, store.blobs), store));
}

/** That an archive comes out as it went in, and is called what it is. */
async function expectSame(archive: Uint8Array, tar: IngestedTar, store: MemoryStore): Promise<void> {
  expectBytes(await rendered(tar, store), archive);
  expect(tar.size).toBe(archive.length);
  expectBytes(tar.sha256, createHash("sha256").update(archive).digest());
}

async function narOf(root: Node, store: MemoryStore): Promise<Uint8Array> {
  return await collect(renderArchive(await planNar(root, store), store));
}

/** A tree as text: `path: contents`, a star before those that may be run. */
async function treeOf(root: Node, store: MemoryStore): Promise<string[]> {
  const walk = async (node: Node, path: string): Promise<string[]> => {
    if (node.type === "symlink") return [`${path} -> ${Buffer.from(node.target).toString("latin1")}`];
    if (node.type === "file") {
      const content = await store.blobs.openRead(node.digest);
      return [`${node.executable ? "*" : ""}${path}: ${Buffer.from(await collect(content as AsyncIterable<Uint8Array>)).toString("latin1")}`];
    }
    const entries = [...decodeDirectory((await store.directories.get(node.digest)) as Uint8Array)];
    const below: string[] = [];
    for (const entry of entries) below.push(...(await walk(entry.node, `${path === "" ? "" : `${path}/`}${Buffer.from(entry.name).toString("latin1")}`)));
    return path === "" ? below : [`${path}/`, ...below];
  };
  return await walk(root, "");
}

async function ingestedTree(...parts: readonly Uint8Array[]): Promise<string[]> {
  await using store = new MemoryStore();
  const archive = Buffer.concat([...parts, END]);
  const tar = await ingest(sourceOf(archive), store);
  await expectSame(archive, tar, store);
  return await treeOf(tar.root, store);
}

describe("archives of real programs", () => {
  let directory: string;
  let count = 0;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "narbor-test-"));
    await makeTrees(directory);
  });
  afterAll(async () => await rm(directory, { recursive: true }));

  /** The NAR of what GNU tar makes of an archive, without what no NAR has, and with files that it leaves out. */
  async function unpackedNar(archive: Buffer, leftOut: Readonly<Record<string, string>>): Promise<Uint8Array> {
    const unpacked = join(directory, `unpacked-${++count}`);
    await mkdir(unpacked);
    // It ends with an error when it may not make a device, and warns of names.
    spawnSync(GNU_TAR ?? "", ["-x", "-p", "-f", "-", "-C", unpacked], { input: archive, env: { ...process.env, LC_ALL: "C.UTF-8" } });
    await outputOf("find", [unpacked, "!", "-type", "f", "!", "-type", "d", "!", "-type", "l", "-delete"]);
    for (const [path, content] of Object.entries(leftOut)) {
      await mkdir(join(unpacked, path, ".."), { recursive: true });
      await writeFile(join(unpacked, path), content);
    }
    const nar = await collect(dumpFilesystem(unpacked));
    await rm(unpacked, { recursive: true });
    return nar;
  }

  async function expectTaken(archive: Buffer, leftOut: Readonly<Record<string, string>> = {}): Promise<void> {
    await using store = new MemoryStore();
    const tar = await ingest(streamOf(chunked(archive, 10_007)), store);
    await expectSame(archive, tar, store);
    expectBytes(await narOf(tar.root, store), await unpackedNar(archive, leftOut));
  }

  test.for(CASES.filter(({ program }) => program !== undefined && GNU_TAR !== undefined).map((one) => [one.what, one] as const))("ingestTar() makes the tree that GNU tar unpacks, and gives back every byte, of an archive of %s", async ([, one]) => {
    // GNU tar unpacks nothing that has .. in its name.
    await expectTaken(await writeArchive(one, directory), one.holds !== undefined && "/abs/../plain/name" in one.holds ? { "plain/name": "the same" } : {});
  });

  test.skipIf(PYTHON === undefined || GNU_TAR === undefined)("ingestTar() makes the tree that GNU tar unpacks, and gives back every byte, of archives of Python's tarfile", async () => {
    for (const [name, archive] of await writePythonArchives(join(directory, "of-python"))) await expectTaken(archive, name === "pax-records.tar" ? {} : { path: "xx" });
  });

  test.skipIf(GNU_TAR === undefined || process.getuid?.() !== 0)("ingestTar() has devices in the recipe and not in the tree", async ({ skip }) => {
    if (!(await makeDevices(directory))) return skip("devices cannot be made here");
    const archive = await outputOf(GNU_TAR ?? "", ["-c", "devices"], { cwd: directory });
    await expectTaken(archive);
    await using store = new MemoryStore();
    expect(await treeOf((await ingest(sourceOf(archive), store)).root, store)).toEqual(["devices/"]);
  });
});

describe("archives of one thing each", () => {
  /** What the decoder reads, and no tree can hold. */
  const REFUSED_AS_TREE: Readonly<Record<string, RegExp>> = {
    "names that lead elsewhere": /path "\.\.\/\.\.\/up" leads out of the archive/,
    "a long name of 4,096 bytes": /has a component that no file may have as its name/,
    "a size in a header of type 2, which has no data": /is a symlink whose target no symlink may have/,
    "a PAX size for type 2, which has no data": /is a symlink whose target no symlink may have/,
  };
  const taken = READ.filter(({ what }) => !(what in REFUSED_AS_TREE));

  test.for(taken.map((one) => [one.what, one] as const))("ingestTar() takes %s, the same however it is cut, and gives it back", async ([, { archive }]) => {
    await using store = new MemoryStore();
    const whole = await ingest(sourceOf(archive), store);
    await expectSame(archive, whole, store);
    for (const [how, pieces] of archive.length > 20_000 ? [["in pieces of 997", chunked(archive, 997)] as const] : cuts(archive)) {
      const { recipe, root, entries } = await ingest(streamOf(pieces), store);
      expect({ recipe, root, entries }, how).toEqual({ recipe: whole.recipe, root: whole.root, entries: whole.entries });
    }
  });

  test.for(READ.filter(({ what }) => what in REFUSED_AS_TREE).map((one) => [one.what, one] as const))("ingestTar() refuses %s", async ([what, { archive }]) => {
    await expectCode(ingest(sourceOf(archive), new MemoryStore()), "ERR_TAR_INVALID", REFUSED_AS_TREE[what]);
  });

  test.for(REFUSED.map((one) => [one.what, one] as const))("ingestTar() refuses %s as the decoder does, and stores no directory", async ([, { archive, error }]) => {
    const recording = new RecordingStore();
    await expectCode(ingest(sourceOf(archive), recording), "ERR_TAR_INVALID", "");
    await expect(ingest(sourceOf(archive), new MemoryStore())).rejects.toMatchObject({ message: `Cannot parse tar: ${error}` });
    expect(recording.log).not.toContain("putClosure");
  });

  test("ingestTar() gives damaged archives back, or refuses them", async () => {
    const random = seededRandom(20_261_121);
    const originals = READ.filter(({ archive }) => archive.length < 20_000).map(({ archive }) => archive);
    const counts = { taken: 0, refused: 0 };
    for (let run = 0; run < 1_500; run++) {
      const archive = mutateTar(originals[run % originals.length] as Buffer, random);
      await using store = new MemoryStore();
      try {
        const tar = await ingest(sourceOf(archive), store, { maxFileBytes: 10 * MIB });
        await expectSame(archive, tar, store);
        counts.taken++;
      } catch (error) {
        if (!isNarborError(error, "ERR_TAR_INVALID", "ERR_LIMIT")) throw error;
        counts.refused++;
      }
    }
    expect(counts.taken).toBeGreaterThan(300);
    expect(counts.refused).toBeGreaterThan(300);
  });
});

describe("trees", () => {
  test("ingestTar() has the last entry of a path, whatever both are", async () => {
    expect(
      await ingestedTree(
        tarEntry({ name: "file" }, "first"),
        tarEntry({ name: "./file", mode: 0o755 }, "second"),
        tarEntry({ name: "was/a/directory" }, "x"),
        tarHeader({ name: "was", type: "2", linkName: "file" }),
        tarEntry({ name: "becomes" }, "x"),
        tarHeader({ name: "becomes/", type: "5" }),
        tarEntry({ name: "pipe" }, "x"),
        tarHeader({ name: "pipe", type: "6" }),
        tarEntry({ name: "device" }, "x"),
        tarHeader({ name: "device", type: "3" }),
        tarEntry({ name: "of a layer below" }, "x"),
        tarHeader({ name: "of a layer below", type: "1", linkName: "not here" }),
      ),
    ).toEqual(["becomes/", "*file: second", "was -> file"]);
  });

  test("ingestTar() makes hard links of what is there when they come", async () => {
    expect(
      await ingestedTree(
        tarEntry({ name: "a", mode: 0o755 }, "first"),
        tarHeader({ name: "b", type: "1", linkName: "./a" }),
        tarEntry({ name: "a" }, "second"),
        tarHeader({ name: "c", type: "1", linkName: "/a" }),
        tarHeader({ name: "d", type: "1", linkName: "b" }),
        tarHeader({ name: "s", type: "2", linkName: "elsewhere" }),
        tarHeader({ name: "t", type: "1", linkName: "s" }),
        tarHeader({ name: "u", type: "1", linkName: "later" }),
        tarEntry({ name: "later" }, "later"),
      ),
    ).toEqual(["a: second", "*b: first", "c: second", "*d: first", "later: later", "s -> elsewhere", "t -> elsewhere"]);
  });

  test.for([[0o644, false], [0o755, true], [0o100, true], [0o4755, true], [0o011, false], [0o677, false]] as const)("ingestTar() takes a file of mode %o to be executable as a NAR does", async ([mode, executable]) => {
    expect(await ingestedTree(tarEntry({ name: "a", mode }, "x"))).toEqual([executable ? "*a: x" : "a: x"]);
  });

  test("ingestTar() takes absolute names for those within the archive", async () => {
    expect(await ingestedTree(tarHeader({ name: "/", type: "5" }), tarEntry({ name: "/etc/passwd" }, "x"), tarEntry({ name: "///tmp/../a" }, "y"))).toEqual(["a: y", "etc/", "etc/passwd: x"]);
  });

  test("ingestTar() has names and targets that are not text as they are", async () => {
    expect(await ingestedTree(tarEntry({ name: Buffer.from("\xff\xfe\x01", "latin1") }, "x"), pax([["path", "\u{1f600}"], ["linkpath", Buffer.from([0xff])]]), tarHeader({ type: "2" }))).toEqual([
      `${Buffer.from("\u{1f600}").toString("latin1")} -> \xff`,
      "\xff\xfe\x01: x",
    ]);
  });

  test("ingestTar() keeps a global header's words in the recipe, as container runtimes do", async () => {
    expect(await ingestedTree(pax([["path", "of all"]], "g"), tarEntry({ name: "a" }, "x"))).toEqual(["a: x"]);
  });

  test("ingestTar() keeps what no file system has in the recipe, data and all", async () => {
    expect(
      await ingestedTree(
        tarEntry({ name: "a label", type: "V", magic: GNU }, "x".repeat(700)),
        tarEntry({ name: "unknown", type: "Z" }, "y".repeat(2_000_000)),
        tarEntry({ name: "dump/", type: "D", magic: GNU }, "Yfile\0\0"),
        tarEntry({ name: "a" }, "x"),
      ),
    ).toEqual(["a: x", "dump/"]);
  });

  test.for([
    ["small", 100_000, [[1_024, 512], [90_000, 100]]],
    ["large", 3 * MIB, [[0, 10], [1_500_000, 512], [3 * MIB - 20, 20]]],
    ["nothing but a hole", 2 * MIB, [[2 * MIB, 0]]],
    ["no hole at all", 512, [[0, 512]]],
  ] as const)("ingestTar() has the holes of a %s file in the tree, and not in the archive", async ([, size, ranges]) => {
    const stored = sampleBytes(ranges.reduce((sum, [, length]) => sum + length, 0));
    const expected = Buffer.alloc(size);
    let from = 0;
    for (const [offset, length] of ranges) Buffer.from(stored).copy(expected, offset, from, (from += length));
    await using store = new MemoryStore();
    const archive = Buffer.concat([tarEntry({ name: "s", type: "S", magic: GNU, realSize: size, sparse: gnuRanges(ranges) }, stored), END]);
    for (const pieces of [[archive], chunked(archive, 7)]) {
      const tar = await ingest(streamOf(pieces), store);
      await expectSame(archive, tar, store);
      const [entry] = [...decodeDirectory((await store.directories.get(tar.root.digest)) as Uint8Array)];
      const node = entry?.node;
      if (node?.type !== "file") expect.unreachable();
      expect(node.size).toBe(size);
      expectBytes(await collect((await store.blobs.openRead(node.digest)) as AsyncIterable<Uint8Array>), expected);
    }
  });

  test("ingestTar() shares files and directories with whatever else has them", async () => {
    const recording = new RecordingStore();
    const part = [tarEntry({ name: "usr/lib/a" }, "same"), tarEntry({ name: "usr/lib/b", mode: 0o755 }, sampleBytes(MIB + 1))];
    const { root: first } = await ingest(sourceOf(Buffer.concat([...part, END])), recording);
    const { root: second } = await ingest(sourceOf(Buffer.concat([longName("./usr/lib/b"), tarEntry({ mode: 0o700, uid: 7 }, sampleBytes(MIB + 1)), tarEntry({ name: "/usr/lib/a", mtime: 99 }, "same"), END])), recording);
    expect(hexes([first.digest])).toEqual(hexes([second.digest]));
  });
});

describe("errors", () => {
  test.for<readonly [string, readonly Uint8Array[], RegExp]>([
    ["a file", [tarEntry({ name: "a/../../b" }, "x")], /path "a\/\.\.\/\.\.\/b" leads out of the archive/],
    ["a symlink", [tarHeader({ name: "../b", type: "2", linkName: "x" })], /path "\.\.\/b" leads out of the archive/],
    ["a device", [tarHeader({ name: "../b", type: "3" })], /path "\.\.\/b" leads out of the archive/],
    ["a hard link", [tarHeader({ name: "../b", type: "1", linkName: "x" })], /path "\.\.\/b" leads out of the archive/],
    ["a hard link's target", [tarHeader({ name: "b", type: "1", linkName: "../x" })], /path "\.\.\/x" leads out of the archive/],
    ["an absolute name", [tarEntry({ name: "/../b" }, "x")], /path "\/\.\.\/b" leads out of the archive/],
    ["a PAX name", [pax([["path", "../b"]]), tarEntry({ name: "a" }, "x")], /path "\.\.\/b" leads out of the archive/],
  ])("ingestTar() refuses %s that leads out of the archive", async ([, parts, message]) => {
    await expectCode(ingest(sourceOf(Buffer.concat([...parts, END])), new MemoryStore()), "ERR_TAR_INVALID", message);
  });

  test("ingestTar() follows no symlink that leads out of the archive", async () => {
    expect(await ingestedTree(tarHeader({ name: "out", type: "2", linkName: "/etc" }), tarEntry({ name: "out/passwd" }, "x"))).toEqual(["out/", "out/passwd: x"]);
  });

  test.for(["octal", "base 256", "PAX"] as const)("ingestTar() takes no memory for 10 GB that an archive says it has, in %s", async (how) => {
    const size = 10_000_000_000;
    const header = how === "octal" ? tarHeader({ size: 0o77777777777 }) : how === "base 256" ? tarHeader({ magic: GNU, size: base256(BigInt(size), 12) }) : Buffer.concat([pax([["size", String(size)]]), tarHeader({})]);
    const before = process.memoryUsage().rss;
    await expectCode(ingest(streamOf(chunked(Buffer.concat([header, sampleBytes(300_000)]), 65_536)), new MemoryStore()), "ERR_TAR_INVALID", /input ends within .*entry "a"/);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * MIB);
  });

  test("ingestTar() refuses an archive that is cut short within an entry, wherever that is", async () => {
    const archive = Buffer.concat([pax([["mtime", "1.5"]]), tarEntry({ name: "a" }, "x".repeat(600)), longName("b"), tarEntry({ name: "b" }, sampleBytes(3_000)), END]);
    // Nothing at all, after the data of either, with or without its padding, and after half of the end.
    const ends = [[0, 0], [1_536 + 600, 2_560], [4_096 + 3_000, 7_168], [7_680, 7_680]] as const;
    for (const length of Array.from({ length: archive.length }, (_, index) => index).filter((index) => index % 41 === 0 || index % 512 < 2)) {
      const outcome = await ingest(sourceOf(archive.subarray(0, length)), new MemoryStore()).then(() => "taken", (error: unknown) => (isNarborError(error, "ERR_TAR_INVALID") ? "refused" : String(error)));
      expect([length, outcome]).toEqual([length, ends.some(([from, to]) => length >= from && length <= to) ? "taken" : "refused"]);
    }
  });

  test("ingestTar() rejects with its source's error, and leaves other uploads alone", async () => {
    const failure = new Error("the disk is gone");
    for (const size of [1_000, 2_000_000]) {
      await using store = new MemoryStore();
      using stop = linkSignal(undefined);
      const uploader = new BlobUploader(store.blobs, stop);
      const other = await uploader.addWhole(Buffer.from("other"));
      const archive = tarEntry({ name: "a" }, sampleBytes(size));
      const source = new TrackedSource(chunked(archive.subarray(0, 512 + size / 2), 10_000), { fail: failure });
      await expectReason(ingestTar(source, { uploader, directorySizeProfile: "documented" }), failure);
      expect(source.closed).toBe(true);
      await uploader.join();
      expect(await store.blobs.findMissing([other.digest])).toEqual([]);
    }
  });

  test("ingestTar() closes its source when the archive is wrong", async () => {
    const source = new TrackedSource(chunked(Buffer.concat([tarEntry({ name: "../a" }, "x"), Buffer.alloc(100_000)]), 512));
    await expectCode(ingest(source, new MemoryStore()), "ERR_TAR_INVALID");
    expect(source).toMatchObject({ returned: true, taken: 2 });
  });

  test.for([
    ["putMany", 5_000],
    ["put", 2_000_000],
  ] as const)("ingestTar() rejects with the error of %s(), though its source goes on and on", async ([method, size]) => {
    const failure = new Error("the store is gone");
    const fail = (): never => {
      throw failure;
    };
    const recording = new RecordingStore(method === "put" ? { beforePut: fail } : { beforePutMany: fail });
    async function* endless(): AsyncGenerator<Uint8Array, void, undefined> {
      for (let number = 0; ; number++) yield tarEntry({ name: `f${number}` }, sampleBytes(size, number));
    }
    using stop = linkSignal(undefined);
    const uploader = new BlobUploader(recording.blobs, stop, { bufferedBytes: MIB });
    await expectReason(ingestTar(endless(), { uploader, directorySizeProfile: "documented" }), failure);
  });

  test.for([
    ["its source", 5_000],
    ["its source, within a large file", 2_000_000],
  ] as const)("ingestTar() rejects with the uploader's reason while it waits for %s", async ([, size]) => {
    // Whoever gives it a source must make that heed the signal too, as importImages() does.
    const reason = new Error("enough");
    const controller = new AbortController();
    using stop = linkSignal(controller.signal);
    const uploader = new BlobUploader(new MemoryStore().blobs, stop);
    const source = new TrackedSource(chunked(tarEntry({ name: "a" }, sampleBytes(size)).subarray(0, 512 + size / 2), 10_000), "stuck");
    const ingesting = ingestTar(abortable(source, stop.signal), { uploader, directorySizeProfile: "documented" });
    void source.atEnd.then(() => controller.abort(reason));
    await expectReason(ingesting, reason);
    expect(source.closed).toBe(true);
  });
});

describe("limits", () => {
  const entries = (count: number): Buffer => Buffer.concat([...Array.from({ length: count }, (_, index) => tarEntry({ name: `f${index}` }, "x")), END]);

  test("ingestTar() takes as many entries as it may, and no more", async () => {
    expect((await ingest(sourceOf(entries(10)), new MemoryStore(), { maxEntries: 10 })).entries).toBe(10);
    await expectCode(ingest(sourceOf(entries(11)), new MemoryStore(), { maxEntries: 10 }), "ERR_LIMIT", "more than 10 entries");
  });

  test("ingestTar() counts entries that are in no tree, and directories that are only named", async () => {
    const pipes = Buffer.concat([...Array.from({ length: 11 }, () => tarHeader({ name: "p", type: "6" })), END]);
    await expectCode(ingest(sourceOf(pipes), new MemoryStore(), { maxEntries: 10 }), "ERR_LIMIT", "more than 10 entries");
    await expectCode(ingest(sourceOf(Buffer.concat([tarEntry({ name: `${"d/".repeat(11)}f` }), END])), new MemoryStore(), { maxEntries: 10 }), "ERR_LIMIT", "more than 10 entries");
  });

  test("ingestTar() takes as many bytes of files as it may, holes among them, and refuses more before it reads them", async () => {
    const limits = { maxFileBytes: 10_000 };
    expect((await ingest(sourceOf(Buffer.concat([tarEntry({ name: "a" }, sampleBytes(10_000)), END])), new MemoryStore(), limits)).entries).toBe(1);
    await expectCode(ingest(sourceOf(Buffer.concat([tarEntry({ name: "a" }, sampleBytes(9_999)), tarEntry({ name: "b" }, "xy")])), new MemoryStore(), limits), "ERR_LIMIT", "more than 10000 bytes");
    const sparse = tarHeader({ name: "s", type: "S", magic: GNU, realSize: base256(10n ** 15n, 12), sparse: gnuRanges([[0, 0]]) });
    await expectCode(ingest(sourceOf(Buffer.concat([sparse, END])), new MemoryStore(), limits), "ERR_LIMIT", "more than 10000 bytes");
    await expectCode(ingest(sourceOf(Buffer.concat([sparse, END])), new MemoryStore()), "ERR_LIMIT", "more than 1099511627776 bytes");
  });

  test("ingestTar() keeps to the limit of what is beside the files' contents", async () => {
    const comments = Buffer.concat([...Array.from({ length: 20 }, (_, index) => Buffer.concat([pax([["comment", Buffer.from(sampleBytes(100_000, index)).toString("hex")]]), tarEntry({ name: `f${index}` }, "x")])), END]);
    await expectCode(ingest(sourceOf(comments), new MemoryStore(), { maxRecipeBytes: 1_000_000 }), "ERR_LIMIT", "takes more than 1000000 bytes");
    await using store = new MemoryStore();
    await expectSame(comments, await ingest(sourceOf(comments), store), store);
  });

  test("ingestTar() takes a recipe of many bytes, and rubbish after the archive's end", async () => {
    const archive = Buffer.concat([tarEntry({ name: "a" }, "x"), END, sampleBytes(3_000_000)]);
    await using store = new MemoryStore();
    const tar = await ingest(streamOf(chunked(archive, 65_536)), store);
    expect(tar.recipe.size).toBeGreaterThan(3_000_000);
    await expectSame(archive, tar, store);
  });

  test("ingestTar() tells of every entry as it begins", async () => {
    const paths: string[] = [];
    await ingest(sourceOf(entries(3)), new MemoryStore(), { onEntry: ({ path }) => paths.push(Buffer.from(path).toString()) });
    expect(paths).toEqual(["f0", "f1", "f2"]);
  });
});

test("renderArchive() reads a small file with many holes once, not once for each of its pieces", async () => {
  const ranges = Array.from({ length: 20_000 }, (_, index) => ({ offset: index * 50, length: 1 }));
  const map = ranges.flatMap(({ offset, length }) => [offset, length]).join(",");
  const archive = Buffer.concat([
    pax([["GNU.sparse.size", "1000000"], ["GNU.sparse.numblocks", String(ranges.length)], ["GNU.sparse.map", map]]),
    tarEntry({ name: "s" }, "x".repeat(ranges.length)),
    END,
  ]);
  await using store = new MemoryStore();
  const tar = await ingest(sourceOf(archive), store);
  const plan = await planRecipe(tar.recipe, tar.size, store.blobs);
  let asked = 0;
  async function* counted(refs: Iterable<BlobRef> | AsyncIterable<BlobRef>): AsyncGenerator<BlobRef, void, undefined> {
    for await (const ref of refs) {
      asked++;
      yield ref;
    }
  }
  const { blobs } = store;
  const counting: ReadBlobs = { findMissing: blobs.findMissing.bind(blobs), openRead: blobs.openRead.bind(blobs), readMany: (refs, options) => blobs.readMany(counted(refs), options) };
  expectBytes(await collect(renderArchive(plan, { blobs: counting })), archive);
  expect(asked).toBe(1);
  const [start, end] = [archive.length - 15_000, archive.length - 2_000];
  expectBytes(await collect(renderArchive(plan, { blobs: counting }, { start, end })), archive.subarray(start, end));
  expect(asked).toBe(2);
});

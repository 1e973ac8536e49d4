import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isNarborError } from "../../src/errors.ts";
import type { TarHeaderFields } from "../../src/tar/tar-encoder.ts";
import { encodeTarHeader, TAR_END, tarPadding } from "../../src/tar/tar-encoder.ts";
import { arbitraryPieceSizes, cutInto } from "../arbitrary/nar-tree.ts";
import { expectBytes } from "../helpers/bytes.ts";
import { findProgram, outputOf } from "../helpers/programs.ts";
import { contentsOf, decodeTar, sha256Hex } from "../helpers/tar-events.ts";
import { asGoSees, asPythonSees, GO, GoTar, PYTHON, pythonListing } from "./references.ts";

interface Written extends TarHeaderFields {
  readonly contents?: Uint8Array;
}

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

function archiveOf(entries: readonly Written[]): Buffer {
  const parts = entries.flatMap(({ contents, ...fields }) =>
    contents === undefined ? [encodeTarHeader(fields)] : [encodeTarHeader({ ...fields, size: contents.length }), contents, tarPadding(contents.length)],
  );
  return Buffer.concat([...parts, TAR_END]);
}

/** Paths that ustar has room for, and such that it has not. */
const PLAIN = ["a", "bin/", "bin/hello", "n".repeat(100), `${"d/".repeat(49)}${"e".repeat(2)}`, `${"p".repeat(155)}/${"n".repeat(100)}`, `${"d/".repeat(100)}e`, `${"x".repeat(60)}/${"y".repeat(60)}`];
const LONG = ["n".repeat(101), `${"p".repeat(156)}/n`, `p/${"n".repeat(101)}`, `/${"n".repeat(100)}`, `${"long/".repeat(60)}end`];
const UNUSUAL = ["g\xc3\xbcnther", "not\xff\xfeUTF-8", "\xf0\x9f\x98\x80", " ", "new\nline", "=", `${"\xc3\xbc/".repeat(80)}e`, ".", "..", "/absolute"];

const EVERYTHING: readonly Written[] = [
  { path: bytes("bin"), kind: "directory", mode: 0o755 },
  { path: bytes("bin/hello"), kind: "file", mode: 0o555, contents: bytes("#!/bin/sh\necho hello\n") },
  { path: bytes("bin/hi"), kind: "symlink", mode: 0o777, linkTarget: bytes("hello") },
  { path: bytes("bin/same"), kind: "hardlink", mode: 0o555, linkTarget: bytes("bin/hello") },
  { path: bytes("empty"), kind: "file", mode: 0o444, contents: new Uint8Array(0) },
  { path: bytes("block"), kind: "file", mode: 0o644, contents: new Uint8Array(512).fill(0x78) },
  { path: bytes("owned"), kind: "file", mode: 0o4755, uid: 1_000, gid: 100, mtime: 1_700_000_000, contents: bytes("mine") },
  { path: bytes("far/away"), kind: "file", mode: 0o644, uid: 3_000_000, gid: 4_000_000_000, mtime: -1.5, contents: bytes("!") },
  { path: bytes("t"), kind: "symlink", mode: 0o777, linkTarget: bytes(`../${"t".repeat(200)}`) },
  { path: bytes("u"), kind: "symlink", mode: 0o777, linkTarget: bytes("\xff") },
  ...[...PLAIN, ...LONG, ...UNUSUAL].map((path): Written => ({ path: bytes(`e/${path}`), kind: path.endsWith("/") ? "directory" : "file", mode: 0o644 })),
];

describe("encodeTarHeader()", () => {
  test("gives a header of one block where ustar has room for everything", () => {
    const header = Buffer.from(encodeTarHeader({ path: bytes("bin/hello"), kind: "file", mode: 0o555, size: 1_234 }));
    const expected = Buffer.alloc(512);
    expected.write("bin/hello", 0);
    expected.write("0000555\x000000000\x000000000\x0000000002322\x0000000000001\x00011004\0 0", 100, "latin1");
    expected.write("ustar\x0000", 257, "latin1");
    expected.write("0000000\x000000000\0", 329, "latin1");
    expectBytes(header, expected);
  });

  test.for(PLAIN)("needs no PAX header for the path %j", (path) => {
    const kind = path.endsWith("/") ? "directory" : "file";
    expect(encodeTarHeader({ path: bytes(path), kind, mode: 0o644 })).toHaveLength(512);
  });

  test.for([...LONG, ...UNUSUAL.slice(0, 3)])("gives a PAX header for the path %j, and something for those who do not read it", (path) => {
    const encoded = Buffer.from(encodeTarHeader({ path: bytes(path), kind: "file", mode: 0o644 }));
    expect(encoded.length).toBeGreaterThanOrEqual(1_536);
    expect(encoded.subarray(0, 15).toString()).toBe("././@PaxHeader\0");
    const standIn = encoded.subarray(-512, -412).toString("latin1").replace(/\0+$/, "");
    expect(standIn).toMatch(/^[\x20-\x7e]+$/);
    expect(standIn).not.toMatch(/\/$/);
  });

  test.for([
    ["a size of 8 GiB", { size: 8 * 2 ** 30 }, "19 size=8589934592\n"],
    ["a large uid", { uid: 2_097_152 }, "15 uid=2097152\n"],
    ["a large gid", { gid: 2 ** 40 }, "21 gid=1099511627776\n"],
    ["a time before 1970", { mtime: -1 }, "12 mtime=-1\n"],
    ["a time with a fraction", { mtime: 1.25 }, "14 mtime=1.25\n"],
    ["a time with next to no fraction", { mtime: 10.000_000_000_01 }, "12 mtime=10\n"],
    ["a time after 2242", { mtime: 2 ** 33 }, "20 mtime=8589934592\n"],
    ["a path that is not UTF-8", { path: bytes("\xff") }, "21 hdrcharset=BINARY\n9 path=\xff\n"],
    ["a path of 100 bytes with all that belongs to it", { path: bytes("\xc3\xbc".repeat(46)) }, `102 path=${"\xc3\xbc".repeat(46)}\n`],
    ["a path whose record's length has a digit more for it", { path: bytes("\xc3\xbc".repeat(45)) }, `99 path=${"\xc3\xbc".repeat(45)}\n`],
  ] as const)("writes PAX records for %s, and no others", ([, fields, records]) => {
    const encoded = Buffer.from(encodeTarHeader({ path: bytes("a"), kind: "file", mode: 0o644, ...fields }));
    expect(encoded.subarray(512, 512 + records.length + 1).toString("latin1")).toBe(`${records}\0`);
  });

  test("gives 8 GiB and a byte less without a PAX header", () => {
    expect(encodeTarHeader({ path: bytes("a"), kind: "file", mode: 0o644, size: 8 * 2 ** 30 - 1, uid: 2_097_151, gid: 2_097_151, mtime: 2 ** 33 - 1 })).toHaveLength(512);
  });

  test.for([
    ["an empty path", { path: bytes("") }],
    ["a path with a NUL", { path: bytes("a\0") }],
    ["a symlink without a target", { kind: "symlink" }],
    ["a file with a target", { linkTarget: bytes("b") }],
    ["a directory with a size", { kind: "directory", size: 1 }],
    ["a mode with a file's type", { mode: 0o100644 }],
    ["a negative size", { size: -1 }],
    ["a size with a fraction", { size: 1.5 }],
    ["a negative uid", { uid: -1 }],
    ["a time that is none", { mtime: Number.NaN }],
    ["a time without end", { mtime: Number.POSITIVE_INFINITY }],
  ] as const)("throws RangeError for %s", ([, fields]) => {
    expect(() => encodeTarHeader({ path: bytes("a"), kind: "file", mode: 0o644, ...fields })).toThrow(RangeError);
  });

  test("throws ERR_LIMIT for a path or a target that its decoder would refuse", () => {
    for (const fields of [{ path: bytes("n".repeat(4_097)) }, { path: bytes("n".repeat(4_096)), kind: "directory" }, { kind: "symlink", linkTarget: bytes("t".repeat(4_097)) }] as const) {
      let error: unknown;
      try {
        encodeTarHeader({ path: bytes("a"), kind: "file", mode: 0o644, ...fields });
      } catch (thrown) {
        error = thrown;
      }
      expect(isNarborError(error, "ERR_LIMIT")).toBe(true);
    }
  });

  test("gives the same archive on every machine", () => {
    expect(sha256Hex(archiveOf(EVERYTHING))).toBe("5ff58e9c5515b87a1fd4af336f7fc0746ead204c330540418d489a34d2debffa");
  });
});

test("tarPadding() fills a block", () => {
  expect([0, 1, 511, 512, 513, 8 * 2 ** 30, 8 * 2 ** 30 + 1].map((size) => tarPadding(size).length)).toEqual([0, 511, 1, 0, 511, 0, 511]);
});

describe("what others read in it", () => {
  const archive = archiveOf(EVERYTHING);
  const GNU_TAR = findProgram(["tar"], "archives that GNU tar reads and writes");
  const BSD_TAR = findProgram(["bsdtar"], "archives that bsdtar reads");
  let go: GoTar | undefined;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "narbor-test-"));
    if (GO !== undefined) go = await GoTar.build(GO);
  });
  afterAll(async () => {
    go?.[Symbol.dispose]();
    await rm(directory, { recursive: true });
  });

  test("TarDecoder reads what was written", () => {
    const { entries } = decodeTar([archive]);
    expect(entries).toHaveLength(EVERYTHING.length);
    for (const [index, { path, kind, mode, linkTarget, mtime = 1, uid = 0, gid = 0, contents }] of EVERYTHING.entries()) {
      const text = Buffer.from(path).toString("latin1");
      expect(entries[index]).toMatchObject({
        path: kind === "directory" && !text.endsWith("/") ? `${text}/` : text,
        kind,
        mode,
        mtime,
        uid,
        gid,
        linkTarget: Buffer.from(linkTarget ?? "").toString("latin1"),
        data: Buffer.from(contents ?? "").toString("latin1"),
      });
    }
  });

  test.skipIf(GO === undefined)("Go's archive/tar reads it as TarDecoder does", async () => {
    expect(await go?.list([archive])).toEqual([{ entries: asGoSees(archive), error: "" }]);
  });

  test.skipIf(PYTHON === undefined)("Python's tarfile reads it as TarDecoder does", async () => {
    expect(await pythonListing(PYTHON ?? "", archive)).toEqual(asPythonSees(decodeTar([archive])));
  });

  test.skipIf(GNU_TAR === undefined)("GNU tar unpacks it", async () => {
    await expectUnpacked(GNU_TAR ?? "", ["--warning=no-unknown-keyword"]);
  });

  test.skipIf(BSD_TAR === undefined)("bsdtar unpacks it", async () => {
    await expectUnpacked(BSD_TAR ?? "", []);
  });

  async function expectUnpacked(program: string, options: readonly string[]): Promise<void> {
    const entries = EVERYTHING.filter(({ path }) => !/^e\/(\.|\.\.|\/absolute)$/.test(Buffer.from(path).toString("latin1")) && !path.includes(0xff));
    const file = join(directory, `${program}.tar`);
    const root = join(directory, program);
    await writeFile(file, archiveOf(entries));
    await mkdir(root);
    await outputOf(program, [...options, "-x", "-f", file, "-C", root, "--no-same-owner"], { env: { ...process.env, LC_ALL: "C.UTF-8" } });
    for (const { path, kind, linkTarget, contents, mode } of entries) {
      const at = Buffer.concat([Buffer.from(`${root}/`), path]);
      if (kind === "symlink") expect(await readlink(at, "latin1")).toBe(Buffer.from(linkTarget ?? "").toString("latin1"));
      else if (kind === "directory") expect((await readdir(at)).length).toBeGreaterThanOrEqual(0);
      else {
        expectBytes(await readFile(at), contents ?? (kind === "hardlink" ? (EVERYTHING[1]?.contents as Uint8Array) : new Uint8Array(0)));
        expect((await stat(at)).mode & 0o777).toBe(mode & 0o777);
      }
    }
  }

  test.skipIf(GNU_TAR === undefined)("GNU tar writes the same bytes for what ustar has room for", async () => {
    const root = join(directory, "plain");
    const paths = PLAIN.filter((path) => !path.endsWith("/")).sort();
    for (const path of paths) {
      await mkdir(join(root, path, ".."), { recursive: true });
      await writeFile(join(root, path), path, { mode: 0o644 });
    }
    const theirs = await outputOf(GNU_TAR ?? "", ["-c", "--format=ustar", "--blocking-factor=1", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1", "--mode=0644", "-C", root, ...paths]);
    expectBytes(archiveOf(paths.map((path) => ({ path: bytes(path), kind: "file", mode: 0o644, contents: bytes(path) }))), theirs);
  });
});

describe("properties", () => {
  const arbitraryPath = fc
    .oneof(
      { weight: 3, arbitrary: fc.array(fc.constantFrom("a", "bin", "share", "x".repeat(60), "y".repeat(120), "\xc3\xbc", "\xff", " "), { minLength: 1, maxLength: 12 }).map((names) => bytes(names.join("/"))) },
      { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 400 }).map((path) => path.map((byte) => (byte === 0 ? 0x2f : byte))) },
    )
    .map((path) => new Uint8Array(path));
  const arbitraryId = fc.oneof(fc.constantFrom(0, 1_000, 2_097_151, 2_097_152), fc.maxSafeNat());
  const common = { path: arbitraryPath, mode: fc.integer({ min: 0, max: 0o7777 }), uid: arbitraryId, gid: arbitraryId, mtime: fc.oneof(fc.constantFrom(1, 0.5, -3, 2 ** 33), fc.maxSafeInteger()) };
  const arbitraryEntry: fc.Arbitrary<Written> = fc.oneof(
    fc.record({ ...common, kind: fc.constant("file" as const), contents: fc.uint8Array({ maxLength: 1_500 }) }),
    fc.record({ ...common, kind: fc.constant("directory" as const) }),
    fc.record({ ...common, kind: fc.constantFrom("symlink" as const, "hardlink" as const), linkTarget: arbitraryPath }),
  );

  test("TarDecoder gives back any entries that are encoded, however their archive is cut", () => {
    fc.assert(
      fc.property(fc.array(arbitraryEntry, { maxLength: 6 }), arbitraryPieceSizes, (entries, sizes) => {
        const archive = archiveOf(entries);
        const tar = decodeTar(cutInto(archive, sizes));
        expectBytes(tar.bytes, archive);
        expect(tar.entries).toHaveLength(entries.length);
        for (const [index, found] of tar.entries.entries()) {
          const { path, kind, mode, uid, gid, mtime, linkTarget, contents } = entries[index] as Written;
          const text = Buffer.from(path).toString("latin1");
          expect(found).toMatchObject({ kind, mode, uid, gid, mtime, path: kind === "directory" && !text.endsWith("/") ? `${text}/` : text, linkTarget: Buffer.from(linkTarget ?? "").toString("latin1") });
          expectBytes(contentsOf(found), contents ?? new Uint8Array(0));
        }
      }),
      { numRuns: 300 },
    );
  });
});

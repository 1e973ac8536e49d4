/**
 * The decoder on archives that other programs write of one tree, each in all its formats: it must read what Go's archive/tar and Python's tarfile
 * read in them, and give back every byte.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectBytes } from "../helpers/bytes.ts";
import { outputOf } from "../helpers/programs.ts";
import { contentsOf, decodeTar } from "../helpers/tar-events.ts";
import { asGoSees, asPythonSees, GO, GoTar, PYTHON, pythonListing } from "./references.ts";
import { BSD_TAR, type Case, CASES, GNU_TAR, makeDevices, makeTrees, setXattrs, writeArchive, writePythonArchives } from "./write-archives.ts";

describe("archives of real programs", () => {
  let directory: string;
  let go: GoTar | undefined;
  let hasXattrs = false;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "narbor-test-"));
    await makeTrees(directory);
    hasXattrs = setXattrs(join(directory, "xattrs"));
    if (GO !== undefined) go = await GoTar.build(GO);
  });
  afterAll(async () => {
    go?.[Symbol.dispose]();
    await rm(directory, { recursive: true });
  });

  async function expectRead(archive: Buffer, { holds = {}, python }: Partial<Case> = {}): Promise<void> {
    const tar = decodeTar([archive]);
    expectBytes(tar.bytes, archive);
    const found = Object.fromEntries(tar.entries.map((entry) => [entry.path, entry]));
    expect(found).toMatchObject(holds);
    if (go !== undefined) expect([{ entries: asGoSees(archive), error: "" }]).toEqual(await go.list([archive]));
    if (PYTHON !== undefined && python === undefined) expect(asPythonSees(tar)).toEqual(await pythonListing(PYTHON, archive));
  }

  test.for(CASES.filter(({ program }) => program !== undefined).map((one) => [one.what, one] as const))("TarDecoder reads an archive of %s", async ([, one]) => {
    await expectRead(await writeArchive(one, directory), one);
  });

  test.skipIf(GNU_TAR === undefined)("TarDecoder reads contents with holes as they are on disk", async () => {
    for (const format of [["--format=gnu"], ["--format=posix", "--sparse-version=0.0"], ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"]]) {
      const { entries } = decodeTar([await outputOf(GNU_TAR ?? "", ["-c", ...format, "--sparse", "sparse"], { cwd: directory })]);
      for (const entry of entries.filter(({ kind }) => kind === "file")) expectBytes(contentsOf(entry), await readFile(join(directory, entry.path)));
    }
  });

  test.skipIf(GNU_TAR === undefined)("TarDecoder reads extended attributes", async ({ skip }) => {
    if (!hasXattrs) {
      console.log("not covered: extended attributes in tar archives, which this file system or Python does not have");
      return skip("no extended attributes");
    }
    const options = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    const holds = { "xattrs/a": { xattrs: { "user.one": "1", "user.bytes": "\0\xff=\n" } } };
    await expectRead(await outputOf(GNU_TAR ?? "", ["-c", ...options, "xattrs"], { cwd: directory }), { holds });
    if (BSD_TAR !== undefined) await expectRead(await outputOf(BSD_TAR, ["-c", "-f", "-", "--format=pax", "--xattrs", "xattrs"], { cwd: directory }), { holds });
  });

  test.skipIf(GNU_TAR === undefined || process.getuid?.() !== 0)("TarDecoder reads device nodes", async ({ skip }) => {
    if (!(await makeDevices(directory))) return skip("devices cannot be made here");
    const holds = { "devices/null": { kind: "characterDevice", deviceMajor: 1, deviceMinor: 3 }, "devices/disk": { kind: "blockDevice", deviceMajor: 259, deviceMinor: 1_048_575 } } as const;
    for (const format of ["gnu", "ustar", "posix"]) await expectRead(await outputOf(GNU_TAR ?? "", ["-c", `--format=${format}`, "devices"], { cwd: directory }), { holds });
    if (BSD_TAR !== undefined) await expectRead(await outputOf(BSD_TAR, ["-c", "-f", "-", "--format=pax", "devices"], { cwd: directory }), { holds });
  });

  test.skipIf(PYTHON === undefined)("TarDecoder reads archives of Python's tarfile", async () => {
    const written = await writePythonArchives(join(directory, "of-python"));
    expect([...written.keys()]).toEqual(["gnu.tar", "pax-records.tar", "pax.tar", "ustar.tar"]);
    for (const [name, archive] of written) {
      const holds: Case["holds"] =
        name === "pax-records.tar"
          ? { global: { uid: 77, gid: 78, mtime: 1_234_567_890.5 }, own: { uid: 2, gid: 78, mtime: -12.75 }, "a name of PAX": { data: "xxxxx" }, link: { linkTarget: "a target of PAX" } }
          : { "/absolute/../path": { data: "xx" }, "directory/513": { size: 513 }, contiguous: { kind: "file" }, fifo: { kind: "fifo", mode: 0o6644 } };
      await expectRead(archive, { holds });
    }
  });
});

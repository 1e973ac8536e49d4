/** Archives that GNU tar, bsdtar and Python's tarfile write of one tree, each in all its formats. */
import { execFileSync } from "node:child_process";
import { chmod, link, lutimes, mkdir, open, readFile, readdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { findProgram, outputOf } from "../helpers/programs.ts";
import type { PlainTarEntry } from "../helpers/tar-events.ts";
import { PYTHON } from "./references.ts";

export const GNU_TAR = findProgram(["tar"], "archives of GNU tar");
export const BSD_TAR = findProgram(["bsdtar"], "archives of bsdtar");
const WRITER = resolve(import.meta.dirname, "references/write_tars.py");
const TIME = 1_700_000_000;
const LONG = join(...Array.from({ length: 12 }, (_, index) => `a directory with a long name ${index}`), "file");
/** What ustar has room for in two fields, and V7 has not. */
const PREFIXED = `prefixed/${"d".repeat(60)}/${"e".repeat(60)}`;
const HOLE = 1024 * 1024;

/** How an archive is made, and what is in it. */
export interface Case {
  readonly what: string;
  readonly program: string | undefined;
  readonly args: readonly string[];
  /** What is in it, of those that are looked at. */
  readonly holds?: Readonly<Record<string, Partial<PlainTarEntry>>>;
  /** Python's tarfile takes times of GNU headers for a prefix. */
  readonly python?: "misreads";
}

const gnu = (what: string, args: readonly string[], more: Partial<Case> = {}): Case => ({ what: `GNU tar ${what}`, program: GNU_TAR, args: ["--sort=name", "-c", ...args], ...more });
const bsd = (what: string, args: readonly string[], more: Partial<Case> = {}): Case => ({ what: `bsdtar ${what}`, program: BSD_TAR, args: ["-c", "-f", "-", ...args], ...more });

const LINKS = { "plain/symlink": { kind: "symlink", linkTarget: "../far/away" }, "plain/name": { kind: "file", data: "the same", size: 8 }, "plain/other name": { kind: "hardlink", linkTarget: "plain/name" } } as const;
const HARD = {
  [`hard/${LONG}`]: { kind: "file", data: "far down" },
  "hard/link to it": { kind: "symlink", linkTarget: LONG },
  [Buffer.from("hard/\u00fc\u{1f600}").toString("latin1")]: { kind: "file", data: "not ASCII" },
  "hard/\xff\xfe": { kind: "file", data: "not UTF-8" },
} as const;
const SPARSE = { "sparse/all hole": { size: 3 * HOLE, storedSize: 0 }, "sparse/end": { size: HOLE + 6 }, "sparse/some": { size: 4 * HOLE } } as const;
const IDS = ["--owner=me:3000000", "--group=us:4000000000"] as const;

export const CASES: readonly Case[] = [
  gnu("--format=v7", ["--format=v7", "--exclude=fifo", "plain"], { holds: LINKS }),
  ...["oldgnu", "gnu", "ustar", "posix"].map((format) => gnu(`--format=${format}`, [`--format=${format}`, "plain", "prefixed"], { holds: { ...LINKS, [PREFIXED]: { data: "with a prefix" } } })),
  ...["oldgnu", "gnu", "posix"].map((format) => gnu(`--format=${format} of long names`, [`--format=${format}`, "hard"], { holds: HARD })),
  ...["oldgnu", "gnu"].map((format) => gnu(`--format=${format} --sparse`, [`--format=${format}`, "--sparse", "sparse"], { holds: SPARSE })),
  ...["0.0", "0.1", "1.0"].map((version) => gnu(`--sparse-version=${version}`, ["--format=posix", "--sparse", `--sparse-version=${version}`, "sparse"], { holds: SPARSE })),
  gnu("with ids of base 256", ["--format=gnu", ...IDS, "plain/name"], { holds: { "plain/name": { uid: 3_000_000, gid: 4_000_000_000 } } }),
  gnu("with ids in PAX records", ["--format=posix", ...IDS, "plain/name"], { holds: { "plain/name": { uid: 3_000_000, gid: 4_000_000_000 } } }),
  gnu("with a time before 1970", ["--format=gnu", "--mtime=@-86400", "plain/name"], { holds: { "plain/name": { mtime: -86_400 } } }),
  gnu("with a PAX time before 1970", ["--format=posix", "--mtime=@-86400.25", "plain/name"], { holds: { "plain/name": { mtime: -86_400.25 } } }),
  gnu("with PAX records of its user's choosing", ["--format=posix", "--pax-option=globexthdr.name=g,comment=hello,SCHILY.xattr.user.b:=all", "plain"]),
  gnu("--hard-dereference", ["--hard-dereference", "plain"], { holds: { "plain/other name": { kind: "file", data: "the same" } } }),
  gnu("--label", ["--label=a volume", "plain"], { holds: { "a volume": { kind: "other", typeFlag: "V" } } }),
  gnu("--listed-incremental", ["--format=gnu", "--listed-incremental=1.snar", "plain"], { holds: { "plain/": { kind: "other", typeFlag: "D" } }, python: "misreads" }),
  gnu("--listed-incremental in PAX", ["--format=posix", "--listed-incremental=2.snar", "plain"], { holds: { "plain/": { kind: "directory", typeFlag: "5" } } }),
  gnu("with names that lead elsewhere", ["-P", "--transform=s,^,/abs/../,", "plain/name"], { holds: { "/abs/../plain/name": { data: "the same" } } }),
  gnu("--record-size=512", ["-b", "1", "plain"]),
  gnu("--record-size=1M", ["-b", "2048", "plain"]),
  gnu("of nothing", ["-T", "/dev/null"]),

  ...["pax", "gnutar", "ustar", "v7"].map((format) => bsd(`--format=${format}`, [`--format=${format}`, "plain"], { holds: { "plain/symlink": LINKS["plain/symlink"] } })),
  ...["pax", "gnutar"].map((format) => bsd(`--format=${format} of long names`, [`--format=${format}`, "hard"], { holds: HARD })),
  bsd("of files with holes", ["--format=pax", "sparse"], { holds: { "sparse/end": { size: HOLE + 6 } } }),
  bsd("with large ids", ["--format=pax", "--uid=3000000", "--gid=2000000000", "plain"]),
];

/** Of its user's machine nothing is to be seen. */
const ENVIRONMENT = { ...process.env, LC_ALL: "C.UTF-8", TZ: "UTC" };

/** An archive of what is in `directory`. */
export async function writeArchive({ program, args }: Pick<Case, "program" | "args">, directory: string): Promise<Buffer> {
  return await outputOf(program ?? "", args, { cwd: directory, env: ENVIRONMENT });
}

/** Archives of Python's tarfile, by name. */
export async function writePythonArchives(directory: string): Promise<ReadonlyMap<string, Buffer>> {
  await mkdir(directory);
  await outputOf(PYTHON ?? "", [WRITER, directory]);
  const names = (await readdir(directory)).sort();
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(directory, name))] as const)));
}

/** Device nodes in `devices`. False where none can be made. */
export async function makeDevices(root: string): Promise<boolean> {
  await mkdir(join(root, "devices"), { recursive: true });
  try {
    execFileSync("mknod", [join(root, "devices/null"), "c", "1", "3"], { stdio: "ignore" });
    execFileSync("mknod", [join(root, "devices/disk"), "b", "259", "1048575"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** What the cases are made of: `plain`, `prefixed`, `hard`, `sparse` and `xattrs` in a directory. */
export async function makeTrees(root: string): Promise<void> {
  const plain = join(root, "plain");
  await mkdir(join(plain, "empty directory"), { recursive: true });
  for (const size of [0, 1, 511, 512, 513, 70_000]) await writeFile(join(plain, String(size)), "x".repeat(size));
  await writeFile(join(plain, "program"), "#!/bin/sh\n");
  await chmod(join(plain, "program"), 0o4755);
  await writeFile(join(plain, "name"), "the same");
  await link(join(plain, "name"), join(plain, "other name"));
  await symlink("../far/away", join(plain, "symlink"));
  await lutimes(join(plain, "symlink"), TIME, TIME);
  execFileSync("mkfifo", [join(plain, "fifo")]);
  await utimes(join(plain, "name"), TIME, TIME + 0.123456);

  await mkdir(join(root, PREFIXED, ".."), { recursive: true });
  await writeFile(join(root, PREFIXED), "with a prefix");

  const hard = join(root, "hard");
  await mkdir(join(hard, LONG, ".."), { recursive: true });
  await writeFile(join(hard, LONG), "far down");
  await symlink(LONG, join(hard, "link to it"));
  await writeFile(join(hard, "\u00fc\u{1f600}"), "not ASCII");
  await writeFile(Buffer.concat([Buffer.from(`${hard}/`), Buffer.from([0xff, 0xfe])]), "not UTF-8");
  await utimes(join(hard, LONG), TIME, TIME + 0.987654);

  const sparse = join(root, "sparse");
  await mkdir(sparse);
  await writeSparse(join(sparse, "some"), 4 * HOLE, [[0, "first"], [HOLE, "second"], [HOLE + 8_192, "third"], [3 * HOLE + 100, "fourth"]]);
  await writeSparse(join(sparse, "all hole"), 3 * HOLE, []);
  await writeSparse(join(sparse, "end"), HOLE + 6, [[HOLE, "at end"]]);
  // More ranges than a header and a block after it hold.
  await writeSparse(join(sparse, "many"), 60 * 65_536, Array.from({ length: 60 }, (_, index) => [index * 65_536 + 32_768, `piece ${index}`] as const));
  await writeFile(join(sparse, "none"), "x".repeat(5_000));

  await mkdir(join(root, "xattrs"));
  await writeFile(join(root, "xattrs/a"), "with attributes");
}

async function writeSparse(path: string, size: number, pieces: readonly (readonly [offset: number, text: string])[]): Promise<void> {
  const file = await open(path, "w");
  try {
    for (const [offset, text] of pieces) await file.write(Buffer.from(text), 0, text.length, offset);
    await file.truncate(size);
  } finally {
    await file.close();
  }
}

/** Give the file in `xattrs` attributes, which Node.js cannot. Whether there are such. */
export function setXattrs(directory: string): boolean {
  if (PYTHON === undefined) return false;
  const script = 'import os, sys; os.setxattr(sys.argv[1], "user.one", b"1"); os.setxattr(sys.argv[1], "user.bytes", b"\\0\\xff=\\n")';
  try {
    execFileSync(PYTHON, ["-c", script, join(directory, "a")], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

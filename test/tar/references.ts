/** What others read in an archive. */
import { mkdtempSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isNarborError } from "../../src/errors.ts";
import { findProgram, outputOf } from "../helpers/programs.ts";
import type { PlainTar, PlainTarEntry } from "../helpers/tar-events.ts";
import { contentsOf, decodeTar, sha256Hex } from "../helpers/tar-events.ts";

const GO_SOURCE = resolve(import.meta.dirname, "references/list-tar.go");
const PYTHON_SOURCE = resolve(import.meta.dirname, "references/list_tar.py");

/** Undefined where it is missing, which is a failure in CI. */
export const GO = findProgram(["go", "/usr/local/go/bin/go"], "tar archives against Go's archive/tar", "version");
export const PYTHON = findProgram(["python3"], "tar archives against Python's tarfile");

/** Contents of files beyond this are not compared: list-tar.go has it too. */
const MAX_CONTENTS = 64 * 1024 * 1024;

/** An entry as both sides can say it. */
export interface Listed {
  readonly path: string;
  readonly kind: string;
  readonly linkTarget: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** To the microsecond, which a number holds. */
  readonly mtime: number;
  readonly device: readonly [major: number, minor: number];
  readonly size: number;
  readonly xattrs: Readonly<Record<string, string>>;
  /** Of the contents, holes and all; empty when there are too many of them. */
  readonly sha256: string;
}

/** What we say of an archive. */
export function listed(tar: PlainTar): Listed[] {
  return tar.entries.map((entry) => ({
    path: entry.path,
    kind: entry.kind,
    linkTarget: entry.linkTarget,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: toMicroseconds(entry.mtime),
    device: [entry.deviceMajor, entry.deviceMinor],
    size: entry.size,
    xattrs: entry.xattrs,
    sha256: entry.size > MAX_CONTENTS ? "" : sha256Hex(contentsOf(entry)),
  }));
}

export interface GoListing {
  readonly entries: readonly Listed[];
  /** What is wrong with the archive to Go; empty when nothing is. */
  readonly error: string;
}

interface GoEntry {
  readonly Path: string;
  readonly Link: string;
  readonly Type: string;
  readonly Mode: number;
  readonly UID: number;
  readonly GID: number;
  readonly Seconds: number;
  readonly Nanoseconds: number;
  readonly Major: number;
  readonly Minor: number;
  readonly Size: number;
  readonly Xattrs: Readonly<Record<string, string>>;
  readonly SHA256: string;
}

const KIND_OF_GO: Readonly<Record<string, string>> = { "0": "file", "7": "file", S: "file", "1": "hardlink", "2": "symlink", "3": "characterDevice", "4": "blockDevice", "5": "directory", "6": "fifo" };

/** Go's archive/tar as a program: built once, gone when it is disposed. */
export class GoTar implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "narbor-go-tar-"));
  readonly #program = join(this.#directory, "list-tar");

  static async build(go: string): Promise<GoTar> {
    const built = new GoTar();
    await outputOf(go, ["build", "-o", built.#program, GO_SOURCE], { env: { ...process.env, GOTOOLCHAIN: "local", GOFLAGS: "" } });
    return built;
  }

  async list(archives: readonly Uint8Array[]): Promise<GoListing[]> {
    const lengths = archives.map((archive) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(archive.length);
      return length;
    });
    const input = Buffer.concat(archives.flatMap((archive, index) => [lengths[index] as Buffer, archive]));
    const lines = (await outputOf(this.#program, [], { input })).toString().trimEnd().split("\n");
    return lines.map((line) => {
      const { Entries, Error: error } = JSON.parse(line) as { readonly Entries: readonly GoEntry[]; readonly Error: string };
      return { entries: Entries.map(fromGo), error };
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}

function fromGo(entry: GoEntry): Listed {
  const kind = KIND_OF_GO[entry.Type] ?? "other";
  return {
    path: fromBase64(entry.Path),
    kind,
    linkTarget: kind === "symlink" || kind === "hardlink" ? fromBase64(entry.Link) : "",
    mode: entry.Mode & 0o7777,
    uid: entry.UID,
    gid: entry.GID,
    mtime: toMicroseconds(entry.Seconds + entry.Nanoseconds / 1e9),
    device: [entry.Major, entry.Minor],
    size: kind === "file" || kind === "other" ? entry.Size : 0,
    xattrs: Object.fromEntries(Object.entries(entry.Xattrs).map(([name, value]) => [name, fromBase64(value)])),
    // What has no contents has those of an empty file, whatever size its header says.
    sha256: kind === "file" || kind === "other" ? entry.SHA256 : sha256Hex(new Uint8Array(0)),
  };
}

/** What we refuse and Go may read, by our messages. */
const STRICTER = [
  /size of entry .* is -\d+ at/,
  /beyond 2\^53/,
  /longer than 4096/,
  /unknown version/,
  /sparse map of entry .* is of \d+ bytes, and \d+ are stored/,
  /more than 65536 ranges/,
  /PAX record ".*" is not a number/,
  /after its extended header|the end follows an extended header/,
];

/** What we read in an archive, where global headers are ignored, as Go's callers do; or why we do not read it. */
export function asGoSees(archive: Uint8Array): Listed[] | string {
  try {
    return listed(decodeTar([archive], { globalHeaders: "ignore" }));
  } catch (error) {
    if (isNarborError(error, "ERR_TAR_INVALID")) return error.message;
    throw error;
  }
}

export interface Differences {
  /** Archives that both read, and that we do not. */
  readonly both: number;
  readonly neither: number;
  /** What is read otherwise than by Go, or refused and Go reads it, and the decoder does not say so: archives in base64. */
  readonly differences: readonly string[];
}

/** Hold what we read in archives against what Go does. */
export async function differencesFromGo(go: GoTar, archives: readonly Uint8Array[]): Promise<Differences> {
  const listings = await go.list(archives);
  const counts = { both: 0, neither: 0 };
  const differences: string[] = [];
  for (const [index, archive] of archives.entries()) {
    const theirs = listings[index] as GoListing;
    const found = asGoSees(archive);
    if (typeof found === "string") counts.neither++;
    else counts.both++;
    const isSame = typeof found === "string" ? theirs.error !== "" || STRICTER.some((pattern) => pattern.test(found)) : isDeepStrictEqual({ entries: found, error: "" }, theirs);
    if (!isSame) differences.push(`ours ${JSON.stringify(found)}, Go's ${JSON.stringify(theirs)}, of ${Buffer.from(archive).toString("base64")}`);
  }
  return { ...counts, differences };
}

/** What Python's tarfile says, in as far as it is asked; to be compared with `asPythonSees`. */
export async function pythonListing(python: string, archive: Uint8Array): Promise<unknown[]> {
  const directory = mkdtempSync(join(tmpdir(), "narbor-python-tar-"));
  try {
    const file = join(directory, "archive.tar");
    await writeFile(file, archive);
    const entries = JSON.parse((await outputOf(python, [PYTHON_SOURCE, file])).toString()) as (Record<"path" | "linkTarget", string> & {
      readonly mtime: number;
      readonly xattrs: Readonly<Record<string, string>>;
      readonly sparse: [number, number][] | null;
    })[];
    return entries.map((entry) => ({
      ...entry,
      path: withoutSlashes(fromBase64(entry.path)),
      linkTarget: fromBase64(entry.linkTarget),
      mtime: toMicroseconds(entry.mtime),
      xattrs: Object.fromEntries(Object.entries(entry.xattrs).map(([name, value]) => [name, fromBase64(value)])),
      sparse: entry.sparse?.filter(([, length]) => length > 0) ?? null,
    }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What we say of an archive, as far as Python says it too: names without slashes at their end, ranges that are not empty. */
export function asPythonSees(tar: PlainTar): unknown[] {
  return tar.entries.map((entry: PlainTarEntry) => {
    const isFile = entry.kind === "file";
    return {
      path: withoutSlashes(entry.path),
      kind: entry.kind,
      linkTarget: entry.linkTarget,
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      mtime: toMicroseconds(entry.mtime),
      device: entry.kind.endsWith("Device") ? [entry.deviceMajor, entry.deviceMinor] : [0, 0],
      size: isFile ? entry.size : null,
      sparse: entry.sparse?.map(({ offset, length }) => [offset, length]).filter(([, length]) => length !== 0) ?? null,
      xattrs: entry.xattrs,
      sha256: isFile ? sha256Hex(contentsOf(entry)) : null,
      dataOffset: entry.dataOffset,
    };
  });
}

function withoutSlashes(path: string): string {
  return path.replace(/\/+$/, "");
}

function toMicroseconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6;
}

function fromBase64(text: string): string {
  return Buffer.from(text ?? "", "base64").toString("latin1");
}

/** `narbor push` from the stores of real Nix clients. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { expectBytes } from "../helpers/bytes.ts";
import type { CommandResult } from "../helpers/narbor-process.ts";
import { NARBOR_MAIN, runNarbor, startServer } from "../helpers/narbor-process.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "../interop/built-narbor.ts";
import { type ClosurePath, manyPaths, sampleClosure, storePathOf } from "../interop/closure.ts";
import { findNixInstallations, NixClient } from "../interop/nix-client.ts";

const INSTALLATIONS = findNixInstallations("narbor push");
const CLOSURE = sampleClosure();
const [EVERYTHING, PROGRAM, LINK, DATA] = CLOSURE as [ClosurePath, ClosurePath, ClosurePath, ClosurePath];
/** The path whose closure is all of CLOSURE. */
const ALL = CLOSURE.at(-1) as ClosurePath;

interface PathObject {
  readonly type: string;
  readonly storePath: string;
  readonly status: string;
  readonly narSize: number;
  readonly error?: string;
}

/** What `--json` printed: the object of each path, and the one that sums up. */
function readJson({ stdout }: CommandResult): { readonly paths: Record<string, PathObject>; readonly summary: unknown } {
  const objects = stdout.toString().trimEnd().split("\n").map((line) => JSON.parse(line) as PathObject);
  return { paths: Object.fromEntries(objects.slice(0, -1).map((object) => [object.storePath, object])), summary: objects.at(-1) };
}

function statusesOf(result: CommandResult): Record<string, string> {
  return Object.fromEntries(Object.values(readJson(result).paths).map(({ storePath, status }) => [storePath, status]));
}

async function newDirectory(): Promise<string> {
  const directory = await temporaryDirectory();
  onTestFinished(async () => await directory[Symbol.asyncDispose]());
  return directory.path;
}

describe.for(INSTALLATIONS.map((installation) => [installation.version, installation] as const))("narbor push with Nix %s", ([, installation]) => {
  let nix: NixClient;
  /** Holds CLOSURE. */
  let source: string;

  beforeAll(async () => {
    buildNarbor();
    nix = await NixClient.open(installation);
    source = nix.newStore();
    await nix.import(source, CLOSURE);
  });
  afterAll(async () => await nix?.[Symbol.asyncDispose]());

  async function push(to: string, args: readonly string[], local = source, programs: readonly string[] = []): Promise<CommandResult> {
    return await runNarbor(["push", "--to", to, ...args], { env: nix.environment(local, programs) });
  }

  /** A `nix` that comes before the real one, which is `$REAL`. */
  async function newWrapper(script: string): Promise<string> {
    const directory = join(await newDirectory(), "bin");
    await mkdir(directory);
    await writeFile(join(directory, "nix"), `#!/bin/sh\nREAL='${join(installation.directory, "nix")}'\n${script}\n`);
    await chmod(join(directory, "nix"), 0o755);
    return directory;
  }

  test("puts a closure into a new store, from which Nix gets the same NARs", async () => {
    const to = join(await newDirectory(), "store");
    const { code, stdout, stderr } = await push(to, [ALL.path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.toString().trimEnd().split("\n");
    expect(lines).toContain(`pushed ${DATA.path} (128 B)`);
    expect(new Set(lines.slice(0, -1).map((line) => line.split(" ")[1]))).toEqual(new Set(CLOSURE.map(({ path }) => path)));
    expect(lines.at(-1)).toBe("5 paths pushed (1.6 MB)");

    await using server = await startServer(to);
    const store = nix.newStore();
    await nix.wipeCache();
    await nix.pull(server.url, store, [ALL.path]);
    for (const { path, nar } of CLOSURE) expectBytes(await nix.dump(store, path), nar());
  });

  test("sends nothing that is there, and says so", async () => {
    const to = join(await newDirectory(), "store");
    const first = readJson(await push(to, ["--json", PROGRAM.path]));
    expect(first.summary).toEqual({ type: "summary", pushed: 2, present: 0, failed: 0, narBytes: 280 + 1_603_328 });
    expect(first.paths[PROGRAM.path]).toMatchObject({ type: "path", status: "pushed", narSize: 280, narHash: "sha256-6+d/yGPyj5jHTVDNhcrSC25HdvQNiUc2hHryPDdxlXs=" });
    const second = readJson(await push(to, ["--json", ALL.path, DATA.path]));
    expect(second.summary).toMatchObject({ pushed: 3, present: 2, failed: 0 });
    expect(second.paths[EVERYTHING.path]).toMatchObject({ status: "present", narSize: 1_603_328 });
    const none = await push(join(await newDirectory(), "none", "such"), ["--json", "/nix/store/00000000000000000000000000000000-none"]);
    expect(none.code).not.toBe(0);
    expect(readJson(none).summary).toMatchObject({ type: "summary", pushed: 0, error: expect.any(String) as string });
    // No NAR is asked for any more.
    const third = await push(to, [ALL.path], source, [await newWrapper('case "$*" in *dump-path*) exit 1;; *) exec "$REAL" "$@";; esac')]);
    expect({ code: third.code, stdout: third.stdout.toString() }).toEqual({ code: 0, stdout: "nothing to push, 5 paths there already\n" });
  });

  test("keeps signatures, derivers and content addresses, and adds signatures that are new", async () => {
    const directory = await newDirectory();
    const to = join(directory, "store");
    const local = nix.newStore();
    await nix.import(local, CLOSURE);
    await writeFile(join(directory, "added.txt"), "content-addressed\n");
    const added = (await nix.run("nix-store", ["--store", local, "--add", join(directory, "added.txt")])).toString().trim();
    const sign = async (keyName: string): Promise<void> => {
      const keyFile = join(directory, keyName);
      await writeFile(keyFile, await nix.run("nix", ["key", "generate-secret", "--key-name", keyName]));
      await nix.run("nix", ["store", "sign", "--store", local, "--key-file", keyFile, "--recursive", ALL.path, added]);
    };
    const info = async (path: string): Promise<unknown> => JSON.parse((await runNarbor(["info", "--json", path, "--store", to])).stdout.toString());
    const signedBy = (...keyNames: readonly string[]): unknown => ({ signatures: keyNames.map((keyName) => expect.stringMatching(`^${keyName}:`) as string) });

    await sign("first-1");
    expect(await push(to, [ALL.path, added], local)).toMatchObject({ code: 0 });
    expect(await info(PROGRAM.path)).toMatchObject({ deriver: PROGRAM.deriver, references: expect.arrayContaining([PROGRAM.path, EVERYTHING.path]) as unknown, ca: null, ...(signedBy("first-1") as object) });
    expect(await info(added)).toMatchObject({ ca: expect.stringMatching(/^fixed:r:sha256:/) as string, ...(signedBy("first-1") as object) });

    await sign("second-1");
    expect(statusesOf(await push(to, ["--json", PROGRAM.path], local))).toEqual({ [PROGRAM.path]: "present", [EVERYTHING.path]: "present" });
    expect(await info(PROGRAM.path)).toMatchObject(signedBy("first-1", "second-1") as object);
    expect(await info(LINK.path)).toMatchObject(signedBy("first-1") as object);
  });

  test("takes links to store paths, paths below them, base names and derivations", async () => {
    const directory = await newDirectory();
    await symlink(PROGRAM.path, join(directory, "result"));
    await symlink("result", join(directory, "result-2"));
    await symlink(`${EVERYTHING.path}/bin`, join(directory, "bin"));
    const derivation = (await nix.run("nix", ["eval", "--raw", "--impure", "--store", source, "--expr", '(derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; }).drvPath'])).toString().trim();
    for (const [argument, expected] of [
      [join(directory, "result-2"), PROGRAM.path],
      [join(directory, "bin/tool"), EVERYTHING.path],
      [`${EVERYTHING.path}/bin/tool`, EVERYTHING.path],
      [`${DATA.path}/`, DATA.path],
      [DATA.path.slice("/nix/store/".length), DATA.path],
      [derivation, derivation],
    ] as const) {
      expect(statusesOf(await push(await newDirectory(), ["--json", argument]))).toMatchObject({ [expected]: "pushed" });
    }
  });

  test.for([
    ["a path that is not in the Nix store", [storePathOf("nope")], 3, /^error: There is no \/nix\/store\/\w+-nope in the Nix store\n$/],
    ["one such path among good ones", [DATA.path, storePathOf("nope")], 3, /^error: There is no \/nix\/store\/\w+-nope in the Nix store\n$/],
    ["a file that is not there", ["/nonexistent/result"], 3, /^error: There is no "\/nonexistent\/result"\n$/],
    ["a file that is not in the Nix store", ["/etc/passwd"], 4, /"\/etc\/passwd": it is not in the Nix store; "narbor import --add" takes in/],
    ["what is no store path", ["/nix/store/short-x"], 4, /Cannot read store path/],
    ["no path", [], 2, /missing required argument/],
    ["--jobs 0", ["--jobs", "0", DATA.path], 2, /from 1 to 999/],
  ] as const)("exits with a code of its own for %s, and makes no store", async ([, args, expected, message]) => {
    const to = join(await newDirectory(), "store");
    const { code, stderr, stdout } = await push(to, args);
    expect(stderr).toMatch(message);
    expect({ code, stdout: stdout.toString() }).toEqual({ code: expected, stdout: "" });
    expect(existsSync(to)).toBe(false);
  });

  test("fails a path that is damaged in the Nix store and those that refer to it, and pushes the others", async () => {
    const to = join(await newDirectory(), "store");
    const local = nix.newStore();
    await nix.import(local, CLOSURE);
    const damaged = join(local, PROGRAM.path);
    await chmod(damaged, 0o644);
    const contents = await readFile(damaged);
    await writeFile(damaged, "damaged");
    const text = await push(to, [ALL.path], local);
    expect(text.code).toBe(4);
    expect(text.stderr).toMatch(new RegExp(`^error: Cannot push ${PROGRAM.path}: its NAR has NarHash sha256-\\S+, Nix's database says sha256-6\\+d/\\S+; .*$`, "m"));
    expect(text.stderr).toContain(`error: Not pushed, as they refer to what failed: ${LINK.path}, ${ALL.path}\n`);
    expect(text.stdout.toString()).toMatch(/^2 paths pushed \(1\.6 MB\), 3 paths failed$/m);

    const again = await push(to, ["--json", ALL.path], local);
    expect(again.code).toBe(4);
    expect(statusesOf(again)).toEqual({ [EVERYTHING.path]: "present", [DATA.path]: "present", [PROGRAM.path]: "failed", [LINK.path]: "failed", [ALL.path]: "failed" });
    expect(readJson(again).paths[ALL.path]?.error).toMatch(/-all: it refers to \/nix\/store\/\w+-(program|link), which failed$/);
    expect((await runNarbor(["info", PROGRAM.path, "--store", to])).code).toBe(3);

    // And when it is whole again, it comes after.
    await writeFile(damaged, contents);
    await chmod(damaged, 0o555);
    expect(readJson(await push(to, ["--json", ALL.path], local)).summary).toMatchObject({ pushed: 3, present: 2, failed: 0 });
    expect((await runNarbor(["verify", "--store", to])).stdout.toString()).toBe("ok: 5 store paths, all whole\n");
  });

  test("fails a path whose files are gone, with what Nix says of it", async () => {
    const local = nix.newStore();
    await nix.import(local, [EVERYTHING, DATA]);
    await rm(join(local, DATA.path));
    const { code, stderr, stdout } = await push(join(await newDirectory(), "store"), [EVERYTHING.path, DATA.path], local);
    expect(stderr).toMatch(new RegExp(`^error: Cannot read ${DATA.path}: "nix store dump-path" failed: .*(No such file|does not exist)`));
    expect(stdout.toString()).toMatch(/1 path pushed \(1\.6 MB\), 1 path failed\n$/);
    expect(code).toBe(4);
  });

  test.for([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("goes on from where it was ended by %s, and leaves no child behind: exit %d", async ([signal, exitCode]) => {
    const directory = await newDirectory();
    const to = join(directory, "store");
    const paths = manyPaths(12);
    const local = nix.newStore();
    await nix.import(local, paths);
    const top = paths.at(-1) as ClosurePath;
    // The seventh is stuck.
    const stuck = await newWrapper(`case "$*" in *dump-path*-path-6) echo $$ > '${directory}/pid'; exec sleep 600;; *) exec "$REAL" "$@";; esac`);
    const child = spawn(process.execPath, [NARBOR_MAIN, "push", "--jobs", "2", "--to", to, top.path], { env: nix.environment(local, [stuck]), stdio: ["ignore", "pipe", "pipe"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let [stdout, stderr] = ["", ""];
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    const ended = new Promise<number | null>((done) => child.on("close", done));
    await new Promise<void>((done) =>
      child.stdout.on("data", (data: Buffer) => {
        stdout += data.toString();
        if (stdout.includes("-path-5 ") && existsSync(join(directory, "pid"))) done();
      }),
    );
    child.kill(signal);
    expect(await ended).toBe(exitCode);
    expect(stderr).toMatch(/^interrupted: \d+ of 12 paths pushed; the same command goes on from there\n$/);
    expect(() => process.kill(pidIn(join(directory, "pid")), 0)).toThrow(/ESRCH/);

    const again = await push(to, ["--json", top.path], local);
    expect(again.code).toBe(0);
    const statuses = Object.values(statusesOf(again));
    expect(statuses.filter((status) => status === "present").length).toBeGreaterThanOrEqual(6);
    expect(statuses).toHaveLength(12);
    expect((await runNarbor(["verify", "--store", to])).stdout.toString()).toBe("ok: 12 store paths, all whole\n");
  });

  test("does not send again what was sent when nothing was said of it yet", async () => {
    const to = join(await newDirectory(), "store");
    // The NAR is there under another name.
    const twin = { ...EVERYTHING, path: storePathOf("twin") };
    const local = nix.newStore();
    await nix.import(local, [EVERYTHING, twin]);
    expect((await push(to, [EVERYTHING.path], local)).code).toBe(0);
    const noDumps = await newWrapper('case "$*" in *dump-path*) exit 1;; *) exec "$REAL" "$@";; esac');
    expect(statusesOf(await push(to, ["--json", twin.path], local, [noDumps]))).toEqual({ [twin.path]: "pushed" });
  });

  test("replaces a path that is there with other contents, and says so", async () => {
    const to = join(await newDirectory(), "store");
    const other = nix.newStore();
    await nix.import(other, [{ ...DATA, nar: LINK.nar }]);
    expect((await push(to, [DATA.path], other)).code).toBe(0);
    const { code, stderr } = await push(to, [DATA.path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: `warning: the store has ${DATA.path} with other contents, which are replaced\n` });
    expect((await runNarbor(["cat", DATA.path, "--store", to])).stdout.toString()).toBe("only bytes\n");
  });

  test("asks for a JSON format when Nix will not do without one", async () => {
    const format2 = JSON.stringify({ version: 2, storeDir: "/nix/store", info: { [DATA.path.slice(11)]: { narHash: "sha256-XSsBZ3G01rigi3mQh2Z8T+/XiCN9C4vGtMrqvQ0VTHY=", narSize: 128, references: [], ca: null, deriver: null, signatures: [] } } });
    const strict = await newWrapper(`case "$*" in *path-info*--json-format\\ 2*) echo '${format2}';; *path-info*) echo "error: '--json' needs '--json-format'" >&2; exit 1;; *) exec "$REAL" "$@";; esac`);
    expect(statusesOf(await push(join(await newDirectory(), "store"), ["--json", DATA.path], source, [strict]))).toEqual({ [DATA.path]: "pushed" });
  });
});

function pidIn(file: string): number {
  return Number(readFileSync(file, "utf8").trim());
}

test("narbor push says that there is no Nix when there is none: exit 8", async () => {
  const directory = await newDirectory();
  const { code, stderr } = await runNarbor(["push", DATA.path, "--to", join(directory, "store")], { env: { PATH: directory } });
  expect({ code, stderr }).toEqual({ code: 8, stderr: 'error: Cannot run "nix": there is no such program on the PATH; the paths of a Nix store are read with Nix\n' });
});

test("narbor push says what Nix says when that cannot be asked: exit 8", async () => {
  const directory = await newDirectory();
  await writeFile(join(directory, "nix"), "#!/bin/sh\necho 'error: cannot connect to socket' >&2\nexit 1\n");
  await chmod(join(directory, "nix"), 0o755);
  const { code, stderr } = await runNarbor(["push", DATA.path, "--to", join(directory, "store")], { env: { PATH: `${directory}:/bin:/usr/bin` } });
  expect({ code, stderr }).toEqual({ code: 8, stderr: 'error: Cannot ask Nix what it knows of paths: "nix path-info" failed: cannot connect to socket\n' });
});

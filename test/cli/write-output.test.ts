/** Where `narbor export` and `narbor image export` write archives to, and what they leave when they cannot. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { digestOf, dockerMembers, imageOf, tarOf } from "../helpers/image-archives.ts";
import { NARBOR_MAIN, runNarbor } from "../helpers/narbor-process.ts";
import { within } from "../helpers/promises.ts";
import { temporaryDirectory, type TemporaryDirectory } from "../helpers/temporary-directory.ts";

describe("archives", () => {
  let temporary: TemporaryDirectory;
  let expected: Buffer;
  const at = (name: string): string => join(temporary.path, name);
  const args = (...more: readonly string[]): string[] => ["image", "export", "hello:1", "--store", at("store"), ...more];
  /** Names that are not there before or after. */
  const leftovers = async (): Promise<string[]> => (await readdir(temporary.path)).filter((name) => name.includes(".tmp"));

  beforeAll(async () => {
    temporary = await temporaryDirectory();
    const image = imageOf([tarOf([{ path: "large", bytes: sampleBytes(5_000_000) }])], { names: ["hello:1"] });
    const { code } = await runNarbor(["image", "import", "-", "--store", at("store")], { input: tarOf(dockerMembers([image])) });
    expect(code).toBe(0);
    expected = (await runNarbor(args())).stdout;
    expect(expected.length).toBeGreaterThan(5_000_000);
  });
  afterAll(async () => await temporary?.[Symbol.asyncDispose]());

  test("go to standard output when - is their file", async () => {
    const { code, stdout, stderr } = await runNarbor(args("--output", "-", "--json"));
    expect(code).toBe(0);
    expectBytes(stdout, expected);
    expect(JSON.parse(stderr)).toMatchObject({ name: "hello:1", digest: digestOf(expected), size: expected.length });
  });

  test("take a file's place, and leave a symlink to it", async () => {
    await writeFile(at("old.tar"), "old");
    await symlink("old.tar", at("link.tar"));
    for (const name of ["old.tar", "link.tar", "new.tar"]) {
      const { code, stdout } = await runNarbor(args("--output", at(name), "--json"));
      expect(code).toBe(0);
      expect(JSON.parse(stdout.toString())).toMatchObject({ digest: digestOf(expected) });
      expectBytes(await readFile(at(name)), expected);
    }
    expect((await lstat(at("link.tar"))).isSymbolicLink()).toBe(true);
    await chmod(at("old.tar"), 0o600);
    await runNarbor(args("--output", at("old.tar")));
    expect((await lstat(at("old.tar"))).mode & 0o777).toBe(0o600);
    expect(await leftovers()).toEqual([]);
  });

  test("go through what is no file, and leave it what it is", async () => {
    execFileSync("mkfifo", [at("pipe")]);
    const reader = spawn("cat", [at("pipe")], { stdio: ["ignore", "pipe", "inherit"] });
    const read: Buffer[] = [];
    reader.stdout.on("data", (data: Buffer) => read.push(data));
    const [{ code }] = await Promise.all([runNarbor(args("--output", at("pipe"))), once(reader, "close")]);
    expect(code).toBe(0);
    expectBytes(Buffer.concat(read), expected);
    expect((await lstat(at("pipe"))).isFIFO()).toBe(true);
  });

  test("are not made when there is no place for them", async () => {
    await mkdir(at("directory"));
    expect(await runNarbor(args("--output", at("directory")))).toMatchObject({ code: 1, stderr: `error: Cannot write ${JSON.stringify(at("directory"))}: it is a directory\n` });
    expect(await runNarbor(args("--output", at("none/a.tar")))).toMatchObject({ code: 3, stderr: `error: Cannot write ${JSON.stringify(at("none/a.tar"))}: there is no directory ${JSON.stringify(at("none"))}\n` });
    expect(await leftovers()).toEqual([]);
  });

  test.for([
    [["--name", "x"], "--name is of an image"],
    [["--format", "tar", "--platform", "linux/arm64"], "--platform is of an image"],
    [["--format", "nar", "--max-layers", "3"], "--max-layers is of an image"],
    [["--format", "docker", "--platform", "arm64"], '"arm64" is no platform'],
    [["--format", "docker", "--name", "Hello"], '"Hello" is no name for an image'],
    [["--format", "oci", "--name", "a b"], '"a b" is no name for an image'],
  ] as const)("are not begun with options that do not go with them: %j", async ([options, message]) => {
    const { code, stderr } = await runNarbor(["export", "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-hello", "--store", at("store"), "--output", at("no.tar"), ...options]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) as string });
  });

  test.for(["none", "gzip", "zstd"])("say once that there is no room for them, compressed with %s", (codec) => {
    const result = spawnSync("sh", ["-c", `"${process.execPath}" "${NARBOR_MAIN}" ${args("--compression", codec, "--json").join(" ")} > /dev/full`]);
    expect({ code: result.status, stderr: result.stderr.toString() }).toEqual({ code: 7, stderr: "error: Cannot write the output: ENOSPC: no space left on device, write\n" });
  });

  test.for(["none", "gzip", "zstd"])("say nothing of themselves when their reader has gone, but by the exit code, compressed with %s", (codec) => {
    const result = spawnSync("bash", ["-c", `"${process.execPath}" "${NARBOR_MAIN}" ${args("--compression", codec, "--json").join(" ")} | head -c 100 | wc -c; echo "\${PIPESTATUS[0]}"`]);
    expect({ stdout: result.stdout.toString(), stderr: result.stderr.toString() }).toEqual({ stdout: "100\n141\n", stderr: "" });
  });

  test.for(["none", "gzip", "zstd"])("end when they are interrupted while no one reads them, compressed with %s", async (codec) => {
    const child = spawn(process.execPath, [NARBOR_MAIN, ...args("--compression", codec)], { stdio: ["ignore", "pipe", "pipe"] });
    // The first bytes are there, and the pipe is full.
    await once(child.stdout, "readable");
    await new Promise((resolve) => setTimeout(resolve, 300));
    child.kill("SIGINT");
    const [code] = (await within(once(child, "exit"))) as [number | null];
    expect(code).toBe(130);
  });

  test.for(["SIGINT", "SIGTERM"] as const)("leave all or nothing when they are ended by %s, whenever that is", async (signal) => {
    const options = ["--compression", "gzip", "--level", "9"];
    const { stdout: whole } = await runNarbor(args(...options));
    for (let milliseconds = 100; milliseconds <= 500; milliseconds += 50) {
      const output = at(`interrupted-${milliseconds}.tar`);
      const child = spawn(process.execPath, [NARBOR_MAIN, ...args("--output", output, ...options)], { stdio: "ignore" });
      setTimeout(() => child.kill(signal), milliseconds);
      const [code] = (await once(child, "exit")) as [number | null];
      const left = (await readdir(temporary.path)).filter((name) => name.startsWith("interrupted-"));
      // It may have been whole just before.
      if (code === 0 || left.length > 0) expectBytes(await readFile(output), whole);
      expect(left.filter((name) => name !== `interrupted-${milliseconds}.tar`)).toEqual([]);
      await rm(output, { force: true });
    }
    expect(await leftovers()).toEqual([]);
  });
});

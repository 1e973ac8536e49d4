import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, open, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { sampleBytes } from "../helpers/bytes.ts";
import { narInfoText, sha256Nix32 } from "../helpers/http-cache.ts";
import { sha256Of } from "../helpers/path-infos.ts";
import { within } from "../helpers/promises.ts";
import { NARBOR_MAIN, runNarbor, startServer } from "../helpers/narbor-process.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { skipWithoutMounts, startServerOnSmallDisk } from "../helpers/small-disk.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

const VECTORS = resolve(import.meta.dirname, "../fixtures/vectors");
const NET_TOOLS = join(VECTORS, "nar/net-tools.nar");
const NET_TOOLS_ENTRY = "CiQSIBiaSg0PlkyVCvq7i4PH-KXjURw8ZXNoQRptCujv0xjbGCI";
const NET_TOOLS_HASH = "sha256-xuFVs0VuMLdhImPsCVBwgRyvir/Vn6pyq4Klku/eslM=";

let directory: string;
let store: string;

beforeEach(async () => {
  const temporary = await temporaryDirectory();
  onTestFinished(async () => await temporary[Symbol.asyncDispose]());
  directory = temporary.path;
  store = join(directory, "store");
});

/** `narbor VERB … --store STORE`, and what it printed. */
async function narbor(...args: readonly string[]): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string; readonly bytes: Buffer }> {
  const { code, stdout, stderr } = await runNarbor([...args, "--store", store]);
  return { code, stdout: stdout.toString(), stderr, bytes: stdout };
}

/** In CI it is a failure that nothing can be mounted; elsewhere a line says what is not covered. */
async function makeTree(): Promise<string> {
  const tree = join(directory, "tree");
  await mkdir(join(tree, "bin"), { recursive: true });
  await writeFile(join(tree, "bin/hello"), "#!/bin/sh\necho hello\n");
  await chmod(join(tree, "bin/hello"), 0o755);
  await writeFile(join(tree, "readme"), "read me\n");
  await symlink("bin/hello", join(tree, "link"));
  return tree;
}

describe("narbor import", () => {
  test("prints one JSON object for each input, in their order", async () => {
    const compressed = join(directory, "net-tools.nar.gz");
    await writeFile(compressed, gzipSync(await readFile(NET_TOOLS)));
    const tree = await makeTree();
    const { code, stdout, stderr } = await narbor("import", "--json", compressed, tree, NET_TOOLS, join(VECTORS, "nar/symlink.nar"), join(VECTORS, "nar/helloworld.nar"));
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const objects = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(objects.map(({ input }) => input)).toEqual([compressed, tree, NET_TOOLS, join(VECTORS, "nar/symlink.nar"), join(VECTORS, "nar/helloworld.nar")]);
    expect(objects[0]).toEqual({
      input: compressed,
      type: "directory",
      digest: "blake3-GJpKDQ+WTJUK+ruLg8f4peNRHDxlc2hBGm0K6O/TGNs=",
      size: 34,
      entry: NET_TOOLS_ENTRY,
      narHash: NET_TOOLS_HASH,
      narSize: 464_152,
      known: false,
    });
    expect(objects[2]).toEqual({ ...objects[0], input: NET_TOOLS });
    expect(objects[3]).toMatchObject({ type: "symlink", digest: null, size: 24, entry: "GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ", narSize: 136 });
    expect(objects[4]).toMatchObject({ type: "file", digest: "blake3-XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww=", size: 12, narSize: 128 });
  });

  test("reads a NAR on standard input", async () => {
    const { code, stdout } = await runNarbor(["import", "--json", "-", "--store", store], { input: gzipSync(await readFile(NET_TOOLS)) });
    expect(code).toBe(0);
    expect(JSON.parse(stdout.toString())).toMatchObject({ input: "-", narHash: NET_TOOLS_HASH });
  });

  test("prints what a person wants to know without --json", async () => {
    const { stdout } = await narbor("import", NET_TOOLS);
    expect(stdout).toContain(`  entry     ${NET_TOOLS_ENTRY}\n  NAR hash  ${NET_TOOLS_HASH}\n`);
  });

  test("--add registers the store path that nix-store --add gives", async () => {
    const file = join(directory, "hello.txt");
    await writeFile(file, "hello, world\n");
    const { code, stdout } = await narbor("import", "--add", "--json", file, await makeTree());
    expect(code).toBe(0);
    const [first, second] = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as { storePath: string; entry: string });
    // Printed by Nix 2.8 for the same files; test/interop holds more of them against a real client.
    expect(first?.storePath).toMatch(/^\/nix\/store\/[0-9a-z]{32}-hello\.txt$/);
    expect(second?.storePath).toMatch(/-tree$/);
    const info = await narbor("info", "--json", first?.storePath ?? "");
    expect(JSON.parse(info.stdout)).toMatchObject({ storePath: first?.storePath, ca: expect.stringMatching(/^fixed:r:sha256:/), references: [] });
  });

  test("goes on after an input that is wrong, says which one, and exits with its code", async () => {
    const { code, stdout, stderr } = await narbor("import", "--json", join(VECTORS, "nar/invalid/dot.nar"), NET_TOOLS);
    expect(code).toBe(4);
    expect(stderr).toMatch(/^error: .*dot\.nar: Cannot parse NAR: invalid name "\." at byte 128\n$/);
    expect(stdout.trimEnd().split("\n")).toHaveLength(1);
  });

  test.for([
    ["nothing to import", ["import"], 2],
    ["an input that is not there", ["import", "/nonexistent/file"], 3],
    ["a file that is no NAR", ["import", resolve(import.meta.dirname, "cli.test.ts")], 4],
    ["--add of standard input", ["import", "--add", "-"], 2],
    ["a name that no store path can have", ["import", "--add", "--name", "bad name!", NET_TOOLS], 2],
    ["--name without --add", ["import", "--name", "x", NET_TOOLS], 2],
    ["a level that zstd does not have", ["import", "--compression", "99", NET_TOOLS], 2],
    ["an unknown option", ["import", "--nope", NET_TOOLS], 2],
    ["an unknown verb", ["frobnicate"], 2],
  ] as const)("exits with a code of its own for %s", async ([, args, expected]) => {
    const { code, stderr } = await narbor(...args);
    expect(code).toBe(expected);
    expect(stderr).toMatch(/^error: /m);
  });
});

describe("narbor export, ls, cat, info", () => {
  test("give out what went in, by entry, by store path and by its hash part", async () => {
    const tree = await makeTree();
    const { stdout } = await narbor("import", "--add", "--json", tree);
    const { storePath, entry, narHash } = JSON.parse(stdout) as { storePath: string; entry: string; narHash: string };
    const hashPart = storePath.slice("/nix/store/".length).slice(0, 32);
    for (const address of [entry, storePath, hashPart, storePath.slice("/nix/store/".length)]) {
      const { bytes, code } = await narbor("export", address);
      expect(code).toBe(0);
      expect(`sha256-${createHash("sha256").update(bytes).digest("base64")}`).toBe(narHash);
      expect((await narbor("cat", `${address}/bin/hello`)).stdout).toBe("#!/bin/sh\necho hello\n");
      expect((await narbor("ls", address)).stdout).toBe("bin/\nlink\nreadme\n");
    }
    expect((await narbor("ls", "-R", storePath)).stdout).toBe("bin/\nbin/hello\nlink\nreadme\n");
    expect((await narbor("ls", "-l", `${storePath}/bin`)).stdout).toBe("-r-xr-xr-x             21 hello\n");
    expect(JSON.parse((await narbor("ls", "--json", storePath)).stdout)).toMatchObject({ version: 1, root: { type: "directory" } });
    expect((await narbor("export", "--output", join(directory, "out.nar"), `${storePath}/readme`)).code).toBe(0);
    expect(Buffer.compare(await readFile(join(directory, "out.nar")), referenceNar({ type: "file", bytes: Buffer.from("read me\n") }))).toBe(0);
  });

  test.for([
    ["export", "0c5b8vw40dy178xlpddw65q9gf1h2186-hello", 3, /no store path/],
    ["ls", `${NET_TOOLS_ENTRY}/nope`, 3, /There is no/],
    ["cat", NET_TOOLS_ENTRY, 4, /it is a directory/],
    ["ls", "what is this", 4, /neither a store path nor an entry/],
    ["export", "/nix/store/short-x", 4, /store path/],
  ] as const)("%s of %s exits with %i and says why", async ([verb, address, expected, message]) => {
    await narbor("import", NET_TOOLS);
    const { code, stderr, stdout } = await narbor(verb, address);
    expect({ code, stdout }).toEqual({ code: expected, stdout: "" });
    expect(stderr).toMatch(message);
  });

  test("export exits with 2 for an output without a name", async () => {
    await narbor("import", NET_TOOLS);
    expect(await narbor("export", "--output", "", NET_TOOLS_ENTRY)).toMatchObject({ code: 2, stderr: expect.stringMatching(/^error: --output is followed by the name of a file/) });
  });

  test("end quietly when their reader does", async () => {
    await narbor("import", NET_TOOLS);
    const result = spawnSync("sh", ["-c", `"${process.execPath}" "${NARBOR_MAIN}" export --store "${store}" ${NET_TOOLS_ENTRY} | head -c 10`]);
    expect(result.stderr.toString()).toBe("");
    expect(result.stdout).toHaveLength(10);
  });

  test("import goes on without a reader, and says so when its output cannot be written", async () => {
    const shell = (end: string): ReturnType<typeof spawnSync> => spawnSync("sh", ["-c", `"${process.execPath}" "${NARBOR_MAIN}" import --json --store "${store}" "${NET_TOOLS}" ${end}`]);
    expect(shell("| true").stderr?.toString()).toBe("");
    expect((await narbor("export", NET_TOOLS_ENTRY)).code).toBe(0);
    const full = shell("> /dev/full");
    expect(full.stderr?.toString()).toMatch(/^error: Cannot write the output: ENOSPC/);
    expect(full.status).toBe(7);
  });

  test("write no escape sequence of a name to a terminal", async () => {
    const nar = referenceNar({ type: "directory", entries: [[Buffer.from("a\u001b[31mb\n"), { type: "file", bytes: new Uint8Array(0) }]] });
    const { stdout } = await runNarbor(["import", "--json", "-", "--store", store], { input: nar });
    const { entry } = JSON.parse(stdout.toString()) as { entry: string };
    expect((await narbor("ls", entry)).stdout).toBe("a\\x1b[31mb\\x0a\n");
    // What it prints can be given back to it.
    expect((await narbor("cat", `${entry}/a\\x1b[31mb\\x0a`)).code).toBe(0);
  });

  test("ls and cat tell names apart that are not UTF-8", async () => {
    const names = [Buffer.from("a\\xe9"), Buffer.from("a\xe8", "latin1"), Buffer.from("a\xe9", "latin1")];
    const nar = referenceNar({ type: "directory", entries: names.map((name, index) => [name, { type: "file", bytes: Buffer.from(`contents ${index}`) }]) });
    const { stdout } = await runNarbor(["import", "--json", "-", "--store", store], { input: nar });
    const { entry } = JSON.parse(stdout.toString()) as { entry: string };
    const listed = ["a\\x5cxe9", "a\\xe8", "a\\xe9"];
    expect((await narbor("ls", entry)).stdout).toBe(listed.map((name) => `${name}\n`).join(""));
    expect(Object.keys((JSON.parse((await narbor("ls", "--json", entry)).stdout) as { root: { entries: object } }).root.entries)).toEqual(listed);
    for (const [index, name] of listed.entries()) expect((await narbor("cat", `${entry}/${name}`)).stdout).toBe(`contents ${index}`);
  });

  test("info tells how much is in the store", async () => {
    await narbor("import", NET_TOOLS);
    expect(JSON.parse((await narbor("info", "--json")).stdout)).toMatchObject({ nars: 1, paths: 0, directories: 7, directorySize: "documented" });
  });
});

describe("a store that cannot be used", () => {
  test("would be made among someone's files: exit 6, and they are left alone", async () => {
    store = await makeTree();
    const { code, stderr } = await narbor("import", NET_TOOLS);
    expect(code).toBe(6);
    expect(stderr).toMatch(/it holds "bin" already; name an empty directory/);
    expect((await readdir(store)).sort()).toEqual(["bin", "link", "readme"]);
  });

  test("is not there: exit 3", async () => {
    const { code, stderr } = await narbor("info");
    expect(code).toBe(3);
    expect(stderr).toMatch(/there is none/);
  });

  test("is of a newer version: exit 6, and it is left as it was", async () => {
    await narbor("import", NET_TOOLS);
    const file = join(store, "narbor.json");
    const newer = (await readFile(file, "utf8")).replace('"version": 2', '"version": 3');
    await writeFile(file, newer);
    for (const args of [["info"], ["import", NET_TOOLS], ["verify"], ["serve"]]) {
      const { code, stderr } = await narbor(...args);
      expect(code).toBe(6);
      expect(stderr).toMatch(/its format is version 3, this narbor reads up to 2; use a newer narbor/);
    }
    expect(await readFile(file, "utf8")).toBe(newer);
  });

  test("has an index that is no database: exit 6 and what to do, which works", async () => {
    await narbor("import", NET_TOOLS);
    for (const name of await readdir(store)) if (name.startsWith("index.sqlite-")) await writeFile(join(store, name), "");
    await writeFile(join(store, "index.sqlite"), "this is no database at all, but long enough to be taken for one ".repeat(100));
    const { code, stderr } = await narbor("info");
    expect(code).toBe(6);
    expect(stderr).toMatch(/narbor verify --rebuild-index/);
    expect(await narbor("verify", "--rebuild-index")).toMatchObject({ code: 0 });
    expect(createHash("sha256").update((await narbor("export", NET_TOOLS_ENTRY)).bytes).digest("base64")).toBe(NET_TOOLS_HASH.slice("sha256-".length));
  });

  test("lies where nothing can be written: exit 6", async () => {
    // A file in the way is what even root cannot write through.
    await writeFile(join(directory, "file"), "");
    store = join(directory, "file", "store");
    const { code, stderr } = await narbor("import", NET_TOOLS);
    expect(code).toBe(6);
    expect(stderr).toMatch(/Cannot make the directory/);
  });

  test("is read-only: exit 6, and nothing of it is lost", async ({ skip }) => {
    skipWithoutMounts(skip, "a read-only store");
    await narbor("import", NET_TOOLS);
    // Root writes where modes forbid it, but not to a read-only mount.
    const script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" "$3" import "$4" --store "$1"';
    const result = spawnSync("unshare", ["-rm", "sh", "-c", script, "sh", store, process.execPath, NARBOR_MAIN, join(VECTORS, "nar/complicated.nar")]);
    expect(result.stderr.toString()).toMatch(/^error: Cannot .*(may not be written|read-only)/i);
    expect(result.status).toBe(6);
    expect((await narbor("export", NET_TOOLS_ENTRY)).code).toBe(0);
  });
});

test("narbor import knows a file that was taken in before, by CLI or HTTP, and only hashes it", async () => {
  const nar = join(directory, "large.nar");
  const compressed = join(directory, "large.nar.gz");
  const bytes = referenceNar({ type: "file", bytes: sampleBytes(3_000_000) });
  await writeFile(nar, bytes);
  await writeFile(compressed, gzipSync(bytes));
  const known = async (input: string): Promise<unknown> => (JSON.parse((await narbor("import", "--json", input)).stdout) as { known: unknown }).known;
  expect(await known(nar)).toBe(false);
  expect(await known(nar)).toBe(true);
  // Another file of another size, though with the same NAR in it; and one of the same size that is another.
  expect(await known(compressed)).toBe(false);
  expect(await known(compressed)).toBe(true);
  await writeFile(nar, referenceNar({ type: "file", bytes: sampleBytes(3_000_000, 2) }));
  expect(await known(nar)).toBe(false);
  expect((await narbor("import", nar)).stdout).toContain("known     this very file was taken in before");
});

describe("narbor verify", () => {
  test("says ok of a store that is whole", async () => {
    await narbor("import", "--add", await makeTree());
    const { code, stdout } = await narbor("verify", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ type: "summary", damages: 0, paths: 1, hurtPaths: 0 });
  });

  test("names what is damaged and the store paths that it hurts: exit 5; export of them is exit 5 and gives no whole NAR", async () => {
    const good = join(directory, "good");
    const bad = join(directory, "bad");
    await writeFile(good, sampleBytes(300_000, 1));
    await writeFile(bad, sampleBytes(300_000, 2));
    const { stdout } = await narbor("import", "--add", "--json", "--compression", "none", good, bad);
    const [goodPath, badPath] = stdout.trimEnd().split("\n").map((line) => (JSON.parse(line) as { storePath: string }).storePath);
    const pack = join(store, "packs", (await readdir(join(store, "packs")))[0] ?? "");
    const offset = (await readFile(pack)).indexOf(sampleBytes(300_000, 2).subarray(1000, 1100));
    const handle = await open(pack, "r+");
    await handle.write(Buffer.from([0xff, 0xff]), 0, 2, offset);
    await handle.close();

    const verified = await narbor("verify");
    expect(verified.code).toBe(5);
    expect(verified.stdout).toMatch(/^damaged: /m);
    expect(verified.stdout).toContain(`hurt: ${badPath}: `);
    expect(verified.stdout).not.toContain(goodPath);
    expect(verified.stdout).toMatch(/1 of 2 store paths hurt\n$/);
    expect((await narbor("export", goodPath ?? "")).code).toBe(0);
    const exported = await narbor("export", "--output", join(directory, "bad.nar"), badPath ?? "");
    expect(exported.code).toBe(5);
    expect(await readdir(directory)).not.toContain("bad.nar");
  });

  test("names a store path whose NAR is another than its path info says, though nothing is damaged: exit 5", async () => {
    await narbor("import", "--add", await makeTree());
    await using opened = await PacksStore.open(store);
    for await (const pathInfo of opened.pathInfos.list()) await opened.pathInfos.put({ ...pathInfo, narSha256: sha256Of("another") });
    const { code, stdout } = await narbor("verify");
    expect(code).toBe(5);
    expect(stdout).toMatch(/^hurt: \/nix\/store\/\w{32}-tree: its NAR has another hash than its path info says\n0 damaged, 1 of 1 store paths hurt\n$/);
  });

  test("--rebuild-index names the store paths that are gone with a pack that was cut short: exit 5", async () => {
    const bad = join(directory, "bad");
    await writeFile(bad, sampleBytes(300_000));
    await narbor("import", "--add", await makeTree());
    const { stdout } = await narbor("import", "--add", "--json", bad);
    const { storePath } = JSON.parse(stdout) as { storePath: string };
    const packs = await readdir(join(store, "packs"));
    await truncate(join(store, "packs", packs.sort().at(-1) ?? ""), 100_000);
    const rebuilt = await narbor("verify", "--rebuild-index");
    expect(rebuilt.code).toBe(5);
    expect(rebuilt.stdout).toContain(`damaged: store path ${storePath} was in the old index and is in no pack any more\n`);
    expect(rebuilt.stdout).not.toContain("nothing was lost");
    for (const name of await readdir(store)) if (name.startsWith("index.sqlite")) await rm(join(store, name));
    expect((await narbor("verify", "--rebuild-index")).stdout).toMatch(/a write that was cut off, or a loss; the old index, which would tell, cannot be read/);
  });

  test("--rebuild-index finds everything again when the index is gone", async () => {
    const tree = await makeTree();
    const before = await narbor("import", "--add", "--json", tree);
    const { storePath } = JSON.parse(before.stdout) as { storePath: string };
    const info = await narbor("info", "--json", storePath);
    for (const name of await readdir(store)) if (name.startsWith("index.sqlite")) await rm(join(store, name));
    expect(await narbor("verify", "--rebuild-index")).toMatchObject({ code: 0, stdout: "ok: 1 store paths, all whole\n" });
    expect((await narbor("info", "--json", storePath)).stdout).toBe(info.stdout);
  });
});

describe("narbor serve", () => {
  test("prints where it listens, serves, and exits with 0 on SIGTERM", async () => {
    const server = await startServer(store);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    expect(await server.stop("SIGTERM")).toBe(0);
    expect(server.stderr()).toContain(`nix copy --to ${server.url}`);
  });

  test("ends on SIGTERM also when a client whose upload was refused has gone without sending the rest", async () => {
    await using server = await startServer(store);
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.write("PUT /nar/x HTTP/1.1\r\nHost: narbor\r\nContent-Length: 100\r\n\r\nabc");
    await once(socket, "data");
    socket.destroy();
    // The server has heard of it by then.
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await within(server.stop("SIGTERM"), 10_000)).toBe(0);
  });

  test("exits with 8 and a sentence when the port is in use", async () => {
    const other = createServer();
    await new Promise<void>((listening) => other.listen(0, "127.0.0.1", listening));
    onTestFinished(() => void other.close());
    const { port } = other.address() as { port: number };
    const { code, stderr } = await narbor("serve", "--listen", `127.0.0.1:${port}`);
    expect(code).toBe(8);
    expect(stderr).toBe(`error: Cannot listen at 127.0.0.1:${port}: the port is in use\n`);
  });

  test.for(["7420", "host:", "host:99999", "[::1]", ":80", "unix:/run/narbor.sock"])("exits with 2 for --listen %s", async (listen) => {
    expect((await narbor("serve", "--listen", listen)).code).toBe(2);
  });

  test("exits with 2 for a Unix socket whose path is too long, and makes none", async () => {
    const path = join(directory, "x".repeat(120));
    const { code, stderr } = await narbor("serve", "--listen", "127.0.0.1:0", "--grpc-listen", `unix:${path}`);
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`the path has ${Buffer.byteLength(path)} bytes, a Unix socket's has at most 10[37]`));
    expect(await readdir(directory)).toEqual([]);
  });

  test("exits with 2 for --idle-timeout 0, with which nothing would ever be in time", async () => {
    expect(await narbor("serve", "--idle-timeout", "0")).toMatchObject({ code: 2, stderr: expect.stringContaining("It is at least 1.") });
  });

  test("refuses uploads beyond loopback unless it is told to take them", async () => {
    for (const [args, status] of [[[], 403], [["--allow-anonymous-writes"], 400]] as const) {
      await using server = await startServer(store, ["--listen", "0.0.0.0:0", ...args]);
      const url = server.url.replace("0.0.0.0", "127.0.0.1");
      expect((await fetch(`${url}/nar/${sha256Nix32(Buffer.from("x"))}.nar`, { method: "PUT", body: "x" })).status).toBe(status);
      expect((await fetch(`${url}/nix-cache-info`)).status).toBe(200);
    }
  });

  test("writes down --directory-size in a new store, and keeps what an old one has", async () => {
    const first = await startServer(store, ["--directory-size", "doubled"]);
    await first.stop("SIGTERM");
    const second = await startServer(store, ["--directory-size", "documented"]);
    await second.stop("SIGTERM");
    expect(second.stderr()).toMatch(/made with --directory-size doubled and keeps it/);
    const { stdout } = await narbor("import", "--json", NET_TOOLS);
    const vectors = JSON.parse(await readFile(join(VECTORS, "castore.json"), "utf8")) as { nars: Record<string, { doubled: { entryBase64Url: string } }> };
    expect((JSON.parse(stdout) as { entry: string }).entry).toBe(vectors.nars["net-tools"]?.doubled.entryBase64Url);
  });

  test("and a command line import use one store at the same time", async () => {
    await using server = await startServer(store);
    const nar = await readFile(NET_TOOLS);
    const [upload, imported] = await Promise.all([
      fetch(`${server.url}/nar/${sha256Nix32(nar)}.nar`, { method: "PUT", body: nar }),
      narbor("import", "--add", "--json", await makeTree()),
    ]);
    expect([upload.status, imported.code]).toEqual([201, 0]);
    const { storePath } = JSON.parse(imported.stdout) as { storePath: string };
    expect((await fetch(`${server.url}/${storePath.slice(11, 43)}.narinfo`)).status).toBe(200);
    expect((await narbor("export", NET_TOOLS_ENTRY)).code).toBe(0);
    await server.stop("SIGTERM");
    expect((await narbor("verify")).code).toBe(0);
  });

  test("survives a full disk: 507 with a sentence, what was acknowledged is there, and it goes on when there is room", async ({ skip }) => {
    skipWithoutMounts(skip, "a full disk");
    await using server = await startServerOnSmallDisk(directory, "12m");
    const small = referenceNar({ type: "file", bytes: sampleBytes(200_000, 1) });
    const hash = "0c5b8vw40dy178xlpddw65q9gf1h2186";
    const put = async (nar: Uint8Array): Promise<Response> => await fetch(`${server.url}/nar/${sha256Nix32(nar)}.nar`, { method: "PUT", body: nar });
    expect((await put(small)).status).toBe(201);
    expect((await fetch(`${server.url}/${hash}.narinfo`, { method: "PUT", body: narInfoText(small, `/nix/store/${hash}-small`) })).status).toBe(201);

    const large = referenceNar({ type: "file", bytes: sampleBytes(20_000_000, 2) });
    const refused = await put(large);
    expect(refused.status).toBe(507);
    expect(await refused.text()).toMatch(/no space left on the device/);

    expect(Buffer.compare(new Uint8Array(await (await fetch(`${server.url}/nar/${sha256Nix32(small)}.nar`)).arrayBuffer()), small)).toBe(0);
    expect((await fetch(`${server.url}/nar/${sha256Nix32(large)}.nar`)).status).toBe(404);
    await server.makeRoom();
    const other = referenceNar({ type: "file", bytes: sampleBytes(100_000, 3) });
    expect((await put(other)).status).toBe(201);
    expect(Buffer.compare(new Uint8Array(await (await fetch(`${server.url}/nar/${sha256Nix32(other)}.nar`)).arrayBuffer()), other)).toBe(0);
  });
});

test("narbor --help and each verb's --help say what they do and exit with 0", async () => {
  for (const args of [["--help"], ...["serve", "push", "pull", "import", "export", "ls", "cat", "info", "verify"].map((verb) => [verb, "--help"])]) {
    const { code, stdout } = await runNarbor(args);
    expect(code).toBe(0);
    expect(stdout.toString()).toMatch(/^Usage: narbor/);
  }
});

test("narbor ends when it is done, though a codec thread that it started would wait for work ten seconds more", async () => {
  await within(runNarbor(["import", "--help"]), 8_000);
});

test("narbor finds its store by NARBOR_STORE, and by XDG_DATA_HOME without it", async () => {
  for (const env of [{ NARBOR_STORE: join(directory, "named") }, { NARBOR_STORE: undefined, XDG_DATA_HOME: join(directory, "data") }]) {
    expect((await runNarbor(["import", NET_TOOLS], { env })).code).toBe(0);
  }
  expect(await readdir(join(directory, "named"))).toContain("narbor.json");
  expect(await readdir(join(directory, "data/narbor"))).toContain("narbor.json");
});

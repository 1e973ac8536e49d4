/** `narbor pull`, and real Nix clients that read what it wrote. */
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { parseNarInfo } from "../../src/nix/narinfo.ts";
import { formatSignature, parseSecretKey, type SecretKey, signFingerprint } from "../../src/nix/signature.ts";
import { formatStorePath, parseStorePath } from "../../src/nix/store-path.ts";
import { type PathInfo, pathInfoFingerprint } from "../../src/store/path-info.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import type { CommandResult } from "../helpers/narbor-process.ts";
import { runNarbor } from "../helpers/narbor-process.ts";
import { signatureOf } from "../helpers/path-infos.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "../interop/built-narbor.ts";
import { type ClosurePath, hashPartOf, sampleClosure, storePathOf, twins } from "../interop/closure.ts";
import { findNixInstallations, NixClient } from "../interop/nix-client.ts";

const INSTALLATIONS = findNixInstallations("reading what narbor pull wrote");
const COMPRESSIONS = ["none", "xz", "zstd", "bzip2", "gzip", "br"] as const;
const CLOSURE = sampleClosure();
const [EVERYTHING, PROGRAM, LINK, DATA] = CLOSURE as [ClosurePath, ClosurePath, ClosurePath, ClosurePath];
/** The path whose closure is all of CLOSURE. */
const ALL = CLOSURE.at(-1) as ClosurePath;

let work: string;
let from: string;
let to: string;

beforeAll(() => buildNarbor());

beforeEach(async () => {
  const temporary = await temporaryDirectory();
  onTestFinished(async () => await temporary[Symbol.asyncDispose]());
  work = temporary.path;
  from = join(work, "store");
  to = join(work, "cache");
});

/** Put paths into the store, each signed when there is a key. Block compression is off, so that a test can find bytes to damage. */
async function fillStore(paths: readonly ClosurePath[], key?: SecretKey): Promise<void> {
  await using store = await PacksStore.open(from, { create: true, compression: "none" });
  for (const { path, nar, references, deriver } of paths) {
    const imported = await importNar((async function* () {
      yield nar();
    })(), { blobs: store.blobs, directories: store.directories });
    const unsigned: PathInfo = {
      storePath: parseStorePath(path),
      ...imported,
      references: references.map(parseStorePath),
      signatures: [],
      ...(deriver !== undefined && { deriver: parseStorePath(deriver) }),
    };
    await store.pathInfos.put(key === undefined ? unsigned : { ...unsigned, signatures: [signFingerprint(pathInfoFingerprint(unsigned), key)] });
  }
}

async function pull(...args: readonly string[]): Promise<CommandResult> {
  return await runNarbor(["pull", "--from", from, "--to", to, ...args]);
}

function statusesOf({ stdout }: CommandResult): Record<string, string> {
  const objects = stdout.toString().trimEnd().split("\n").map((line) => JSON.parse(line) as { type: string; storePath: string; status: string });
  return Object.fromEntries(objects.filter(({ type }) => type === "path").map(({ storePath, status }) => [storePath, status]));
}

function narInfoFile(path: string): string {
  return join(to, `${hashPartOf(path)}.narinfo`);
}

async function filesIn(place: string): Promise<string[]> {
  return (await readdir(place, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name);
}

describe.for(INSTALLATIONS.map((installation) => [installation.version, installation] as const))("narbor pull with Nix %s", ([, installation]) => {
  let nix: NixClient;

  beforeAll(async () => void (nix = await NixClient.open(installation)));
  afterAll(async () => await nix?.[Symbol.asyncDispose]());

  test.for(COMPRESSIONS)("writes a binary cache with --compression %s, from which Nix copies the same NARs", async (compression) => {
    await fillStore(CLOSURE);
    expect(await pull("--compression", compression, ALL.path)).toMatchObject({ code: 0, stderr: "" });
    const store = nix.newStore();
    await nix.pull(`file://${to}`, store, [ALL.path]);
    for (const { path, nar } of CLOSURE) expectBytes(await nix.dump(store, path), nar());
    await nix.run("nix", ["store", "verify", "--no-trust", "--store", `file://${to}`, "--recursive", ALL.path]);
  });

  test("keeps signatures, which Nix takes", async () => {
    const secret = await nix.run("nix", ["key", "generate-secret", "--key-name", "test-1"]);
    const publicKey = (await nix.run("nix", ["key", "convert-secret-to-public"], { input: [secret] })).toString().trim();
    await fillStore(CLOSURE, parseSecretKey(secret.toString()));
    expect(await pull(ALL.path)).toMatchObject({ code: 0 });
    const store = nix.newStore();
    await nix.run("nix", ["copy", "--from", `file://${to}`, "--to", store, "--option", "require-sigs", "true", "--option", "trusted-public-keys", publicKey, ALL.path]);
    for (const { path, nar } of CLOSURE) expectBytes(await nix.dump(store, path), nar());
  });

  test("writes NARs that nix-store --restore takes, with --nar", async () => {
    await fillStore(CLOSURE);
    expect(await pull("--nar", PROGRAM.path)).toMatchObject({ code: 0 });
    expect((await readdir(to)).sort()).toEqual([PROGRAM, EVERYTHING].map(({ path }) => `${path.slice("/nix/store/".length)}.nar`).sort());
    const nar = await readFile(join(to, `${EVERYTHING.path.slice("/nix/store/".length)}.nar`));
    await nix.run("nix-store", ["--restore", join(work, "restored")], { input: [nar] });
    expect(await readFile(join(work, "restored/bin/tool"), "utf8")).toBe("#!/bin/sh\necho tool\n");
  });
});

describe("narbor pull", () => {
  test("prints a line for each path and one that sums up, and writes nothing that is there", async () => {
    await fillStore(CLOSURE);
    const { code, stdout } = await pull(PROGRAM.path);
    expect({ code, stdout: stdout.toString() }).toEqual({ code: 0, stdout: `pulled ${EVERYTHING.path} (1.6 MB)\npulled ${PROGRAM.path} (280 B)\n2 paths pulled (1.6 MB)\n` });
    for (const name of await filesIn(to)) if (name.endsWith(".narinfo")) await utimes(join(to, name), 1, 1);
    expect(statusesOf(await pull("--json", ALL.path))).toEqual({ [EVERYTHING.path]: "present", [PROGRAM.path]: "present", [LINK.path]: "pulled", [DATA.path]: "pulled", [ALL.path]: "pulled" });
    expect((await stat(narInfoFile(PROGRAM.path))).mtimeMs).toBe(1000);
    expect((await pull(ALL.path)).stdout.toString()).toBe("nothing to pull, 5 paths there already\n");
    expect((await filesIn(to)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(await readFile(join(to, "nix-cache-info"), "utf8")).toBe("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n");
  });

  test("writes narinfos with all that is known of a path", async () => {
    await fillStore(CLOSURE);
    await pull("--compression", "none", PROGRAM.path);
    const info = parseNarInfo(await readFile(narInfoFile(PROGRAM.path), "utf8"));
    expect(info).toMatchObject({ compression: "none", narSize: 280, fileSize: 280 });
    expect(info.references.map(formatStorePath)).toEqual([PROGRAM.path, EVERYTHING.path]);
    expect(info.deriver && formatStorePath(info.deriver)).toBe(PROGRAM.deriver);
    expectBytes(await readFile(join(to, info.url)), PROGRAM.nar());
  });

  test("takes store paths, base names and hash parts, and any number of them", async () => {
    await fillStore(CLOSURE);
    expect(statusesOf(await pull("--json", hashPartOf(DATA.path), EVERYTHING.path.slice("/nix/store/".length), `${EVERYTHING.path}/bin/tool`))).toEqual({ [DATA.path]: "pulled", [EVERYTHING.path]: "pulled" });
  });

  test("writes again what is not whole there any more", async () => {
    await fillStore(CLOSURE);
    await pull(ALL.path);
    await rm(narInfoFile(DATA.path));
    await writeFile(narInfoFile(LINK.path), "no narinfo");
    await truncate(join(to, parseNarInfo(await readFile(narInfoFile(EVERYTHING.path), "utf8")).url), 100);
    await rm(join(to, parseNarInfo(await readFile(narInfoFile(PROGRAM.path), "utf8")).url));
    expect(statusesOf(await pull("--json", ALL.path))).toEqual({ [DATA.path]: "pulled", [LINK.path]: "pulled", [EVERYTHING.path]: "pulled", [PROGRAM.path]: "pulled", [ALL.path]: "present" });
  });

  test("adds signatures that are new to narinfos that are there", async () => {
    await fillStore([DATA]);
    await pull(DATA.path);
    const before = parseNarInfo(await readFile(narInfoFile(DATA.path), "utf8"));
    {
      await using store = await PacksStore.open(from, {});
      const pathInfo = await store.pathInfos.get(parseStorePath(DATA.path).digest);
      await store.pathInfos.put({ ...(pathInfo as PathInfo), signatures: [signatureOf("late-1")] });
    }
    expect(statusesOf(await pull("--json", DATA.path))).toEqual({ [DATA.path]: "present" });
    const after = parseNarInfo(await readFile(narInfoFile(DATA.path), "utf8"));
    expect(after.signatures.map(formatSignature)).toEqual([formatSignature(signatureOf("late-1"))]);
    expect({ ...after, signatures: [] }).toEqual({ ...before, signatures: [] });
  });

  test("writes two paths with the same contents", async () => {
    const both = twins();
    await fillStore(both);
    for (const compression of ["none", "zstd"] as const) {
      expect(await pull("--compression", compression, ...both.map(({ path }) => path))).toMatchObject({ code: 0 });
      expect(await readdir(join(to, "nar"))).toHaveLength(1);
      await rm(to, { recursive: true });
    }
  });

  test("fails paths that refer to what is not in the store, names both, and writes the others", async () => {
    await fillStore([EVERYTHING, LINK, DATA]);
    const { code, stdout, stderr } = await pull(LINK.path, DATA.path);
    expect(stderr).toBe(`error: Cannot pull ${LINK.path}: it refers to ${PROGRAM.path}, which is not in the store\n`);
    expect({ code, stdout: stdout.toString() }).toEqual({ code: 3, stdout: `pulled ${DATA.path} (128 B)\n1 path pulled (128 B), 1 path failed\n` });
    expect(existsSync(narInfoFile(LINK.path))).toBe(false);
  });

  test.for([["as a binary cache", []], ["without compression", ["--compression", "none"]], ["as NARs", ["--nar"]]] as const)(
    "leaves no file of a path that is damaged in the store, %s: exit 5",
    async ([, args]) => {
      const bytes = sampleBytes(300_000, 9);
      const damaged: ClosurePath = { path: storePathOf("damaged"), nar: () => referenceNar(directory({ file: file(bytes) })), references: [] };
      const user: ClosurePath = { path: storePathOf("user"), nar: () => referenceNar(file(damaged.path)), references: [damaged.path] };
      await fillStore([damaged, user, DATA]);
      const pack = join(from, "packs", (await readdir(join(from, "packs"))).sort()[0] ?? "");
      const offset = (await readFile(pack)).indexOf(bytes.subarray(1000, 1100));
      expect(offset).toBeGreaterThan(0);
      const handle = await open(pack, "r+");
      await handle.write(Buffer.from([0xff, 0xff]), 0, 2, offset);
      await handle.close();

      const { code, stdout, stderr } = await pull(...args, user.path, DATA.path);
      expect(code).toBe(5);
      expect(stderr).toMatch(new RegExp(`^error: ${damaged.path}: Cannot `));
      expect(stderr).toContain(`error: Not pulled, as they refer to what failed: ${user.path}\n`);
      expect(stdout.toString()).toBe(`pulled ${DATA.path} (128 B)\n1 path pulled (128 B), 2 paths failed\n`);
      const files = await filesIn(to);
      expect(files.filter((name) => name.endsWith(".tmp") || name.includes("damaged") || name === `${hashPartOf(damaged.path)}.narinfo` || name === `${hashPartOf(user.path)}.narinfo`)).toEqual([]);
    },
  );

  test.for([
    ["a path that is not in the store", [storePathOf("nope")], 3, /There is no store path ".*-nope" in the store/],
    ["one such path among good ones", [DATA.path, storePathOf("nope")], 3, /There is no store path/],
    ["what is no store path", ["nope"], 4, /"nope": it is neither a store path nor an entry|it is no store path/],
    ["an unknown compression", ["--compression", "lzip", DATA.path], 2, /one of none, xz, zstd/],
    ["no path", [], 2, /missing required argument/],
  ] as const)("exits with a code of its own for %s, and writes nothing", async ([, args, expected, message]) => {
    await fillStore([DATA]);
    const { code, stderr } = await pull(...args);
    expect(stderr).toMatch(message);
    expect(code).toBe(expected);
    expect(existsSync(to)).toBe(false);
  });

  test("leaves a binary cache for another store directory alone: exit 4", async () => {
    await fillStore([DATA]);
    await mkdir(to);
    await writeFile(join(to, "nix-cache-info"), "StoreDir: /gnu/store\n");
    const { code, stderr } = await pull(DATA.path);
    expect(stderr).toMatch(/it is a binary cache for \/gnu\/store, expected \/nix\/store/);
    expect(code).toBe(4);
    expect(existsSync(narInfoFile(DATA.path))).toBe(false);
  });

  test("cannot write where a file is in the way: exit 6", async () => {
    await fillStore([DATA]);
    await writeFile(to, "");
    for (const args of [[], ["--nar"]]) {
      const { code, stderr } = await pull(...args, DATA.path);
      expect(stderr).toMatch(/^error: Cannot write ".*cache(\/nar)?": a file is where a directory should be\n$/);
      expect(code).toBe(6);
    }
  });

  test("writes nothing into a Narbor store: exit 6", async () => {
    await fillStore([DATA]);
    const before = await readdir(from);
    for (const [to, ...args] of [[from], [from, "--nar"], [join(from, "packs")]] as const) {
      const { code, stderr } = await runNarbor(["pull", "--from", from, "--to", to, ...args, DATA.path]);
      expect(stderr).toBe(`error: Cannot pull to ${JSON.stringify(to)}: a Narbor store is there; name another directory\n`);
      expect(code).toBe(6);
    }
    expect(await readdir(from)).toEqual(before);
  });

  test("wants a store that is there: exit 3", async () => {
    expect((await pull(DATA.path)).code).toBe(3);
  });
});

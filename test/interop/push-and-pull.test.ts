/** Real Nix clients push to `narbor serve` and get back what they pushed. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { expectBytes } from "../helpers/bytes.ts";
import { getBytes, narInfoText, put, send, sha256Nix32 } from "../helpers/http-cache.ts";
import { startServer } from "../helpers/narbor-process.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "./built-narbor.ts";
import { type ClosurePath, hashPartOf, looseFiles, manyPaths, sampleClosure, storePathOf, twins } from "./closure.ts";
import { findNixInstallations, NixClient } from "./nix-client.ts";

const INSTALLATIONS = findNixInstallations("pushing to Narbor and substituting from it with Nix");
const COMPRESSIONS = ["none", "xz", "zstd", "bzip2", "gzip", "br"] as const;

/** Where a client remembers to have put a NAR. */
const REMEMBERED_URL = {
  none: /"url":\s*"nar\/[0-9a-z]{52}\.nar"/,
  xz: /"url":\s*"nar\/[0-9a-z]{52}\.nar\.xz"/,
  zstd: /"url":\s*"nar\/[0-9a-z]{52}\.nar\.zst"/,
  bzip2: /"url":\s*"nar\/[0-9a-z]{52}\.nar\.bz2"/,
  gzip: /"url":\s*"nar\/[0-9a-z]{52}\.nar"/,
  br: /"url":\s*"nar\/[0-9a-z]{52}\.nar\.br"/,
} as const;

const CLOSURE = sampleClosure();
const [EVERYTHING, PROGRAM] = CLOSURE as [ClosurePath, ClosurePath, ...ClosurePath[]];
/** The path whose closure is all of CLOSURE. */
const ALL = CLOSURE.at(-1) as ClosurePath;

test.skipIf(INSTALLATIONS.length === 0)("there is a Nix client to test with", () => {
  expect(INSTALLATIONS).not.toEqual([]);
});

describe.for(INSTALLATIONS.map((installation) => [installation.version, installation] as const))("Nix %s", ([, installation]) => {
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

  /** That every path is in `store` as it was made. */
  async function expectInStore(store: string, paths: readonly ClosurePath[]): Promise<void> {
    for (const { path, nar } of paths) expectBytes(await nix.dump(store, path), nar());
  }

  /** Copy the closure of `top` from the cache to a new store, and compare. */
  async function expectPulled(url: string, top: ClosurePath, paths: readonly ClosurePath[]): Promise<void> {
    const store = nix.newStore();
    await nix.pull(url, store, [top.path]);
    await expectInStore(store, paths);
  }

  /** What `nix path-info --json` says, in one shape for every version. */
  async function pathInfos(store: string, paths: readonly string[]): Promise<Record<string, unknown>> {
    interface Info {
      readonly path?: string;
      readonly narHash: string;
      readonly narSize: number;
      readonly references: readonly string[];
      readonly deriver?: string | null;
      readonly signatures?: readonly string[];
    }
    const found = JSON.parse((await nix.run("nix", ["path-info", "--json", "--store", store, "--recursive", ...paths])).toString()) as Info[] | Record<string, Info>;
    const entries = Array.isArray(found) ? found.map((info) => [info.path ?? "", info] as const) : Object.entries(found);
    return Object.fromEntries(
      entries.map(([path, { narHash, narSize, references, deriver, signatures }]) => [
        path,
        { narHash, narSize, references: [...references].sort(), deriver: deriver ?? null, signatures: signatures ?? [] },
      ]),
    );
  }

  test.for(COMPRESSIONS)("gets back what it pushed with compression=%s", async (compression) => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.push(source, server.url, [ALL.path], `compression=${compression}`);
    await nix.wipeCache();
    await expectPulled(server.url, ALL, CLOSURE);
    expect(server.stderr()).not.toMatch(/error/);
  });

  test.for(COMPRESSIONS)("gets back what it pushed with compression=%s while it remembers its own narinfos", async (compression) => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.wipeCache();
    await nix.push(source, server.url, [ALL.path], `compression=${compression}`);
    // It is not our narinfo that it goes by.
    const remembered = (await nix.run("nix", ["path-info", "--json", "--store", server.url, ALL.path])).toString();
    expect(remembered).toMatch(REMEMBERED_URL[compression]);
    await expectPulled(server.url, ALL, CLOSURE);
    const substituted = nix.newStore();
    await nix.substitute(server.url, substituted, [ALL.path]);
    await expectInStore(substituted, CLOSURE);
    expect(server.stderr()).not.toMatch(/error/);
  });

  test("substitutes what it pushed", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.push(source, server.url, [ALL.path]);
    await nix.wipeCache();
    const store = nix.newStore();
    await nix.substitute(server.url, store, [ALL.path]);
    await expectInStore(store, CLOSURE);
    expect(await pathInfos(store, [ALL.path])).toEqual(await pathInfos(source, [ALL.path]));
  });

  test("finds in the cache what it knows of the paths, and that they are as they should be", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.push(source, server.url, [ALL.path], "compression=zstd");
    await nix.wipeCache();
    const infos = await pathInfos(server.url, [ALL.path]);
    expect(infos).toEqual(await pathInfos(source, [ALL.path]));
    expect(Object.keys(infos)).toHaveLength(CLOSURE.length);
    expect(infos[PROGRAM.path]).toMatchObject({ deriver: PROGRAM.deriver });
    await nix.run("nix", ["store", "verify", "--no-trust", "--store", server.url, "--recursive", ALL.path]);
    for (const { path } of CLOSURE) {
      const list = (store: string): Promise<Buffer> => nix.run("nix", ["store", "ls", "--store", store, "-lR", path]);
      expect((await list(server.url)).toString()).toBe((await list(source)).toString());
    }
    expect((await nix.run("nix", ["store", "cat", "--store", server.url, `${EVERYTHING.path}/bin/tool`])).toString()).toBe("#!/bin/sh\necho tool\n");
  });

  test("may push again, also after the server was restarted", async () => {
    await using directory = await temporaryDirectory();
    {
      await using server = await startServer(directory.path);
      await nix.push(source, server.url, [PROGRAM.path]);
      await nix.push(source, server.url, [PROGRAM.path]);
      await nix.wipeCache();
      await nix.push(source, server.url, [PROGRAM.path], "compression=zstd");
      expect(await server.stop("SIGTERM")).toBe(0);
    }
    await using server = await startServer(directory.path);
    await nix.wipeCache();
    await nix.push(source, server.url, [ALL.path], "compression=none");
    await nix.wipeCache();
    await expectPulled(server.url, ALL, CLOSURE);
  });

  test("gets back what it pushed before the server was killed", async () => {
    await using directory = await temporaryDirectory();
    {
      await using server = await startServer(directory.path);
      await nix.push(source, server.url, [ALL.path], "compression=zstd");
      await server.stop("SIGKILL");
    }
    await using server = await startServer(directory.path);
    await nix.wipeCache();
    await expectPulled(server.url, ALL, CLOSURE);
  });

  test("may push the same from two processes at once", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.wipeCache();
    // With a memory of its own: 2.8 fails when two processes write the same into theirs.
    await using other = await NixClient.open(installation);
    await Promise.all([nix.push(source, server.url, [ALL.path], "compression=zstd"), other.push(source, server.url, [ALL.path], "compression=none")]);
    await nix.wipeCache();
    await expectPulled(server.url, ALL, CLOSURE);
  });

  test("pushes two paths with the same contents", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    const store = nix.newStore();
    const both = twins();
    await nix.import(store, both);
    await nix.push(store, server.url, both.map(({ path }) => path));
    await nix.wipeCache();
    for (const twin of both) await expectPulled(server.url, twin, [twin]);
  });

  test.for(COMPRESSIONS)("finds the listings that it would have written itself, with compression=%s", async (compression) => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    const fileCache = join(directory.path, "file-cache");
    const settings = `compression=${compression}&write-nar-listing=1`;
    await nix.push(source, server.url, [ALL.path], settings);
    await nix.push(source, `file://${fileCache}`, [ALL.path], settings);
    for (const { path } of CLOSURE) {
      const name = `${hashPartOf(path)}.ls`;
      const { status, bytes } = await getBytes(`${server.url}/${name}`);
      expect(status).toBe(200);
      expect(JSON.parse(Buffer.from(bytes).toString())).toEqual(JSON.parse(await readFile(join(fileCache, name), "utf8")));
    }
  });

  test("gets a NAR whose narinfo came after 50 other paths and a restart", async () => {
    await using directory = await temporaryDirectory();
    const { nar } = EVERYTHING;
    const path = storePathOf("late");
    const compressed = gzipSync(nar());
    const narFile = `nar/${sha256Nix32(compressed)}.nar`;
    const loose = looseFiles(50, "other");
    {
      await using server = await startServer(directory.path);
      expect((await put(`${server.url}/${narFile}`, compressed)).status).toBe(201);
      const store = nix.newStore();
      await nix.import(store, loose);
      await nix.push(store, server.url, loose.map((other) => other.path));
      expect((await send(`${server.url}/${hashPartOf(path)}.narinfo`)).status).toBe(404);
      expect(await server.stop("SIGTERM")).toBe(0);
    }
    await using server = await startServer(directory.path);
    expect((await send(`${server.url}/${narFile}`, { method: "HEAD" })).status).toBe(200);
    const fields = { URL: narFile, Compression: "gzip", FileHash: `sha256:${sha256Nix32(compressed)}`, FileSize: String(compressed.length) };
    expect((await put(`${server.url}/${hashPartOf(path)}.narinfo`, narInfoText(nar(), path, fields))).status).toBe(201);
    await nix.wipeCache();
    const late = { ...EVERYTHING, path };
    await expectPulled(server.url, late, [late]);
  });

  test("pushes a closure of 400 paths and copies it back", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    const paths = manyPaths(400);
    const top = paths.at(-1) as ClosurePath;
    const store = nix.newStore();
    await nix.import(store, paths);
    await nix.push(store, server.url, [top.path], "compression=zstd");
    await nix.wipeCache();
    const copied = nix.newStore();
    await nix.pull(server.url, copied, [top.path]);
    // Nix has checked each NAR's hash, so some will do.
    await expectInStore(copied, paths.filter((_, index) => index % 40 === 0));
    expect(await pathInfos(copied, [top.path])).toEqual(await pathInfos(store, [top.path]));
  });

  describe("with signatures", () => {
    let keyFile: string;
    let publicKey: string;
    let otherPublicKey: string;

    beforeAll(async () => {
      const [secret, other] = [await nix.run("nix", ["key", "generate-secret", "--key-name", "test-1"]), await nix.run("nix", ["key", "generate-secret", "--key-name", "test-1"])];
      const toPublic = async (key: Buffer): Promise<string> => (await nix.run("nix", ["key", "convert-secret-to-public"], { input: [key] })).toString().trim();
      [publicKey, otherPublicKey] = [await toPublic(secret), await toPublic(other)];
      keyFile = join(nix.directory, "secret-key");
      await writeFile(keyFile, secret);
    });

    const trusting = (key: string): string[] => ["--option", "require-sigs", "true", "--option", "trusted-public-keys", key];

    test("gets paths that were signed when they were pushed, and takes them for signed", async () => {
      await using directory = await temporaryDirectory();
      await using server = await startServer(directory.path);
      await nix.push(source, server.url, [ALL.path], `compression=none&secret-key=${keyFile}`);
      await nix.wipeCache();
      const substituted = nix.newStore();
      await nix.substitute(server.url, substituted, [ALL.path], trusting(publicKey));
      await expectInStore(substituted, CLOSURE);
      const copied = nix.newStore();
      await nix.run("nix", ["copy", "--from", server.url, "--to", copied, ...trusting(publicKey), ALL.path]);
      await expectInStore(copied, CLOSURE);
      await nix.run("nix", ["store", "verify", "--store", copied, "--sigs-needed", "1", ...trusting(publicKey), "--recursive", ALL.path]);
      const wrongKey = await nix.try("nix", ["copy", "--from", server.url, "--to", nix.newStore(), ...trusting(otherPublicKey), ALL.path]);
      expect(wrongKey.code).not.toBe(0);
      expect(wrongKey.stderr).toMatch(/lacks a (valid )?signature|not signed|valid signature/);
    });

    test("signs paths in the cache, one key after the other", async () => {
      await using directory = await temporaryDirectory();
      await using server = await startServer(directory.path);
      await nix.push(source, server.url, [ALL.path], "compression=zstd");
      await nix.wipeCache();
      await nix.run("nix", ["store", "sign", "--store", server.url, "--key-file", keyFile, "--recursive", ALL.path]);
      const secondKeyFile = join(nix.directory, "second-secret-key");
      await writeFile(secondKeyFile, await nix.run("nix", ["key", "generate-secret", "--key-name", "second"]));
      await nix.run("nix", ["store", "sign", "--store", server.url, "--key-file", secondKeyFile, "--recursive", ALL.path]);
      await nix.wipeCache();
      for (const info of Object.values(await pathInfos(server.url, [ALL.path]))) {
        expect(info).toMatchObject({ signatures: expect.arrayContaining([expect.stringMatching(/^test-1:/), expect.stringMatching(/^second:/)]) as unknown });
      }
      const store = nix.newStore();
      await nix.substitute(server.url, store, [ALL.path], trusting(publicKey));
      await expectInStore(store, CLOSURE);
    });
  });

  test("keeps a build log, and reads it", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    const derivation = PROGRAM.deriver ?? "";
    const name = derivation.slice("/nix/store/".length);
    const store = nix.newStore();
    const logs = join(store, "nix/var/log/nix/drvs", name.slice(0, 2));
    await mkdir(logs, { recursive: true });
    const log = "building…\nbuilt \u001b[1mit\u001b[0m\n";
    await writeFile(join(logs, name.slice(2)), log);
    await nix.run("nix", ["store", "copy-log", "--from", store, "--to", server.url, derivation]);
    expectBytes((await getBytes(`${server.url}/log/${name}`)).bytes, Buffer.from(log));
    // 2.8's `nix log` wants the derivation to be in the default store, and 2.34's `nix-store --read-log` crashes.
    const read = await nix.try("nix", ["log", "--store", server.url, derivation]);
    expectBytes(read.code === 0 ? read.stdout : await nix.run("nix-store", ["--store", server.url, "--read-log", derivation]), Buffer.from(log));
  });

  test("may go on with a download where it broke off", async () => {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    await nix.push(source, server.url, [ALL.path], "compression=zstd");
    const nar = EVERYTHING.nar();
    const url = `${server.url}/nar/${sha256Nix32(nar)}.nar`;
    const whole = await getBytes(url);
    expect(whole.headers.get("accept-ranges")).toBe("bytes");
    expectBytes(whole.bytes, nar);
    for (const start of [0, 1, 7, 232, 1_735, 1_736, 300_000, 301_936, nar.length - 9, nar.length - 1]) {
      const { status, bytes } = await getBytes(url, { range: `bytes=${start}-` });
      expect(status).toBe(206);
      expectBytes(bytes, nar.subarray(start));
    }
    for (const [first, last] of [[0, 0], [100, 1_800], [299_999, 700_000], [1_000, nar.length + 1_000]] as const) {
      const { status, bytes, headers } = await getBytes(url, { range: `bytes=${first}-${last}` });
      expect(status).toBe(206);
      expect(headers.get("content-range")).toBe(`bytes ${first}-${Math.min(last, nar.length - 1)}/${nar.length}`);
      expectBytes(bytes, nar.subarray(first, last + 1));
    }
    expect((await getBytes(url, { range: `bytes=${nar.length}-` })).status).toBe(416);
  });
});

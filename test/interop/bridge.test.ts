/** Real Nix clients with `narbor serve --store grpc://…`: bridges that hold nothing themselves, any number of them before one store. */
import { once } from "node:events";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { expectBytes } from "../helpers/bytes.ts";
import { getBytes, narInfoText, put, send, sha256Nix32 } from "../helpers/http-cache.ts";
import { runNarbor, startServer, type ServerProcess } from "../helpers/narbor-process.ts";
import { findSteadyPort } from "../helpers/steady-port.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "./built-narbor.ts";
import { type ClosurePath, hashPartOf, manyPaths, sampleClosure, storePathOf } from "./closure.ts";
import { findNixInstallations, NixClient, type NixResult } from "./nix-client.ts";

const INSTALLATIONS = findNixInstallations("bridges between Nix and a store that is served over gRPC");
const TIMEOUT = 180_000;

const CLOSURE = sampleClosure();
const [EVERYTHING] = CLOSURE as [ClosurePath, ...ClosurePath[]];
/** The path whose closure is all of CLOSURE. */
const ALL = CLOSURE.at(-1) as ClosurePath;
/** Large enough to be in the middle of for a while. */
const MANY = manyPaths(60, 1_000_000);
const TOP = MANY.at(-1) as ClosurePath;

const grpcOf = (server: ServerProcess): string => server.url.replace(/^http:/, "grpc:");

/** A store's own server, where it was before or somewhere new. */
async function startStore(directory: string, url?: string): Promise<ServerProcess> {
  return await startServer(directory, ["--listen", url?.slice("http://".length) ?? `127.0.0.1:${await findSteadyPort()}`]);
}

async function startBridge(store: ServerProcess, args: readonly string[] = []): Promise<ServerProcess> {
  return await startServer(grpcOf(store), args);
}

/**
 * For a bridge whose store goes away. Nix before 2.34 tries an upload that was answered with 503 again without its bytes, four times, and waits each time until
 * the bridge has waited long enough for them.
 */
const IMPATIENT = ["--idle-timeout", "5"];

/** Resolves when so much is in a store's packs. */
async function packsHold(directory: string, bytes: number): Promise<void> {
  for (;;) {
    const packs = join(directory, "packs");
    const names = await readdir(packs).catch(() => []);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(packs, name))).size));
    if (sizes.reduce((sum, size) => sum + size, 0) >= bytes) return;
    await new Promise((later) => setTimeout(later, 20));
  }
}

test.skipIf(INSTALLATIONS.length === 0)("there is a Nix client to test with", () => {
  expect(INSTALLATIONS).not.toEqual([]);
});

describe.for(INSTALLATIONS.map((installation) => [installation.version, installation] as const))("Nix %s", ([, installation]) => {
  let nix: NixClient;
  /** Holds CLOSURE and MANY. */
  let source: string;

  beforeAll(async () => {
    buildNarbor();
    nix = await NixClient.open(installation);
    source = nix.newStore();
    await nix.import(source, [...CLOSURE, ...MANY]);
  });
  afterAll(async () => await nix?.[Symbol.asyncDispose]());

  async function expectPulled(url: string, top: ClosurePath, paths: readonly ClosurePath[]): Promise<void> {
    const store = nix.newStore();
    await nix.wipeCache();
    await nix.pull(url, store, [top.path]);
    for (const { path, nar } of paths) expectBytes(await nix.dump(store, path), nar());
  }

  async function expectSubstituted(url: string, top: ClosurePath, paths: readonly ClosurePath[]): Promise<void> {
    const store = nix.newStore();
    await nix.wipeCache();
    await nix.substitute(url, store, [top.path]);
    for (const { path, nar } of paths) expectBytes(await nix.dump(store, path), nar());
  }

  /** Begin to push MANY and do something when the store holds some of it, then see how the push ends. */
  async function pushInterrupted(url: string, directory: string, interrupt: () => Promise<void>): Promise<NixResult> {
    await nix.wipeCache();
    const push = nix.try("nix", ["copy", "--from", source, "--to", `${url}?compression=none`, TOP.path], { timeout: TIMEOUT });
    await packsHold(directory, 5_000_000);
    await interrupt();
    return await push;
  }

  test.for(["none", "zstd"])("substitutes through one bridge, and from the store itself, what was pushed through another with compression=%s", { timeout: TIMEOUT }, async (compression) => {
    await using directory = await temporaryDirectory();
    await using store = await startStore(directory.path);
    await using first = await startBridge(store);
    await using second = await startBridge(store);
    await nix.wipeCache();
    await nix.push(source, first.url, [ALL.path], `compression=${compression}`);
    for (const { url } of [second, store, first]) await expectSubstituted(url, ALL, CLOSURE);
    await expectPulled(second.url, ALL, CLOSURE);
    for (const { stderr, stop } of [first, second, store]) {
      expect(stderr()).not.toMatch(/error/);
      expect(await stop("SIGTERM")).toBe(0);
    }
    // Neither bridge has kept anything to itself.
    expect((await runNarbor(["verify", "--store", directory.path])).stdout.toString()).toMatch(new RegExp(`^ok: ${CLOSURE.length} store paths, all whole`));
    await using alone = await startStore(directory.path);
    await expectPulled(alone.url, ALL, CLOSURE);
  });

  test("pushes to the store itself what bridges then have, and through a bridge before a bridge", { timeout: TIMEOUT }, async () => {
    await using directory = await temporaryDirectory();
    await using store = await startStore(directory.path);
    await using first = await startBridge(store);
    await using second = await startBridge(first);
    await nix.wipeCache();
    await nix.push(source, store.url, [EVERYTHING.path], "compression=zstd");
    await expectSubstituted(first.url, EVERYTHING, [EVERYTHING]);
    await nix.push(source, second.url, [ALL.path], "compression=zstd");
    for (const { url } of [store, second]) await expectSubstituted(url, ALL, CLOSURE);
  });

  test("gets a path whose NAR came through one bridge and its narinfo through another", { timeout: TIMEOUT }, async () => {
    await using directory = await temporaryDirectory();
    await using store = await startStore(directory.path);
    await using first = await startBridge(store);
    await using second = await startBridge(store);
    const nar = EVERYTHING.nar();
    const path = storePathOf("in-halves");
    const compressed = gzipSync(nar);
    const narFile = `nar/${sha256Nix32(compressed)}.nar`;
    expect((await put(`${first.url}/${narFile}`, compressed)).status).toBe(201);
    const fields = { URL: narFile, Compression: "gzip", FileHash: `sha256:${sha256Nix32(compressed)}`, FileSize: String(compressed.length) };
    expect((await put(`${second.url}/${hashPartOf(path)}.narinfo`, narInfoText(nar, path, fields))).status).toBe(201);
    const halves = { ...EVERYTHING, path };
    for (const { url } of [first, second, store]) {
      await expectPulled(url, halves, [halves]);
      const { status, bytes } = await getBytes(`${url}/nar/${sha256Nix32(nar)}.nar`, { range: "bytes=1000-" });
      expect(status).toBe(206);
      expectBytes(bytes, nar.subarray(1000));
    }
    // A narinfo whose NAR came through neither is refused by both.
    const other = narInfoText(gzipSync("another"), storePathOf("another"));
    for (const { url } of [first, second]) expect((await put(`${url}/${hashPartOf(storePathOf("another"))}.narinfo`, other)).status).toBeGreaterThanOrEqual(400);
  });

  test("fails in time when the store is killed in the middle of a push through a bridge, and pushes the rest when it is back", { timeout: 2 * TIMEOUT }, async () => {
    await using directory = await temporaryDirectory();
    await using stopped = await startStore(directory.path);
    await using bridge = await startBridge(stopped, IMPATIENT);
    const failed = await pushInterrupted(bridge.url, directory.path, async () => void (await stopped.stop("SIGKILL")));
    expect(failed.signal).toBeUndefined();
    expect(failed.code).not.toBe(0);
    // What it says is that the store is away, which is not that a path is unknown.
    expect((await send(`${bridge.url}/${hashPartOf(TOP.path)}.narinfo`)).status).toBe(503);
    {
      await using back = await startStore(directory.path, stopped.url);
      await nix.wipeCache();
      await nix.push(source, bridge.url, [TOP.path], "compression=none");
      await expectPulled(back.url, TOP, MANY.filter((_, index) => index % 10 === 9));
      await expectPulled(bridge.url, TOP, [TOP]);
      expect(await back.stop("SIGTERM")).toBe(0);
    }
    expect(bridge.child.exitCode).toBeNull();
    expect(await bridge.stop("SIGTERM")).toBe(0);
    expect(await runNarbor(["verify", "--store", directory.path])).toMatchObject({ code: 0 });
  });

  test("ends well, at the second try at the latest, when the store is killed in the middle of a push through a bridge and comes back at once", { timeout: 2 * TIMEOUT }, async () => {
    await using directory = await temporaryDirectory();
    await using killed = await startStore(directory.path);
    await using bridge = await startBridge(killed, IMPATIENT);
    const restarted: ServerProcess[] = [];
    const first = await pushInterrupted(bridge.url, directory.path, async () => {
      await killed.stop("SIGKILL");
      restarted.push(await startStore(directory.path, killed.url));
    });
    const [back] = restarted as [ServerProcess];
    try {
      expect(first.signal).toBeUndefined();
      if (first.code !== 0) await nix.push(source, bridge.url, [TOP.path], "compression=none");
      await expectPulled(bridge.url, TOP, MANY.filter((_, index) => index % 10 === 9));
      expect(await bridge.stop("SIGTERM")).toBe(0);
      expect(await back.stop("SIGTERM")).toBe(0);
    } finally {
      await back[Symbol.asyncDispose]();
    }
    expect(await runNarbor(["verify", "--store", directory.path])).toMatchObject({ code: 0 });
  });

  test("goes on through another bridge when the one it pushed through is killed", { timeout: 2 * TIMEOUT }, async () => {
    await using directory = await temporaryDirectory();
    await using store = await startStore(directory.path);
    await using other = await startBridge(store);
    {
      await using bridge = await startBridge(store);
      const failed = await pushInterrupted(bridge.url, directory.path, async () => {
        bridge.child.kill("SIGKILL");
        await once(bridge.child, "exit");
      });
      expect(failed.signal).toBeUndefined();
      expect(failed.code).not.toBe(0);
    }
    await nix.wipeCache();
    await nix.push(source, other.url, [TOP.path], "compression=none");
    await expectPulled(store.url, TOP, MANY.filter((_, index) => index % 10 === 9));
    for (const { stderr, stop } of [other, store]) {
      expect(stderr()).not.toMatch(/error/);
      expect(await stop("SIGTERM")).toBe(0);
    }
    expect(await runNarbor(["verify", "--store", directory.path])).toMatchObject({ code: 0 });
  });
});

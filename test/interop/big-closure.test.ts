/** Real Nix clients with closures of a size that takes minutes: only where NARBOR_TEST_BIG=1, as in CI. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { expectBytes } from "../helpers/bytes.ts";
import { startServer } from "../helpers/narbor-process.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "./built-narbor.ts";
import { type ClosurePath, manyFiles, manyPaths } from "./closure.ts";
import { findNixInstallations, NixClient } from "./nix-client.ts";

const WHAT = "closures of 160 MB and paths of 40,000 files with Nix";
const IS_BIG = process.env["NARBOR_TEST_BIG"] === "1";
if (!IS_BIG) console.log(`not covered: ${WHAT}, which NARBOR_TEST_BIG=1 asks for`);
const INSTALLATIONS = IS_BIG ? findNixInstallations(WHAT) : [];
const TIMEOUT = 300_000;

test.skipIf(INSTALLATIONS.length === 0)("there is a Nix client to test with", () => {
  expect(INSTALLATIONS).not.toEqual([]);
});

describe.for(INSTALLATIONS.map((installation) => [installation.version, installation] as const))("Nix %s", ([, installation]) => {
  let nix: NixClient;

  beforeAll(async () => {
    buildNarbor();
    nix = await NixClient.open(installation);
  });
  afterAll(async () => await nix?.[Symbol.asyncDispose](), TIMEOUT);

  /** Push, copy back with the client's memory of it and without, and compare. */
  async function expectRoundTrip(paths: readonly ClosurePath[], compression: string): Promise<void> {
    await using directory = await temporaryDirectory();
    await using server = await startServer(directory.path);
    const options = { timeout: TIMEOUT };
    const top = paths.at(-1) as ClosurePath;
    const source = nix.newStore();
    const seconds: Record<string, string> = {};
    const timed = async (what: string, work: () => Promise<void>): Promise<void> => {
      const start = performance.now();
      await work();
      seconds[what] = ((performance.now() - start) / 1000).toFixed(1);
    };
    await nix.import(source, paths, options);
    await nix.wipeCache();
    await timed("push", () => nix.push(source, server.url, [top.path], `compression=${compression}`, options));
    const [remembered, copied] = [nix.newStore(), nix.newStore()];
    await timed("pull, remembering", () => nix.pull(server.url, remembered, [top.path], options));
    await nix.wipeCache();
    await timed("pull", () => nix.pull(server.url, copied, [top.path], options));
    console.log(`Nix ${installation.version}, ${paths.length} paths, ${compression}, seconds:`, seconds);
    for (const { path, nar } of paths) {
      const expected = nar();
      expectBytes(await nix.dump(copied, path), expected);
      expectBytes(await nix.dump(remembered, path), expected);
    }
    expect(server.stderr()).not.toMatch(/error/);
  }

  test.for(["none", "zstd"])("gets back 100 paths of 160 MB in all that it pushed with compression=%s", { timeout: 3 * TIMEOUT }, async (compression) => {
    await expectRoundTrip(manyPaths(100, 1_600_000), compression);
  });

  test("gets back a path of 40,000 files", { timeout: 3 * TIMEOUT }, async () => {
    await expectRoundTrip([manyFiles(200)], "zstd");
  });
});

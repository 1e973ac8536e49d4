/**
 * Claim 9: what the server itself takes for a tiny path, when Nix copies 20,000 of them to it and back. Nix takes many times as long; BENCH_PATHS is how many.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer } from "../test/helpers/narbor-process.ts";
import type { ClosurePath } from "../test/interop/closure.ts";
import { manyPaths } from "../test/interop/closure.ts";
import { findNixInstallations, NixClient } from "../test/interop/nix-client.ts";
import { claim } from "./claims.ts";
import { processorTime, timed } from "./figures.ts";

const PATHS = Number(process.env["BENCH_PATHS"] ?? 20_000);
/** Milliseconds of processor time for a path. */
const LIMIT = 0.5;
const PATIENCE = { timeout: 900_000 };

const [installation] = findNixInstallations("claim 9");
if (installation === undefined) throw new Error("This bench needs Nix");
const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
try {
  await using nix = await NixClient.open(installation);
  await using server = await startServer(join(directory, "store"));
  const pid = server.child.pid ?? 0;
  const paths = manyPaths(PATHS, 100);
  const top = paths.at(-1) as ClosurePath;
  const source = nix.newStore();
  await nix.import(source, paths, PATIENCE);
  const measure = async (what: string, work: () => Promise<void>): Promise<void> => {
    const before = await processorTime(pid);
    const { milliseconds } = await timed(work);
    const own = (await processorTime(pid)) - before;
    claim({
      number: 9,
      what: `${PATHS} paths, nix copy ${what}`,
      narbor: `${(own / PATHS).toFixed(2)} ms a path`,
      beside: `Nix ${installation.version}: ${(milliseconds / PATHS).toFixed(2)} ms`,
      ratio: "",
      wanted: `< ${LIMIT} ms`,
      isMet: own / PATHS < LIMIT,
    });
  };
  await measure("--to", async () => await nix.push(source, server.url, [top.path], "compression=none", PATIENCE));
  await nix.wipeCache();
  await measure("--from", async () => await nix.pull(server.url, nix.newStore(), [top.path], PATIENCE));
} finally {
  await rm(directory, { recursive: true, force: true });
}

/**
 * Claim 12: a server over a store of ten million chunks is ready at once, and its memory does not grow with the store.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { PacksStore } from "../dist/index.js";
import { startServer } from "../test/helpers/narbor-process.ts";
import { claim } from "./claims.ts";
import { median, peakMemory } from "./figures.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 5);
const CHUNKS = Number(process.env["BENCH_CHUNKS"] ?? 10_000_000);
/** Milliseconds. */
const LIMIT_READY = 1000;
/** MiB more than for an empty store. */
const LIMIT_MIB = 16;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));

async function start(store: string): Promise<{ readonly milliseconds: number; readonly mib: number }> {
  const begun = performance.now();
  await using server = await startServer(store);
  const { status } = await fetch(`${server.url}/00000000000000000000000000000000.narinfo`);
  if (status !== 404) throw new Error(`found status ${status}`);
  return { milliseconds: performance.now() - begun, mib: await peakMemory(server.child.pid ?? 0) };
}

try {
  const [empty, large] = [join(directory, "empty"), join(directory, "large")];
  for (const store of [empty, large]) await (await PacksStore.open(store, { create: true }))[Symbol.asyncDispose]();
  const database = new Database(join(large, "index.sqlite"));
  database.pragma("journal_mode = WAL");
  // Sorted, since random places in the tree would take an hour.
  database
    .prepare(
      `INSERT INTO chunks (digest, pack, block_offset, block_length, offset, length)
       SELECT digest, 1, 64, 100000, 0, 1000 FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT randomblob(32) AS digest FROM n) ORDER BY digest`,
    )
    .run(CHUNKS);
  database.close();
  const times: number[] = [];
  const others: number[] = [];
  let [mib, otherMib] = [0, 0];
  for (let run = 0; run < RUNS; run++) {
    const [own, other] = [await start(large), await start(empty)];
    times.push(own.milliseconds);
    others.push(other.milliseconds);
    [mib, otherMib] = [Math.max(mib, own.mib), Math.max(otherMib, other.mib)];
  }
  const what = `start with ${CHUNKS / 1e6} million chunks`;
  claim({ number: 12, what, narbor: `${median(times).toFixed(0)} ms`, beside: `an empty store ${median(others).toFixed(0)} ms`, ratio: "", wanted: `< ${LIMIT_READY} ms`, isMet: median(times) < LIMIT_READY });
  claim({ number: 12, what: `${what}, memory`, narbor: `${mib} MiB`, beside: `an empty store ${otherMib} MiB`, ratio: "", wanted: `≤ ${LIMIT_MIB} MiB more`, isMet: mib - otherMib <= LIMIT_MIB });
} finally {
  await rm(directory, { recursive: true, force: true });
}

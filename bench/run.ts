/**
 * `npm run bench`: every claim, one after the other, and a table of them in bench/RESULTS.md. `npm run bench -- import nar-out` runs these only, and writes
 * nothing. BENCH_DIR says where stores and NARs are (by default a file system in memory, if there is one: the disk is not what is measured).
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { join, resolve } from "node:path";
import type { Claim } from "./claims.ts";

const BENCHES = ["import", "nar-out", "nar-compressed", "narinfo", "store-size", "cold-start", "many-paths", "large-loads"];
const MEMORY = "/dev/shm";
const PAGE = resolve(import.meta.dirname, "RESULTS.md");

async function runBench(script: string, results: string): Promise<boolean> {
  const directory = process.env["BENCH_DIR"] ?? (existsSync(MEMORY) ? MEMORY : tmpdir());
  const child = spawn(process.execPath, ["--import", "tsx", resolve(import.meta.dirname, `${script}.ts`)], {
    stdio: "inherit",
    env: { ...process.env, BENCH_DIR: directory, BENCH_RESULTS: results },
  });
  return (await new Promise((done) => child.on("close", done))) === 0;
}

function page(claims: readonly Claim[], minutes: number): string {
  const model = cpus()[0]?.model ?? "unknown";
  const rows = claims.map(({ number, what, narbor, beside, ratio, wanted, isMet }) => `| ${number} | ${what} | ${narbor} | ${beside} | ${ratio} | ${wanted} | ${wanted === "" ? "" : isMet ? "yes" : "**no**"} |`);
  return `# Results

Written by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}, in ${minutes.toFixed(0)} minutes. ${availableParallelism()} processors (${model.trim()}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release().split("-")[0]}, Node.js ${process.versions.node}. Medians of
several runs in turn with what stands beside them, stores and files in memory. Ratios carry over to other machines, rates do not.

| | what | narbor | beside it | ratio | wanted | |
|--:|---|--:|--:|--:|--:|---|
${rows.join("\n")}
`;
}

const asked = process.argv.slice(2);
const chosen = asked.length === 0 ? BENCHES : BENCHES.filter((script) => asked.includes(script));
if (chosen.length === 0) throw new Error(`No such bench: ${asked.join(", ")}. There are ${BENCHES.join(", ")}`);
const directory = await mkdtemp(join(tmpdir(), "narbor-results-"));
try {
  const results = join(directory, "results");
  const begun = performance.now();
  let isWhole = true;
  for (const script of chosen) isWhole = (await runBench(script, results)) && isWhole;
  if (!isWhole) throw new Error("A bench has failed: there are no results");
  const claims = (await readFile(results, "utf8")).trim().split("\n").map((line) => JSON.parse(line) as Claim);
  if (asked.length === 0) await writeFile(PAGE, page(claims.toSorted((a, b) => a.number - b.number), (performance.now() - begun) / 60_000));
} finally {
  await rm(directory, { recursive: true, force: true });
}

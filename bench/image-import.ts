/**
 * Claim: taking an image in costs hardly more than inflating it once, and writes nothing but the store.
 * A docker-archive of 50 layers, `gzip -6`, its manifest last, goes through `gunzip`, into an empty store, and into the store that has it, in turn.
 * BENCH_IMAGES=24 takes as many images one after the other, which share two thirds of their layers.
 */
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, printRow, rate } from "./figures.ts";
import { closureCorpus, dockerArchive, layerName } from "./image-corpus.ts";
import { NARBOR, type Ran, runProcess, writeThrough } from "./run-process.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 5);
const IMAGES = Number(process.env["BENCH_IMAGES"] ?? 1);
const BYTES = Number(process.env["BENCH_BYTES"] ?? 460e6);
const LIMIT_MIB = 300;
const LIMIT_RATIO = 1.15;
/** Layers that are looked for by inflating the archive each time. */
const OPENED_LAYERS = 3;

interface Import extends Ran {
  /** Files that it left in the temporary directory. */
  readonly left: readonly string[];
}

async function importImage(archive: string, store: string, watch: boolean): Promise<Import> {
  const temporary = await mkdtemp(join(directory, "tmp-"));
  const ran = await runProcess([...NARBOR, "image", "import", "--json", "--store", store, archive], { env: { TMPDIR: temporary }, watch });
  return { ...ran, left: await readdir(temporary) };
}

async function bytesIn(path: string): Promise<number> {
  const files = await readdir(path, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(files.filter((file) => file.isFile()).map(async (file) => (await stat(join(file.parentPath, file.name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Median, and best: on a machine that does other things, the best is nearer to what it takes. */
function seconds(times: readonly number[]): string {
  return `${(median(times) / 1000).toFixed(2)} s, best ${(Math.min(...times) / 1000).toFixed(2)}`;
}

function ratio(times: readonly number[], others: readonly number[]): string {
  return `${(median(times) / median(others)).toFixed(2)} ×, best ${(Math.min(...times) / Math.min(...others)).toFixed(2)} ×`;
}

function timesOf(runs: readonly Ran[]): number[] {
  return runs.map(({ milliseconds }) => milliseconds);
}

function cpu(runs: readonly Ran[]): string {
  return `CPU ${(median(runs.map(({ cpuMilliseconds }) => cpuMilliseconds)) / 1000).toFixed(1)} s`;
}

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
try {
  const archive = join(directory, "image.tar.gz");
  const corpus = closureCorpus(BYTES);
  const size = corpus.reduce((sum, path) => sum + path.size, 0);
  await writeThrough(["gzip", "-6"], dockerArchive(corpus, "bench:1"), archive);
  const compressed = (await stat(archive)).size;
  console.log(`${corpus.length} layers, ${corpus.reduce((sum, { files }) => sum + files.length, 0)} files, ${(size / 1e6).toFixed(0)} MB, gzip -6: ${(compressed / 1e6).toFixed(0)} MB; ${RUNS} runs in turn`);

  const ran: Record<"gunzip" | "cold" | "warm", Ran[]> = { gunzip: [], cold: [], warm: [] };
  for (let run = 0; run < RUNS; run++) {
    const store = join(directory, "store");
    ran.gunzip.push(await runProcess(["gunzip", "-c", archive], { output: "/dev/null" }));
    ran.cold.push(await importImage(archive, store, false));
    ran.warm.push(await importImage(archive, store, false));
    await rm(store, { recursive: true });
  }
  const [gunzip, cold, warm] = [timesOf(ran.gunzip), timesOf(ran.cold), timesOf(ran.warm)];
  printRow("gunzip > /dev/null", rate(size, median(gunzip)), seconds(gunzip), cpu(ran.gunzip));
  printRow("import, cold", rate(size, median(cold)), seconds(cold), cpu(ran.cold), ratio(cold, gunzip), `wanted ≤ ${LIMIT_RATIO}`);
  printRow("import, warm", rate(size, median(warm)), seconds(warm), cpu(ran.warm), ratio(warm, gunzip));

  const opened: number[] = [];
  for (const index of [0, Math.floor(corpus.length / 2), corpus.length - 1].slice(0, OPENED_LAYERS)) {
    opened.push((await runProcess(["sh", "-c", `gunzip -c "$1" | tar -xOf - "$2" | sha256sum`, "sh", archive, layerName(index)])).milliseconds);
  }
  const all = (opened.reduce((sum, time) => sum + time, 0) / opened.length) * corpus.length;
  printRow("the archive opened for each layer", `${(all / 1000).toFixed(0)} s`, `${(all / median(cold)).toFixed(0)} × cold import`, `(${opened.length} layers measured, times ${corpus.length}/${opened.length})`);

  for (const how of ["cold", "warm"] as const) {
    const store = join(directory, "watched");
    const before = how === "cold" ? 0 : await bytesIn(store);
    const watched = await importImage(archive, store, true);
    const grown = (await bytesIn(store)) - before;
    printRow(
      `memory and writes, ${how}`,
      `${watched.peakMib} MiB`,
      watched.peakMib <= LIMIT_MIB ? "ok" : `over ${LIMIT_MIB} MiB`,
      `written ${(watched.writtenBytes / 1e6).toFixed(0)} MB`,
      `store ${(grown / 1e6).toFixed(0)} MB more`,
      `temporary: ${watched.left.length + watched.namelessFiles.size} files`,
    );
  }

  if (IMAGES > 1) {
    const store = join(directory, "many");
    await mkdir(store);
    const times = { gunzip: 0, cold: 0, warm: 0 };
    for (let image = 0; image < IMAGES; image++) {
      const file = join(directory, "one.tar.gz");
      await writeThrough(["gzip", "-6"], dockerArchive(closureCorpus(BYTES, image), `bench:${image}`), file);
      times.gunzip += (await runProcess(["gunzip", "-c", file], { output: "/dev/null" })).milliseconds;
      times.cold += (await importImage(file, store, false)).milliseconds;
      times.warm += (await importImage(file, store, false)).milliseconds;
    }
    for (const [what, time] of Object.entries(times)) printRow(`${IMAGES} images, ${what}`, rate(size * IMAGES, time), `${(time / 1000).toFixed(0)} s`, `${(time / times.gunzip).toFixed(2)} × gunzip`);
    printRow("their store", `${((await bytesIn(store)) / 1e6).toFixed(0)} MB`);
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}

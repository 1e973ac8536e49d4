/**
 * Claim: one stream that renders, hashes, compresses on all processors and hashes again is quicker than doing one after the other, and needs no temporary file.
 * A closure of 50 paths, from files to a file: `tar`, then `sha256sum` of that (as of a layer, its diffID), then `gzip` or `zstd -T1` of the same level, then
 * `sha256sum` of what that made (its digest); from a store to a file: `narbor export --closure`, which says both digests. In turn. Beside it the same programs
 * without the first digest, apart and in a pipe.
 */
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
// As built: what users run, and its codec workers are .js.
import { dumpFilesystem, importNar, PacksStore } from "../dist/index.js";
import { describeImages } from "../dist/image/image-archive.js";
import { imageOfClosure, layerCompression } from "../dist/image/plan-export.js";
import { parseStorePath } from "../dist/nix/store-path.js";
import { median, printRow } from "./figures.ts";
import { closureCorpus, type CorpusPath } from "./image-corpus.ts";
import { NARBOR, type Ran, runProcess } from "./run-process.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 5);
const BYTES = Number(process.env["BENCH_BYTES"] ?? 460e6);
const LIMIT_RATIO = 1.6;
/** Milliseconds. */
const LIMIT_DESCRIBE = 20;
const DESCRIBES = 20;
const PATHS = 50;
const PROGRAMS = { gzip: "gzip -6", zstd: "zstd -q -T1 -1" } as const;
const CODECS = ["gzip", "zstd"] as const;
const FORMATS = ["tar", "docker"] as const;
const TAR = "tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --format=posix --pax-option=delete=atime,delete=ctime -C \"$1\" -cf";

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
const root = join(directory, "root");
const store = join(directory, "store");

async function writePath({ storePath, files }: CorpusPath): Promise<void> {
  for (const { path, executable, bytes } of files) {
    const file = join(root, storePath, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, Buffer.concat([...bytes()]));
    if (executable) await chmod(file, 0o755);
  }
}

/** Paths as they are in a store; the last refers to all. */
async function putClosure(paths: readonly CorpusPath[]): Promise<string> {
  await using packs = await PacksStore.open(store, { create: true });
  const references = paths.map(({ storePath }) => parseStorePath(storePath));
  for (const [index, { storePath }] of paths.entries()) {
    const work = packs.begin();
    const imported = await importNar(dumpFilesystem(join(root, storePath)), { blobs: work.blobs, directories: work.directories });
    await work.commit();
    await packs.pathInfos.put({ ...imported, storePath: parseStorePath(storePath), references: index === paths.length - 1 ? references : [], signatures: [] });
  }
  return paths.at(-1)?.storePath ?? "";
}

/** What a shell does with the files, `$1`; `$2` is where it writes. */
async function shell(script: string): Promise<Ran> {
  const output = join(directory, "theirs");
  const ran = await runProcess(["sh", "-ec", script, "sh", root, output]);
  for (const name of await readdir(directory)) if (name.startsWith("theirs")) await rm(join(directory, name));
  return ran;
}

async function narborExport(top: string, format: string, codec: string, watch: boolean): Promise<Ran & { readonly size: number; readonly temporaryFiles: number }> {
  const output = join(directory, "ours");
  const temporary = await mkdtemp(join(directory, "tmp-"));
  const ran = await runProcess([...NARBOR, "export", top, "--closure", "--format", format, "--compression", codec, "--json", "--store", store, "-o", output], { env: { TMPDIR: temporary }, watch });
  const { digest, writtenBytes } = JSON.parse(ran.stdout) as { digest: string; writtenBytes: number };
  const { size } = await stat(output);
  if (size !== writtenBytes) throw new Error(`narbor wrote ${size} bytes and says ${writtenBytes}`);
  if (watch) {
    const hash = createHash("sha256");
    for await (const bytes of createReadStream(output)) hash.update(bytes as Buffer);
    if (`sha256:${hash.digest("hex")}` !== digest) throw new Error("narbor wrote another digest than it says");
  }
  const others = (await readdir(directory)).filter((name) => name.startsWith("ours") && name !== "ours");
  const temporaryFiles = (await readdir(temporary)).length + ran.namelessFiles.size + others.length;
  await rm(output);
  return { ...ran, size, temporaryFiles };
}

/** What `narbor image describe` does when the digests are remembered, in a process that has begun. */
async function describeWarm(top: string): Promise<void> {
  await using packs = await PacksStore.open(store);
  const path = await packs.pathInfos.get(parseStorePath(top).digest);
  if (path === undefined) throw new Error(`${top} is not in the store`);
  const options = { format: "oci", compression: "gzip" } as const;
  const times: number[] = [];
  // The first computes.
  for (let run = 0; run <= DESCRIBES; run++) {
    const begun = performance.now();
    const image = await imageOfClosure(path, {}, packs, {});
    await describeImages([image], packs, { name: undefined, compression: layerCompression(options) });
    if (run > 0) times.push(performance.now() - begun);
  }
  printRow(`describe ${PATHS} layers again`, `${median(times).toFixed(1)} ms`, `worst ${Math.max(...times).toFixed(0)} of ${DESCRIBES}`, `wanted < ${LIMIT_DESCRIBE} ms`);
}

/** How many times as fast, by medians and by bests: on a machine that does other things, the best is nearer to what it takes. */
function faster(runs: readonly Ran[], than: readonly Ran[]): string {
  const [times, others] = [timesOf(runs), timesOf(than)];
  return `${(median(others) / median(times)).toFixed(2)} ×, ${(Math.min(...others) / Math.min(...times)).toFixed(2)} × as fast`;
}

function timesOf(runs: readonly Ran[]): number[] {
  return runs.map(({ milliseconds }) => milliseconds);
}

try {
  const corpus = closureCorpus(BYTES);
  const bytes = corpus.reduce((sum, { size }) => sum + size, 0);
  for (const path of corpus) await writePath(path);
  const top = await putClosure(corpus);
  console.log(`${corpus.length} paths, ${corpus.reduce((sum, { files }) => sum + files.length, 0)} files, ${(bytes / 1e6).toFixed(0)} MB; ${RUNS} runs in turn; times are medians and bests`);
  for (const codec of CODECS) {
    const apart: Ran[] = [];
    const onlyOutput: Ran[] = [];
    const piped: Ran[] = [];
    const ours = new Map<string, Ran[]>(FORMATS.map((format) => [format, []]));
    for (let run = 0; run < RUNS; run++) {
      apart.push(await shell(`${TAR} "$2.tar" nix; sha256sum "$2.tar"; ${PROGRAMS[codec]} -c "$2.tar" > "$2.compressed"; sha256sum "$2.compressed"`));
      onlyOutput.push(await shell(`${TAR} "$2.tar" nix; ${PROGRAMS[codec]} -c "$2.tar" > "$2.compressed"; sha256sum "$2.compressed"`));
      piped.push(await shell(`${TAR} - nix | ${PROGRAMS[codec]} -c | tee "$2.compressed" | sha256sum`));
      for (const [format, runs] of ours) runs.push(await narborExport(top, format, codec, false));
    }
    const row = (what: string, runs: readonly Ran[], ...more: readonly string[]): void => {
      const times = timesOf(runs);
      const cpu = median(runs.map(({ cpuMilliseconds }) => cpuMilliseconds));
      printRow(`${codec}: ${what}`, `${(median(times) / 1000).toFixed(2)} s, ${(Math.min(...times) / 1000).toFixed(2)}`, `CPU ${(cpu / 1000).toFixed(1)} s`, ...more);
    };
    row("tar, hash, compress, hash", apart);
    row("tar, compress, hash", onlyOutput, faster(onlyOutput, apart));
    row("the same in a pipe", piped, faster(piped, apart));
    for (const [format, runs] of ours) {
      const watched = await narborExport(top, format, codec, true);
      row(`narbor export --format ${format}`, runs, faster(runs, apart), `wanted ≥ ${LIMIT_RATIO}`, `${(watched.size / 1e6).toFixed(0)} MB`, `${watched.peakMib} MiB`, `temporary: ${watched.temporaryFiles} files`);
    }
  }
  await describeWarm(top);
  for (const again of ["first", "again"]) {
    const { milliseconds } = await runProcess([...NARBOR, "export", top, "--store", store, "--closure", "--format", "oci", "--compression", "gzip", "-o", `${join(directory, "layout")}/`]);
    printRow(`an OCI layout in a directory, ${again}`, `${(milliseconds / 1000).toFixed(2)} s`);
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}

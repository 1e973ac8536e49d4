/**
 * Claim 8: narinfos are answered at a good part of the rate of a file server that has them as files, known or not, and while imports run.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHash } from "node:crypto";
import { encodeNix32 } from "../dist/nix/nix32.js";
import { startServer } from "../test/helpers/narbor-process.ts";
import { atLeast, claim } from "./claims.ts";
import { startNginx } from "./file-server.ts";
import { median } from "./figures.ts";
import { shareFiles, smallFiles } from "./nar-corpus.ts";
import { hasProgram, load } from "./wrk.ts";
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);
const SECONDS = 3;
const CONNECTIONS = 16;
const PATHS = 1000;
const LIMIT_RATIO = 0.5;
/** Milliseconds. */
const LIMIT_P99 = 5;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
const files = join(directory, "files");

/** Put a path with its NAR, as `nix copy` does, and give what a file server would have of it. */
async function putPath(url: string, index: number, nar: Uint8Array<ArrayBuffer>): Promise<string> {
  const narHash = `sha256:${encodeNix32(createHash("sha256").update(nar).digest())}`;
  const name = encodeNix32(createHash("sha256").update(`path ${index}`).digest().subarray(0, 20));
  const narinfo = [
    `StorePath: /nix/store/${name}-path-${index}`,
    `URL: nar/${narHash.slice(7)}.nar`,
    "Compression: none",
    `FileHash: ${narHash}`,
    `FileSize: ${nar.length}`,
    `NarHash: ${narHash}`,
    `NarSize: ${nar.length}`,
    "References: ",
    "",
  ].join("\n");
  const put = async (path: string, body: string | Uint8Array<ArrayBuffer>): Promise<void> => {
    const { status } = await fetch(`${url}${path}`, { method: "PUT", body });
    if (status >= 300) throw new Error(`PUT ${path}: ${status}`);
  };
  await put(`/nar/${narHash.slice(7)}.nar`, nar);
  await put(`/${name}.narinfo`, narinfo);
  await writeFile(join(files, `${name}.narinfo`), await (await fetch(`${url}/${name}.narinfo`)).text());
  return `/${name}.narinfo`;
}

if (!hasProgram("nginx") || !hasProgram("wrk")) throw new Error("This bench needs nginx and wrk: apt-get install nginx-light wrk");
try {
  await mkdir(files, { recursive: true });
  const pieces: Uint8Array[] = [];
  for await (const bytes of smallFiles(1, 100).read()) pieces.push(bytes);
  const nar = new Uint8Array(Buffer.concat(pieces));
  await using narbor = await startServer(join(directory, "store"));
  const known: string[] = [];
  for (let index = 0; index < PATHS; index++) known.push(await putPath(narbor.url, index, nar));
  const unknown = Array.from({ length: PATHS }, (_, index) => `/${encodeNix32(createHash("sha256").update(`no path ${index}`).digest().subarray(0, 20))}.narinfo`);
  await using nginx = await startNginx(files);
  for (const [what, paths, expectedErrors] of [["known", known, false], ["unknown", unknown, true]] as const) {
    const own: number[] = [];
    const others: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      own.push((await load(narbor.url, paths, { connections: CONNECTIONS, seconds: SECONDS, expectedErrors })).requestsPerSecond);
      others.push((await load(nginx.url, paths, { connections: CONNECTIONS, seconds: SECONDS, expectedErrors })).requestsPerSecond);
    }
    const [ours, theirs] = [median(own), median(others)];
    claim({ number: 8, what: `narinfo, ${what}, ${CONNECTIONS} at once`, narbor: `${ours.toFixed(0)}/s`, beside: `nginx ${theirs.toFixed(0)}/s`, ...atLeast(ours / theirs, LIMIT_RATIO) });
  }
  // Two imports by way of the same server.
  const share = join(directory, "share.nar");
  const hash = createHash("sha256");
  await pipeline(shareFiles().read(), async function* (source) { for await (const bytes of source) { hash.update(bytes); yield bytes; } }, createWriteStream(share));
  const url = `${narbor.url}/nar/${encodeNix32(hash.digest())}.nar`;
  const imports = [1, 2].map(() => spawn("sh", ["-c", `while curl -sf -T ${share} ${url} > /dev/null; do :; done`], { detached: true }));
  const { p99, requestsPerSecond } = await load(narbor.url, known, { connections: CONNECTIONS, seconds: SECONDS * 2 });
  for (const { pid = 0 } of imports) process.kill(-pid);
  claim({ number: 8, what: "narinfo while two imports run", narbor: `p99 ${p99.toFixed(1)} ms`, beside: `${requestsPerSecond.toFixed(0)}/s`, ratio: "", wanted: `< ${LIMIT_P99} ms`, isMet: p99 < LIMIT_P99 });
} finally {
  await rm(directory, { recursive: true, force: true });
}

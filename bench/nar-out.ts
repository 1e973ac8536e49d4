/**
 * Claim: NARs come out at a good part of a file server's speed though they are put together from parts.
 * The same bytes are fetched from `narbor serve` and from nginx (or a plain node:http file server where there is none), in turn.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { encodeNix32 } from "../src/nix/nix32.ts";
import { startServer } from "../test/helpers/narbor-process.ts";
import { median, printRow, rate, timed } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { mixedFiles, smallFiles } from "./nar-corpus.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 5);

/** Fetch and throw away. */
function drain(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    get(url, (response) => {
      let size = 0;
      response.on("data", (chunk: Buffer) => (size += chunk.length));
      response.on("end", () => (response.statusCode === 200 ? resolve(size) : reject(new Error(`${url}: ${response.statusCode}`))));
      response.on("error", reject);
    }).on("error", reject);
  });
}

interface FileServer extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
}

async function startFileServer(directory: string): Promise<FileServer> {
  if (spawnSync("sh", ["-c", "command -v nginx"]).status !== 0) return await startNodeFileServer(directory);
  const port = 20_000 + (process.pid % 20_000);
  const configuration = `daemon off; pid ${directory}/nginx.pid; error_log stderr crit; worker_processes 1; events {}
http { access_log off; sendfile on; client_body_temp_path ${directory}/b; proxy_temp_path ${directory}/p; fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
server { listen 127.0.0.1:${port}; root ${directory}; } }`;
  await writeFile(join(directory, "nginx.conf"), configuration);
  const child = spawn("nginx", ["-c", join(directory, "nginx.conf"), "-g", `user ${process.env["USER"] ?? "root"};`], { stdio: ["ignore", "inherit", "inherit"] });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 100 && !(await drain(`${url}/small`).then(() => true, () => false)); tries++) await new Promise((resolve) => setTimeout(resolve, 50));
  return { name: "nginx", url, [Symbol.asyncDispose]: async () => void child.kill() };
}

async function startNodeFileServer(directory: string): Promise<FileServer> {
  const server = createServer((request, response) => void pipeline(createReadStream(join(directory, request.url ?? "")), response).catch(() => response.destroy()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { name: "node:http", url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, [Symbol.asyncDispose]: async () => void server.close() };
}

async function measure(corpus: Corpus): Promise<void> {
  const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  try {
    const file = join(directory, "nar");
    await writeFile(join(directory, "small"), "small");
    const hash = createHash("sha256");
    await pipeline(
      corpus.read(),
      async function* (source) {
        for await (const chunk of source) {
          hash.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(file),
    );
    const name = `nar/${encodeNix32(hash.digest())}.nar`;
    const { size } = await stat(file);
    await using narbor = await startServer(join(directory, "store"));
    const uploaded = await fetch(`${narbor.url}/${name}`, { method: "PUT", body: createReadStream(file), duplex: "half" });
    if (uploaded.status !== 201) throw new Error(`PUT: ${uploaded.status} ${await uploaded.text()}`);
    await using peer = await startFileServer(directory);
    const own: number[] = [];
    const others: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      own.push((await timed(() => drain(`${narbor.url}/${name}`))).milliseconds);
      others.push((await timed(() => drain(`${peer.url}/nar`))).milliseconds);
    }
    printRow(corpus.name, `narbor ${rate(size, median(own))}`, `${peer.name} ${rate(size, median(others))}`, `${(median(own) / median(others)).toFixed(1)} × ${peer.name}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await measure(smallFiles(100_000, 1000));
await measure(mixedFiles(4e8, 2 ** 24));

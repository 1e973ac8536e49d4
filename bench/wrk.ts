/** Load by wrk, which takes less of a processor than a client in Node.js. From Debian: `wrk`. */
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runProcess } from "./run-process.ts";

export interface Load {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Milliseconds in which 99 of 100 requests are answered. */
  readonly p99: number;
}

const UNITS = { "": 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 } as const;
const MILLISECONDS = { us: 0.001, ms: 1, s: 1000, m: 60_000 } as const;

export function hasProgram(name: string): boolean {
  return spawnSync("sh", ["-c", `command -v ${name}`]).status === 0;
}

/** Ask for these paths in turn, for so many seconds, on so many connections. @throws Error when an answer has not the status expected */
export async function load(url: string, paths: readonly string[], { connections, seconds, expectedErrors = false }: { readonly connections: number; readonly seconds: number; readonly expectedErrors?: boolean }): Promise<Load> {
  const directory = await mkdtemp(join(tmpdir(), "narbor-wrk-"));
  try {
    const script = join(directory, "paths.lua");
    const list = paths.map((path) => JSON.stringify(path)).join(",");
    await writeFile(script, `local paths = {${list}}\nlocal i = 0\nrequest = function()\n  i = i % #paths + 1\n  return wrk.format("GET", paths[i])\nend\n`);
    const { stdout } = await runProcess(["wrk", "-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "60s", "--latency", "-s", script, url]);
    if (/Non-2xx or 3xx responses/.test(stdout) !== expectedErrors) throw new Error(`${url}: ${stdout}`);
    const [, requests = "0"] = /Requests\/sec:\s+([\d.]+)/.exec(stdout) ?? [];
    const [, bytes = "0", unit = ""] = /Transfer\/sec:\s+([\d.]+)([KMG]?)B/.exec(stdout) ?? [];
    const [, p99 = "0", time = "ms"] = /99%\s+([\d.]+)(us|ms|s|m)/.exec(stdout) ?? [];
    return {
      requestsPerSecond: Number(requests),
      bytesPerSecond: Number(bytes) * UNITS[unit as keyof typeof UNITS],
      p99: Number(p99) * MILLISECONDS[time as keyof typeof MILLISECONDS],
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

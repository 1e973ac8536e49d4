/** What runs on a disk that is full soon: a tmpfs in a mount namespace of its own. */
import { execFile, spawn, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { FilledDisk } from "./fill-small-disk.ts";
import { NARBOR_MAIN } from "./narbor-process.ts";

const FILL_SMALL_DISK = resolve(import.meta.dirname, "fill-small-disk.ts");

/** Leave a test out, and say so, where nothing can be mounted. In CI it runs, and fails. */
export function skipWithoutMounts(skip: (condition: boolean, note: string) => void, what: string): void {
  const canMount = spawnSync("unshare", ["-rm", "sh", "-c", 'mount -t tmpfs none "$0"', tmpdir()]).status === 0;
  if (canMount || process.env["CI"] === "true") return;
  console.log(`No user namespaces here: ${what} is not covered`);
  skip(true, "no user namespaces");
}

/** Run `fill-small-disk.ts` on a disk of 24 MiB that is mounted at `directory`. */
export async function fillSmallDisk(directory: string): Promise<FilledDisk> {
  const script = 'mount -t tmpfs -o size=24m none "$1" && exec "$2" --import tsx "$3" "$1"';
  const { stdout } = await promisify(execFile)("unshare", ["-rm", "sh", "-c", script, "sh", directory, process.execPath, FILL_SMALL_DISK]);
  return JSON.parse(stdout) as FilledDisk;
}

export interface SmallDiskServer extends AsyncDisposable {
  readonly url: string;
  /** Make the disk larger while the server runs. */
  makeRoom(): Promise<void>;
}

/** @param size as tmpfs takes it, such as `12m` */
export async function startServerOnSmallDisk(directory: string, size: string): Promise<SmallDiskServer> {
  // The shell waits for one line on its input, then enlarges the disk: no one outside the namespace can.
  const script = `mount -t tmpfs -o size=${size} none "$1" && { "$2" "$3" serve --listen 127.0.0.1:0 --store "$4" < /dev/null & PID=$!; read _; mount -o remount,size=200m "$1"; echo roomy; read _; kill -9 $PID; }`;
  const child = spawn("unshare", ["-rm", "sh", "-c", script, "sh", directory, process.execPath, NARBOR_MAIN, join(directory, "store")], { stdio: ["pipe", "pipe", "inherit"] });
  let stdout = "";
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  const waitFor = async (pattern: RegExp): Promise<string> => {
    for (let tries = 0; tries < 400; tries++) {
      const match = pattern.exec(stdout);
      if (match !== null) return match[1] ?? "";
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`The server did not say ${String(pattern)}: ${stdout}`);
  };
  const url = await waitFor(/^narbor listening on (http:\/\/\S+)$/m);
  return {
    url,
    makeRoom: async () => {
      child.stdin.write("\n");
      await waitFor(/^roomy$/m);
    },
    [Symbol.asyncDispose]: async () => {
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.stdin.end("\n\n");
      await ended;
    },
  };
}

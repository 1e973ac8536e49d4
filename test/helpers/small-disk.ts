/** `narbor serve` on a disk that is full soon: a tmpfs in a mount namespace of its own. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { NARBOR_MAIN } from "./narbor-process.ts";

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

/** The built `narbor` command as a process of its own. */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { resolve } from "node:path";

/** `npm test` builds it first. */
export const NARBOR_MAIN = resolve(import.meta.dirname, "../../dist/command/narbor.js");

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Run `narbor` with these arguments to its end. */
export async function runNarbor(args: readonly string[], options: { readonly input?: Uint8Array; readonly env?: NodeJS.ProcessEnv } = {}): Promise<CommandResult> {
  const child = spawn(process.execPath, [NARBOR_MAIN, ...args], { env: { ...process.env, NARBOR_STORE: undefined, ...options.env } });
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => stdout.push(data));
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const code = await new Promise<number | null>((done) => child.on("close", done));
  return { code, stdout: Buffer.concat(stdout), stderr };
}

export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly child: ChildProcess;
  /** Send a signal and wait for the end. Null when it was the signal that ended it. */
  stop(signal: NodeJS.Signals): Promise<number | null>;
  stderr(): string;
}

/** Start `narbor serve` and wait until it says that it listens. */
export async function startServer(store: string, args: readonly string[] = []): Promise<ServerProcess> {
  const child = spawn(process.execPath, [NARBOR_MAIN, "serve", "--listen", "127.0.0.1:0", "--store", store, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const ended = new Promise<number | null>((done) => child.on("exit", (code) => done(code)));
  const url = await new Promise<string>((found, failed) => {
    let stdout = "";
    child.stdout.on("data", (data: Buffer) => {
      stdout += data.toString();
      const [, address] = /^narbor listening on (http:\/\/\S+)$/m.exec(stdout) ?? [];
      if (address !== undefined) found(address);
    });
    child.on("exit", (code) => failed(new Error(`narbor serve ended with ${code}: ${stderr}`)));
  });
  const stop = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return await ended;
  };
  return {
    url,
    child,
    stop,
    stderr: () => stderr,
    [Symbol.asyncDispose]: async () => void (await stop("SIGKILL")),
  };
}

/**
 * The Nix store of this machine, asked by way of the `nix` command: whatever NIX_REMOTE and nix.conf make of it (files, a daemon, a store in
 * another directory) is Nix's to know.
 */
import { spawn } from "node:child_process";
import { collectBytes } from "../bytes/collect.ts";
import { NarborError, errorMessage } from "../errors.ts";
import type { NixPathInfo } from "../nix/path-info-json.ts";
import { parsePathInfoJson } from "../nix/path-info-json.ts";
import type { StorePath } from "../nix/store-path.ts";
import { formatStorePath } from "../nix/store-path.ts";

/** Where NARs to be pushed come from. */
export interface LocalStore {
  /**
   * What is known of these paths and of all that they refer to.
   *
   * @throws NarborError ERR_NOT_FOUND when one is not there, ERR_UNAVAILABLE when Nix is not there or does not answer
   */
  closure(paths: readonly StorePath[], signal?: AbortSignal): Promise<readonly NixPathInfo[]>;
  /**
   * A path's NAR. Can be read once.
   *
   * @throws NarborError ERR_INVALID when it cannot be read to its end
   */
  dump(path: StorePath, signal?: AbortSignal): AsyncIterable<Uint8Array>;
}

const NIX = "nix";
/** A path info takes some 500 bytes, and a text in JavaScript has at most 512 MiB. */
const JSON_LIMIT = 256 * 1024 * 1024;
/** Of what a program said on standard error before it failed. */
const STDERR_BYTES = 4096;
const STDERR_LINES = 4;

/** `nix` on the PATH. */
export class NixCommand implements LocalStore {
  async closure(paths: readonly StorePath[], signal?: AbortSignal): Promise<readonly NixPathInfo[]> {
    const infos = new Map<string, NixPathInfo>();
    // A derivation named to Nix means its outputs (to old versions), unless it is told otherwise, and then a path means its derivation.
    for (const isDerivation of [false, true]) {
      const named = paths.filter((path) => isDerivationPath(path) === isDerivation).map(formatStorePath);
      if (named.length === 0) continue;
      const json = await pathInfoJson(["--recursive", ...(isDerivation ? ["--derivation"] : []), "--", ...named], signal);
      for (const info of parsePathInfoJson(json)) infos.set(formatStorePath(info.storePath), info);
    }
    return [...infos.values()];
  }

  // Not `nix-store --dump`: that takes a file's name, and where the path's files are is not always /nix/store.
  dump(path: StorePath, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    const args = ["store", "dump-path", ...(isDerivationPath(path) ? ["--derivation"] : []), "--", formatStorePath(path)];
    return outputOf(args, signal, (said) => new NarborError("ERR_INVALID", `Cannot read ${formatStorePath(path)}: "nix store dump-path" failed: ${said}`));
  }
}

function isDerivationPath(path: StorePath): boolean {
  return path.name.endsWith(".drv");
}

async function pathInfoJson(args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const run = async (...format: string[]): Promise<string> => {
    const output = outputOf(["path-info", "--json", ...format, ...args], signal, pathInfoFailure);
    return Buffer.from(await collectBytes(output, JSON_LIMIT, 'the output of "nix path-info"')).toString();
  };
  try {
    return await run();
  } catch (error) {
    // Nix 2.34 warns that it will not do without one some day; those before 2.33 do not know of it.
    if (!errorMessage(error).includes("--json-format")) throw error;
    return await run("--json-format", "2");
  }
}

function pathInfoFailure(said: string): NarborError {
  const [, path] = /path '(\/nix\/store\/[^']+)' is not (?:a )?valid/.exec(said) ?? [];
  if (path !== undefined) return new NarborError("ERR_NOT_FOUND", `There is no ${path} in the Nix store`);
  return new NarborError("ERR_UNAVAILABLE", `Cannot ask Nix what it knows of paths: "nix path-info" failed: ${said}`);
}

/** What `nix` with these arguments writes. It is ended when the signal fires, or its reader stops. */
async function* outputOf(args: readonly string[], signal: AbortSignal | undefined, failure: (said: string) => NarborError): AsyncGenerator<Uint8Array, void, undefined> {
  signal?.throwIfAborted();
  const child = spawn(NIX, ["--extra-experimental-features", "nix-command", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-STDERR_BYTES)));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  const closed = new Promise<{ readonly code: number | null } | { readonly error: unknown }>((resolve) => {
    child.once("close", (code) => resolve({ code })).once("error", (error) => resolve({ error }));
  });
  // It only reads, so nothing is left half done.
  const end = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", end, { once: true });
  try {
    for await (const bytes of child.stdout) yield bytes as Buffer;
    const result = await closed;
    signal?.throwIfAborted();
    if ("error" in result) throw new NarborError("ERR_UNAVAILABLE", `Cannot run "${NIX}": ${notRunnable(result.error)}`, { cause: result.error });
    if (result.code !== 0) throw failure(lastLines(said) || `it ended with ${result.code ?? child.signalCode}`);
  } finally {
    signal?.removeEventListener("abort", end);
    end();
    await exited;
  }
}

function notRunnable(error: unknown): string {
  const isMissing = typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT";
  return isMissing ? "there is no such program on the PATH; the paths of a Nix store are read with Nix" : errorMessage(error);
}

function lastLines(text: string): string {
  const lines = text.trimEnd().split("\n").slice(-STDERR_LINES);
  return lines.map((line) => line.trim()).join("; ").replace(/^error: /, "");
}

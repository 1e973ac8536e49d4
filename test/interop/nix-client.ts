/**
 * Real Nix clients, each with a configuration, a cache and stores of its own, in a temporary directory: no daemon, no
 * network, nothing of the machine's `/nix`, as root or not.
 *
 * The clients are the `nix` on the PATH, and those in the directories of NARBOR_TEST_NIX (colon-separated; each holds `nix` and
 * `nix-store`).
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { Readable } from "node:stream";
import type { ClosurePath } from "./closure.ts";
import { exportStream } from "./closure.ts";

/** A version of Nix. */
export interface NixInstallation {
  /** Such as 2.34.8. */
  readonly version: string;
  /** Holds `nix` and `nix-store`. */
  readonly directory: string;
}

export type NixProgram = "nix" | "nix-store";

export interface NixResult {
  /** Undefined when it was ended by a signal. */
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunOptions {
  /** What the program is to read. */
  readonly input?: Iterable<Uint8Array>;
  /** Milliseconds after which it is ended. @default 60000 */
  readonly timeout?: number;
}

/** Clients that got an answer they cannot use may wait for minutes, which is said here and not by the whole test's time limit. */
const DEFAULT_TIMEOUT_MILLISECONDS = 60_000;

/**
 * The clients to test with. Where there is none, CI fails; elsewhere a line says what is not covered.
 */
export function findNixInstallations(what: string): NixInstallation[] {
  const fromPath = (process.env["PATH"] ?? "").split(delimiter).find((directory) => directory !== "" && holdsNix(directory));
  const further = (process.env["NARBOR_TEST_NIX"] ?? "").split(delimiter).filter((directory) => directory !== "");
  const missing = further.filter((directory) => !holdsNix(directory));
  if (missing.length > 0) throw new Error(`NARBOR_TEST_NIX names ${missing.join(" and ")}, with no nix and nix-store in it`);
  const directories = [...new Set([...(fromPath === undefined ? [] : [fromPath]), ...further].map((directory) => resolve(directory)))];
  if (directories.length === 0) {
    if (process.env["CI"] === "true") throw new Error("There is no nix on the PATH, and CI must test with one");
    console.log(`not covered: ${what}, as there is no nix on the PATH and none in NARBOR_TEST_NIX`);
  }
  return directories.map((directory) => ({ version: versionOf(directory), directory }));
}

function holdsNix(directory: string): boolean {
  return existsSync(join(directory, "nix")) && existsSync(join(directory, "nix-store"));
}

function versionOf(directory: string): string {
  const { stdout, stderr } = spawnSync(join(directory, "nix"), ["--version"], { encoding: "utf8" });
  const [, version] = /(\d+\.\d+\S*)\s*$/.exec(stdout) ?? [];
  if (version === undefined) throw new Error(`${join(directory, "nix")} does not tell its version: ${stderr}`);
  return version;
}

export class NixClient implements AsyncDisposable {
  readonly installation: NixInstallation;
  readonly directory: string;
  readonly #environment: NodeJS.ProcessEnv;
  #stores = 0;

  private constructor(installation: NixInstallation, directory: string) {
    this.installation = installation;
    this.directory = directory;
    const inherited = Object.entries(process.env).filter(([name]) => !/^(NIX_|XDG_|VITEST|NODE_OPTIONS$|.*_proxy$)/i.test(name));
    this.#environment = {
      ...Object.fromEntries(inherited),
      HOME: join(directory, "home"),
      XDG_CACHE_HOME: join(directory, "cache"),
      NIX_CONF_DIR: join(directory, "conf"),
      // The store of commands that are told no other: not the machine's.
      NIX_REMOTE: join(directory, "default"),
    };
  }

  static async open(installation: NixInstallation): Promise<NixClient> {
    const directory = await mkdtemp(join(tmpdir(), "narbor-nix-"));
    for (const name of ["home", "cache", "conf"]) await mkdir(join(directory, name));
    const settings = ["experimental-features = nix-command flakes", "build-users-group =", "sandbox = false", "substituters =", "require-sigs = false", "fsync-metadata = false"];
    await writeFile(join(directory, "conf", "nix.conf"), `${settings.join("\n")}\n`);
    return new NixClient(installation, directory);
  }

  /** A new store, empty, by its directory. */
  newStore(): string {
    return join(this.directory, `store-${this.#stores++}`);
  }

  /** What a program needs in its environment to find this Nix first, with `store` for the machine's. `before` are directories of the PATH. */
  environment(store: string, before: readonly string[] = []): NodeJS.ProcessEnv {
    const path = [...before, this.installation.directory, this.#environment["PATH"] ?? ""].join(delimiter);
    return { ...this.#environment, NIX_REMOTE: store, PATH: path };
  }

  /** Run a program of Nix to its end. */
  async try(program: NixProgram, args: readonly string[], options: RunOptions = {}): Promise<NixResult> {
    const { input = [], timeout = DEFAULT_TIMEOUT_MILLISECONDS } = options;
    const child = spawn(join(this.installation.directory, program), args, { env: this.#environment, cwd: this.directory, timeout, killSignal: "SIGKILL" });
    const stdout: Buffer[] = [];
    let stderr = "";
    child.stdout.on("data", (data: Buffer) => stdout.push(data));
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.stdin.on("error", () => undefined);
    Readable.from(input, { objectMode: false }).pipe(child.stdin);
    return await new Promise((done, failed) => {
      child.on("error", failed);
      child.on("close", (code, signal) => done({ code: code ?? undefined, signal: signal ?? undefined, stdout: Buffer.concat(stdout), stderr }));
    });
  }

  /** Run a program of Nix, which must not fail. Returns what it wrote. */
  async run(program: NixProgram, args: readonly string[], options?: RunOptions): Promise<Buffer> {
    const { code, signal, stdout, stderr } = await this.try(program, args, options);
    if (code !== 0) {
      const end = signal === "SIGKILL" ? "did not end in time" : `ended with ${code ?? signal}`;
      throw new Error(`Nix ${this.installation.version}: ${program} ${args.join(" ").slice(0, 500)} ${end}: ${stderr.slice(-4000)}`);
    }
    return stdout;
  }

  /** Put paths into `store`. They must come after those they refer to. */
  async import(store: string, paths: readonly ClosurePath[], options?: RunOptions): Promise<void> {
    await this.run("nix-store", ["--store", store, "--import"], { ...options, input: exportStream(paths) });
  }

  /** Push paths, with what they refer to. `settings` are the cache's, as in its address: `compression=xz`. */
  async push(store: string, url: string, paths: readonly string[], settings = "", options?: RunOptions): Promise<void> {
    await this.run("nix", ["copy", "--from", store, "--to", settings === "" ? url : `${url}?${settings}`, ...paths], options);
  }

  /** Copy paths, with what they refer to, from a cache; signatures are not asked for. */
  async pull(url: string, store: string, paths: readonly string[], options?: RunOptions): Promise<void> {
    await this.run("nix", ["copy", "--no-check-sigs", "--from", url, "--to", store, ...paths], options);
  }

  /** Substitute paths, as a build would do it. */
  async substitute(url: string, store: string, paths: readonly string[], settings: readonly string[] = []): Promise<void> {
    await this.run("nix-store", ["--store", store, "--option", "substituters", url, ...settings, "-r", ...paths]);
  }

  /** The NAR that Nix makes of a path in `store`. */
  async dump(store: string, path: string): Promise<Buffer> {
    return await this.run("nix-store", ["--dump", join(store, path)]);
  }

  /** Forget what caches answered: narinfos for 30 days, that there is none for an hour. */
  async wipeCache(): Promise<void> {
    await rm(join(this.directory, "cache", "nix"), { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await makeWritable(Buffer.from(this.directory));
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Nix makes its stores' directories read-only, and only root can remove what is in one. Their names are bytes. */
async function makeWritable(directory: Buffer): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true, encoding: "buffer" })) {
    if (entry.isDirectory()) await makeWritable(Buffer.concat([directory, Buffer.from("/"), entry.name]));
  }
}

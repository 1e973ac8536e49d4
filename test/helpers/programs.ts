/** Programs of others that tests compare with. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

/**
 * What to call a program by. Where it is missing, CI fails; elsewhere a line says what is not covered, and this is undefined.
 *
 * @param names the program's, of which the first that is here counts
 * @param what is tested with it
 * @param versionArgument what makes it say its version and end well
 */
export function findProgram(names: readonly string[], what: string, versionArgument = "--version"): string | undefined {
  const found = names.find((name) => spawnSync(name, [versionArgument], { input: "" }).status === 0);
  if (found !== undefined) return found;
  if (process.env["CI"] === "true") throw new Error(`The program ${names[0]} is not installed, and CI must test with it`);
  console.log(`not covered: ${what}, as the program ${names[0]} is not installed`);
  return undefined;
}

export interface RunOptions {
  readonly input?: Uint8Array;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** What a program printed, which must end well. */
export async function outputOf(program: string, args: readonly (string | Buffer)[], options: RunOptions = {}): Promise<Buffer> {
  const child = spawn(program, args as readonly string[], { cwd: options.cwd, env: options.env, stdio: ["pipe", "pipe", "pipe"], timeout: 60_000, killSignal: "SIGKILL" });
  const output: Buffer[] = [];
  let errors = "";
  child.stdout.on("data", (data: Buffer) => output.push(data));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? new Uint8Array(0));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${program} ${args.map(String).join(" ")} ended with ${code}: ${errors}`);
  return Buffer.concat(output);
}

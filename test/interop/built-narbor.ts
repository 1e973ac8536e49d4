import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { NARBOR_MAIN } from "../helpers/narbor-process.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** Build `narbor` when it is not, or older than its sources. */
export function buildNarbor(): void {
  const built = statSync(NARBOR_MAIN, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  if (sources.every((name) => statSync(join(ROOT, "src", name)).mtimeMs <= built)) return;
  execFileSync(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], { cwd: ROOT, stdio: "inherit" });
}

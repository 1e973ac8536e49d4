import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const GENERATED = join(ROOT, "src/proto/gen");

/** Every file below `directory` and what is in it. */
function readTree(directory: string): Record<string, string> {
  const files = readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ts"));
  return Object.fromEntries(files.toSorted().map((path) => [path, readFileSync(join(directory, path), "utf8")]));
}

function buf(...args: string[]): void {
  const PATH = `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  execFileSync("buf", args, { cwd: ROOT, env: { ...process.env, PATH }, stdio: "pipe", encoding: "utf8" });
}

test("src/proto/gen is what `buf generate` makes of proto/", () => {
  const directory = mkdtempSync(join(tmpdir(), "narbor-buf-"));
  try {
    buf("generate", "--output", directory);
    const fresh = readTree(join(directory, "src/proto/gen"));
    expect(Object.keys(fresh)).toContain("snix/store/v1/pathinfo_pb.ts");
    expect(readTree(GENERATED)).toEqual(fresh);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("proto/ passes `buf lint` and `buf format`", () => {
  buf("lint");
  buf("format", "--diff", "--exit-code");
});

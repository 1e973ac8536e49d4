import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
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

test("proto/ breaks nothing of the last release, and what would is found", () => {
  buf("breaking", "--against", "proto/released.binpb");
  const directory = mkdtempSync(join(tmpdir(), "narbor-buf-"));
  try {
    cpSync(join(ROOT, "proto"), join(directory, "proto"), { recursive: true });
    copyFileSync(join(ROOT, "buf.yaml"), join(directory, "buf.yaml"));
    const file = join(directory, "proto/snix/castore/v1/castore.proto");
    writeFileSync(file, readFileSync(file, "utf8").replace("uint64 size = 3", "uint32 size = 3"));
    expect(() => buf("breaking", directory, "--against", join(ROOT, "proto/released.binpb"))).toThrow(
      expect.objectContaining({ status: 100, stdout: expect.stringContaining('changed type from "uint64" to "uint32"') as string }) as Error,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** The README's example runs, and what it links to is there. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { referenceNar } from "./helpers/reference-nar.ts";
import { temporaryDirectory } from "./helpers/temporary-directory.ts";

const ROOT = resolve(import.meta.dirname, "..");
const PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/operations.md", "docs/http-api.md", "docs/data-model.md"];

test("README.md's library example imports a NAR and gives it out again", async () => {
  await using directory = await temporaryDirectory();
  const [, example = ""] = /```ts\n([\s\S]*?)```/.exec(readFileSync(join(ROOT, "README.md"), "utf8")) ?? [];
  expect(example).toContain("importNar");
  const nar = referenceNar({ type: "directory", entries: [[Buffer.from("hello"), { type: "file", bytes: Buffer.from("hello, world\n") }]] });
  writeFileSync(join(directory.path, "hello.nar"), nar);
  // The example is what a user writes; only the name of the package is made to mean this checkout, as built.
  const script = join(directory.path, "example.mts");
  writeFileSync(script, example.replace('"narbor"', JSON.stringify(pathToFileURL(join(ROOT, "dist/index.js")).href)));
  const output = execFileSync(process.execPath, [join(ROOT, "node_modules/tsx/dist/cli.mjs"), script], { cwd: directory.path });
  expect(output.subarray(0, output.indexOf("\n")).toString()).toMatch(new RegExp(`^directory ${nar.length} [0-9a-f]{64}$`));
  expect(Buffer.compare(output.subarray(output.indexOf("\n") + 1), nar)).toBe(0);
});

test.for(PAGES)("%s links to files that exist", (page) => {
  const text = readFileSync(join(ROOT, page), "utf8");
  const targets = [...text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)].map(([, target]) => target ?? "").filter((target) => !target.startsWith("http"));
  expect(targets.filter((target) => !existsSync(resolve(ROOT, page, "..", target)))).toEqual([]);
});

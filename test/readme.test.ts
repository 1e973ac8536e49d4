/** The README's example runs, and what it links to is there. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { NARBOR_MAIN, startServer } from "./helpers/narbor-process.ts";
import { eventually } from "./helpers/promises.ts";
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

/** The commands of the console examples, each with what it prints there. */
function consoleExamples(): readonly { readonly command: string; readonly printed: string }[] {
  const blocks = [...readFileSync(join(ROOT, "README.md"), "utf8").matchAll(/```console\n([\s\S]*?)```/g)].map(([, block = ""]) => block);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((example) => ({ command: example.slice(0, example.indexOf("\n")), printed: example.slice(example.indexOf("\n") + 1) })),
  );
}

test("README.md's examples of a directory without a server print what it says", async () => {
  await using directory = await temporaryDirectory();
  const examples = consoleExamples();
  const first = examples.findIndex(({ command }) => command.startsWith("mkdir hello"));
  // What was pushed before is there, too, and not every machine has Nix.
  const ours = examples.slice(first, first + 6).filter(({ command }) => !command.includes("nix-store"));
  expect(ours).toHaveLength(5);
  writeFileSync(join(directory.path, "narbor"), `#!/bin/sh\nexec "${process.execPath}" "${NARBOR_MAIN}" "$@"\n`, { mode: 0o755 });
  const env = { PATH: `${directory.path}:${process.env["PATH"]}`, NARBOR_STORE: join(directory.path, "store") };
  for (const { command, printed } of ours) {
    expect(execFileSync("sh", ["-c", command], { cwd: directory.path, env, encoding: "utf8" })).toBe(command === "narbor verify" ? "ok: 1 store paths, all whole\n" : printed);
  }
});

test.for(["npm ci && npm start", "narbor serve --listen 127.0.0.1:7421 --store grpc://build.example:7420"])("README.md's example of %s prints what it says", async (started) => {
  await using directory = await temporaryDirectory();
  const { printed } = consoleExamples().find(({ command }) => command === started) ?? { printed: "no such example" };
  const store = join(directory.path, "store");
  await using server = await startServer(store);
  await eventually(() => server.stderr().includes("gRPC"));
  const port = new URL(server.url).port;
  const [, exampleStore = ""] = /^ {2}store {7}(.*)$/m.exec(printed) ?? [];
  const expected = printed.replaceAll(/127\.0\.0\.1:742\d/g, `127.0.0.1:${port}`).replace(exampleStore, store);
  expect(`narbor listening on ${server.url}\n${server.stderr()}`).toBe(expected);
});

test.for(PAGES)("%s links to files that exist", (page) => {
  const text = readFileSync(join(ROOT, page), "utf8");
  const targets = [...text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)].map(([, target]) => target ?? "").filter((target) => !target.startsWith("http"));
  expect(targets.filter((target) => !existsSync(resolve(ROOT, page, "..", target)))).toEqual([]);
});

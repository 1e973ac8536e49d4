import { execFileSync, spawnSync } from "node:child_process";
import { appendFile, chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { dumpFilesystem } from "../../src/ingest/dump-filesystem.ts";
import { arbitraryTree } from "../arbitrary/nar-tree.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

/** Put a tree on the disk. */
async function restore(path: Buffer, tree: Tree): Promise<void> {
  switch (tree.type) {
    case "file":
      await writeFile(path, tree.bytes);
      if (tree.executable === true) await chmod(path, 0o755);
      return;
    case "symlink":
      await symlink(Buffer.from(tree.target), path);
      return;
    case "directory":
      await mkdir(path);
      for (const [name, child] of tree.entries) await restore(Buffer.concat([path, Buffer.from("/"), name]), child);
  }
}

test("dumpFilesystem() gives the NAR of any tree on the disk", async () => {
  await using directory = await temporaryDirectory();
  let number = 0;
  await fc.assert(
    fc.asyncProperty(arbitraryTree, async (tree) => {
      const path = join(directory.path, String(number++));
      await restore(Buffer.from(path), tree);
      expectBytes(await collect(dumpFilesystem(path)), referenceNar(tree));
    }),
    { numRuns: 40 },
  );
});

test("dumpFilesystem() gives what nix-store --dump gives", async () => {
  if (spawnSync("nix-store", ["--version"]).status !== 0) {
    if (process.env["CI"] === "true") throw new Error("There is no nix-store on the PATH");
    console.log("No nix-store on the PATH: dumpFilesystem() is not compared with it");
    return;
  }
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "tree");
  await mkdir(join(path, "a/b"), { recursive: true });
  await writeFile(join(path, "a/large"), sampleBytes(3_000_000));
  await writeFile(join(path, "a/group-executable"), "x", { mode: 0o654 });
  await writeFile(join(path, "a/owner-executable"), "x", { mode: 0o700 });
  await symlink("nowhere", join(path, "link"));
  const environment = { ...process.env, HOME: directory.path, NIX_REMOTE: "local", NIX_STATE_DIR: join(directory.path, "state"), NIX_STORE_DIR: join(directory.path, "store") };
  expectBytes(await collect(dumpFilesystem(path)), execFileSync("nix-store", ["--dump", path], { env: environment, maxBuffer: 1e8 }));
});

test("dumpFilesystem() refuses what a NAR cannot hold, by its name", async () => {
  await using directory = await temporaryDirectory();
  execFileSync("mkfifo", [join(directory.path, "pipe")]);
  await expect(collect(dumpFilesystem(directory.path))).rejects.toMatchObject({ code: "ERR_INVALID", message: expect.stringMatching(/pipe.*it is a named pipe, which a NAR cannot hold/) });
});

test("dumpFilesystem() refuses a tree that is too deep, and takes one that is just not", async () => {
  await using directory = await temporaryDirectory();
  const deep = join(directory.path, "deep");
  await mkdir(join(deep, ...Array.from({ length: 63 }, () => "d")), { recursive: true });
  expect((await collect(dumpFilesystem(deep))).length).toBeGreaterThan(0);
  await mkdir(join(deep, ...Array.from({ length: 64 }, () => "d")));
  await expect(collect(dumpFilesystem(deep))).rejects.toMatchObject({ code: "ERR_INVALID", message: expect.stringContaining("maximum depth of 64") });
});

test("dumpFilesystem() notices a large file that grows while it is read", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "growing");
  await writeFile(path, sampleBytes(2_000_000));
  let isFirst = true;
  const reading = (async () => {
    for await (const _bytes of dumpFilesystem(path)) {
      void _bytes;
      if (isFirst) await appendFile(path, "more");
      isFirst = false;
    }
  })();
  await expect(reading).rejects.toMatchObject({ code: "ERR_INVALID", message: expect.stringContaining("it changed while it was read") });
});

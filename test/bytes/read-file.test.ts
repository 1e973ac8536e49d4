import { execFileSync } from "node:child_process";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readFileBytes } from "../../src/bytes/read-file.ts";
import { copyBytes } from "../../src/bytes/collect.ts";
import { mapItems } from "../../src/concurrency/map-items.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

const MIB = 1024 * 1024;

test.for([0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 7 * MIB + 5])("readFileBytes() gives a file of %s bytes", async (size) => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  const bytes = sampleBytes(size, 3);
  await writeFile(path, bytes);
  expectBytes(await collect(mapItems(readFileBytes(path), copyBytes)), bytes);
});

test("readFileBytes() leaves a piece as it is until the next but one is asked for", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  const bytes = sampleBytes(9 * MIB, 4);
  await writeFile(path, bytes);
  let before: Uint8Array | undefined;
  let offset = 0;
  for await (const piece of readFileBytes(path)) {
    // What is read meanwhile has time to come.
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (before !== undefined) expectBytes(before, bytes.subarray(offset - before.length, offset));
    expectBytes(piece, bytes.subarray(offset, offset + piece.length));
    before = piece;
    offset += piece.length;
  }
  expect(offset).toBe(bytes.length);
});

test("readFileBytes() reads a pipe", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "pipe");
  execFileSync("mkfifo", [path]);
  const bytes = sampleBytes(3 * MIB + 17, 5);
  const [read] = await Promise.all([collect(mapItems(readFileBytes(path), copyBytes)), writeFile(path, bytes)]);
  expectBytes(read, bytes);
});

test("readFileBytes() gives what has come through a pipe, and does not wait for more", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "pipe");
  execFileSync("mkfifo", [path]);
  const pieces = readFileBytes(path);
  const [first, writer] = await Promise.all([pieces.next(), open(path, "w").then(async (handle) => (await handle.write("a few bytes"), handle))]);
  expect(Buffer.from(first.value as Uint8Array).toString()).toBe("a few bytes");
  await writer.close();
  expect(await pieces.next()).toEqual({ done: true, value: undefined });
});

test("readFileBytes() may be stopped early, and rejects with the signal's reason and with what the filesystem says", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "file");
  await writeFile(path, sampleBytes(5 * MIB, 6));
  for await (const piece of readFileBytes(path)) {
    expect(piece.length).toBe(MIB);
    break;
  }
  const reason = new Error("enough");
  await expect(collect(readFileBytes(path, AbortSignal.abort(reason)))).rejects.toBe(reason);
  await expect(collect(readFileBytes(join(directory.path, "missing")))).rejects.toMatchObject({ code: "ENOENT" });
  await expect(collect(readFileBytes(directory.path))).rejects.toMatchObject({ code: "EISDIR" });
});

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { CODECS } from "../../src/compression/codec.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { parseStorePath } from "../../src/nix/store-path.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import { BinaryCacheDirectory, NarFiles } from "../../src/transfer/nar-directory.ts";
import type { TransferEvent } from "../../src/transfer/transfer-closure.ts";
import { findClosure } from "../../src/store/closure.ts";
import { pullClosure } from "../../src/transfer/pull-closure.ts";
import { sampleBytes } from "../helpers/bytes.ts";
import { sha256Of } from "../helpers/path-infos.ts";
import { file, referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { manyPaths, storePathOf } from "../interop/closure.ts";

async function put(store: MemoryStore, path: string, nar: Uint8Array, parts: Partial<PathInfo> = {}): Promise<PathInfo> {
  const imported = await importNar((async function* () {
    yield nar;
  })(), { blobs: store.blobs, directories: store.directories });
  return await store.pathInfos.put({ storePath: parseStorePath(path), ...imported, references: [], signatures: [], ...parts });
}

async function filesIn(directory: string): Promise<string[]> {
  return (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name);
}

test("findClosure() finds all that a path refers to, each once, and leaves out what is not stored", async () => {
  await using store = new MemoryStore();
  const paths = manyPaths(40);
  for (const { path, nar, references } of paths.slice(1)) await put(store, path, nar(), { references: references.map(parseStorePath) });
  const top = await store.pathInfos.get(parseStorePath(paths.at(-1)?.path ?? "").digest);
  const closure = await findClosure([top as PathInfo], store);
  expect(closure.map(({ storePath }) => storePath.name).sort()).toEqual(paths.slice(1).map(({ path }) => parseStorePath(path).name).sort());
});

describe("pullClosure()", () => {
  test.for([
    ["another hash", { narSha256: sha256Of("another") }, /its NAR has SHA-256 sha256-\S+, NarHash is sha256-/],
    ["another size", { narSize: 7 }, /its NAR has \d+ bytes, NarSize is 7/],
  ] as const)("fails a path whose NAR has %s than it should, and writes nothing of it", async ([, parts, message]) => {
    await using directory = await temporaryDirectory();
    await using store = new MemoryStore();
    const pathInfo = await put(store, storePathOf("wrong"), referenceNar(file("contents")), parts);
    const events: TransferEvent<PathInfo>[] = [];
    for (const codec of CODECS) {
      await pullClosure([pathInfo], store, await BinaryCacheDirectory.open(directory.path, codec), { jobs: 2, onEvent: (event) => void events.push(event) });
      await pullClosure([pathInfo], store, await NarFiles.open(directory.path, codec), { jobs: 2, onEvent: (event) => void events.push(event) });
    }
    const errors = events.flatMap((event) => (event.type === "failed" ? [event.error] : []));
    expect(errors).toHaveLength(CODECS.length * 2);
    for (const error of errors) expect(error).toMatchObject({ code: "ERR_DATA_LOSS", message: expect.stringMatching(message) as string });
    expect(await filesIn(directory.path)).toEqual(["nix-cache-info"]);
  });

  test.for(CODECS)("leaves nothing behind of what was under way when it was interrupted, with %s", async (codec) => {
    await using directory = await temporaryDirectory();
    await using store = new MemoryStore();
    const infos: PathInfo[] = [];
    for (let index = 0; index < 4; index++) infos.push(await put(store, storePathOf(`large-${index}`), referenceNar(file(sampleBytes(3_000_000, index)))));
    const controller = new AbortController();
    const reason = new Error("enough");
    const onEvent = (event: TransferEvent<PathInfo>): void => {
      if (event.type === "bytes" && event.path === infos[1] && event.bytes > 1_000_000) controller.abort(reason);
    };
    const target = await BinaryCacheDirectory.open(join(directory.path, "cache"), codec);
    await expect(pullClosure(infos, store, target, { jobs: 2, signal: controller.signal, onEvent })).rejects.toBe(reason);
    const files = await filesIn(directory.path);
    expect(files.filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(files.filter((name) => name.endsWith(".narinfo")).length).toBeLessThanOrEqual(1);
    // And the next time it is done.
    await pullClosure(infos, store, target, { jobs: 2 });
    expect((await filesIn(directory.path)).length).toBe(9);
  });
});

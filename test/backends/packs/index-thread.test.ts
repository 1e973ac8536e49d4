import { execFile } from "node:child_process";
import { readdir, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { IndexedBlock } from "../../../src/backends/packs/index-database.ts";
import { IndexDatabase } from "../../../src/backends/packs/index-database.ts";
import { indexFileAt } from "../../../src/backends/packs/index-file.ts";
import { IndexThread } from "../../../src/backends/packs/index-thread.ts";
import { toB3Digest } from "../../../src/castore/digest.ts";
import { encodeDirectory } from "../../../src/castore/directory-proto.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { blake3 } from "../../../src/hash/blake3.ts";
import { sampleBytes } from "../../helpers/sample-bytes.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";

/** A block of so many chunks, the second one of which is framing. */
function block(index: IndexDatabase, seed: number, count: number): IndexedBlock {
  const chunks = Array.from({ length: count }, (_, row) => ({ digest: toSmallBlob(sampleBytes(10, seed + row)).digest, length: 10, ...(row === 1 && { isFraming: true }) }));
  return { pack: index.packId("a.pack"), offset: 16 + seed, length: 100, chunks, records: [] };
}

const present = (index: IndexDatabase, { chunks }: IndexedBlock): boolean[] => chunks.map(({ digest }) => index.hasChunk(digest));

describe("the index's thread", () => {
  test("adds what is then there for everyone: chunks at their places, framing aside, and records", async () => {
    await using temporary = await temporaryDirectory();
    const file = join(temporary.path, "index.sqlite");
    using index = new IndexDatabase(file);
    await using thread = new IndexThread(indexFileAt(file));
    const message = encodeDirectory([{ name: Buffer.from("a"), node: { type: "symlink", target: Buffer.from("b") } }]);
    const blocks = [block(index, 0, 3), block(index, 5000, 2000), { ...block(index, 0, 0), offset: 9000, records: [{ type: "directory", message }] as const }];
    // A look before, in the same event, must not hide what comes.
    expect(present(index, blocks[0] as IndexedBlock)).toEqual([false, false, false]);
    await thread.add(blocks);
    expect(present(index, blocks[0] as IndexedBlock)).toEqual([true, false, true]);
    expect(index.chunk(toSmallBlob(sampleBytes(10, 2)).digest)).toEqual({ pack: 1, blockOffset: 16, blockLength: 100, offset: 20, length: 10 });
    expect(present(index, blocks[1] as IndexedBlock).filter((isThere) => isThere)).toHaveLength(1999);
    expect(index.directory(toB3Digest(blake3(message)))).toEqual(Buffer.from(message));
    expect(index.indexedBytes("a.pack")).toBe(9100);
  });

  test("says what is wrong with an index that cannot be written, and goes on", async () => {
    await using temporary = await temporaryDirectory();
    const file = join(temporary.path, "index.sqlite");
    const index = new IndexDatabase(file);
    const [first, second] = [block(index, 0, 10), block(index, 100, 10)];
    index[Symbol.dispose]();
    await truncate(file, 0);
    await writeFile(file, "this is no index".repeat(1000));
    await using thread = new IndexThread(indexFileAt(file));
    await expect(thread.add([first])).rejects.toMatchObject({ code: "ERR_STORE", message: expect.stringMatching(/rebuild-index/) as string });
    await truncate(file, 0);
    using mended = new IndexDatabase(file);
    expect(mended.packId("a.pack")).toBe(1);
    await thread.add([second]);
    expect(present(mended, second)).toEqual(second.chunks.map(({ isFraming }) => isFraming !== true));
  });

  test.for(["another was put in its place", "it is gone"])("refuses to write where the index that is open is not: %s", async (what) => {
    await using temporary = await temporaryDirectory();
    const file = join(temporary.path, "index.sqlite");
    using index = new IndexDatabase(file);
    await using thread = new IndexThread(indexFileAt(file));
    const added = block(index, 0, 10);
    await rename(file, `${file}.old`);
    if (what !== "it is gone") new IndexDatabase(file)[Symbol.dispose]();
    await expect(thread.add([added])).rejects.toMatchObject({ code: "ERR_STORE", message: expect.stringMatching(/another file/) as string });
    expect((await readdir(temporary.path)).includes("index.sqlite")).toBe(what !== "it is gone");
    if (what === "it is gone") return;
    using other = new IndexDatabase(file);
    expect(present(other, added)).not.toContain(true);
  });

  test("is idle when what was added is there, and one who waited for that writes without waiting for SQLite's lock", async () => {
    await using temporary = await temporaryDirectory();
    const file = join(temporary.path, "index.sqlite");
    using index = new IndexDatabase(file);
    await using thread = new IndexThread(indexFileAt(file));
    await thread.untilIdle();
    const blocks = [block(index, 0, 3000), block(index, 10_000, 3000)];
    const adding = thread.add(blocks);
    await thread.untilIdle();
    expect(blocks.flatMap((added) => present(index, added)).filter((isThere) => !isThere)).toHaveLength(2);
    await adding;
  });

  test("takes one lot of blocks at a time", async () => {
    await using temporary = await temporaryDirectory();
    const file = join(temporary.path, "index.sqlite");
    using index = new IndexDatabase(file);
    await using thread = new IndexThread(indexFileAt(file));
    const adding = thread.add([block(index, 0, 10)]);
    await expect(thread.add([block(index, 100, 10)])).rejects.toThrow(TypeError);
    await adding;
  });

  test("can be ended before it was needed, and twice", async () => {
    const thread = new IndexThread({ path: "/nowhere/index.sqlite", device: 0n, inode: 0n });
    await thread[Symbol.asyncDispose]();
    await thread[Symbol.asyncDispose]();
  });

  test("keeps no process that has nothing else to do, and ends with it", async () => {
    await using temporary = await temporaryDirectory();
    const url = (name: string): string => JSON.stringify(new URL(`../../../src/backends/packs/${name}.ts`, import.meta.url).href);
    const script = `
      const { IndexDatabase } = await import(${url("index-database")});
      const { indexFileAt } = await import(${url("index-file")});
      const { IndexThread } = await import(${url("index-thread")});
      const file = ${JSON.stringify(join(temporary.path, "index.sqlite"))};
      const index = new IndexDatabase(file);
      await new IndexThread(indexFileAt(file)).add([{ pack: index.packId("a.pack"), offset: 16, length: 100, chunks: [], records: [] }]);
      console.log(index.indexedBytes("a.pack"));`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], { timeout: 20_000 });
    expect({ stdout, stderr }).toEqual({ stdout: "116\n", stderr: "" });
  });
});

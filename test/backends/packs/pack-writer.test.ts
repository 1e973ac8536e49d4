import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { IndexedBlock } from "../../../src/backends/packs/index-database.ts";
import { IndexDatabase } from "../../../src/backends/packs/index-database.ts";
import { indexFileAt } from "../../../src/backends/packs/index-file.ts";
import { IndexThread } from "../../../src/backends/packs/index-thread.ts";
import { PackAppender } from "../../../src/backends/packs/pack-appender.ts";
import { PackFiles } from "../../../src/backends/packs/pack-files.ts";
import { PackWriter } from "../../../src/backends/packs/pack-writer.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { sampleBytes } from "../../helpers/bytes.ts";
import { deferred } from "../../helpers/promises.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";

test("ready() waits while one group is taken into the index and the next is full", async () => {
  await using temporary = await temporaryDirectory();
  const packs = join(temporary.path, "packs");
  await mkdir(packs);
  const file = join(temporary.path, "index.sqlite");
  using index = new IndexDatabase(file);
  const open = deferred();
  const begun = deferred();
  class SlowThread extends IndexThread {
    override async add(blocks: readonly IndexedBlock[]): Promise<void> {
      begun.resolve();
      await open.promise;
      await super.add(blocks);
    }
  }
  await using thread = new SlowThread(indexFileAt(file));
  await using files = new PackFiles(packs);
  await using writer = new PackWriter(index, thread, () => new PackAppender(files, index, thread, "none"));
  const blobs = Array.from({ length: 8192 }, (_, seed) => toSmallBlob(sampleBytes(20, seed)));
  for (const { digest, bytes } of blobs.slice(0, 4096)) writer.addChunk(digest, bytes);
  await begun.promise;
  await writer.ready();
  for (const { digest, bytes } of blobs.slice(4096)) writer.addChunk(digest, bytes);
  let isReady = false;
  const ready = writer.ready().then(() => void (isReady = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isReady).toBe(false);
  open.resolve();
  await ready;
  expect(index.hasChunk((blobs[0] as (typeof blobs)[0]).digest)).toBe(true);
});

import { open } from "node:fs/promises";
import type { IndexDatabase, IndexedBlock } from "./index-database.ts";
import { PACK_HEADER } from "./pack-format.ts";
import type { PackFiles, ScannedBlock } from "./pack-files.ts";
import { readRecords } from "./record-format.ts";

/** Blocks taken in by one transaction. */
const BLOCKS_PER_TRANSACTION = 256;

/**
 * Read what packs hold beyond what the index has taken in: after a crash between a pack's sync and the index's commit, after a
 * power cut, or from the beginning when the index is lost.
 *
 * A pack of a process that is writing right now may end in half a block; that is left for the process itself to index. What another process has
 * written and not synced yet is synced here first, so that nothing rests on bytes that may still be lost.
 */
export async function recoverIndex(index: IndexDatabase, files: PackFiles): Promise<void> {
  const indexed = new Map(index.packs().map(({ name, indexedBytes }) => [name, indexedBytes]));
  for (const { name, size } of await files.list()) {
    const start = indexed.get(name) ?? 0;
    if (size <= Math.max(start, PACK_HEADER.length)) continue;
    await recoverPack(index, files, name, start);
  }
}

async function recoverPack(index: IndexDatabase, files: PackFiles, name: string, start: number): Promise<void> {
  let pack: number | undefined;
  let blocks: IndexedBlock[] = [];
  const takeIn = async (): Promise<void> => {
    if (blocks.length === 0) return;
    await syncFile(files.path(name));
    index.addBlocks(blocks);
    blocks = [];
  };
  for await (const block of files.scan(name, start)) {
    if (block.type === "damage") continue;
    pack ??= index.packId(name);
    blocks.push(await toIndexed(files, name, pack, block));
    if (blocks.length >= BLOCKS_PER_TRANSACTION) await takeIn();
  }
  await takeIn();
}

async function toIndexed(files: PackFiles, name: string, pack: number, block: ScannedBlock & { type: "block" }): Promise<IndexedBlock> {
  const { offset, end, header, chunks } = block;
  const records = header.kind === "records" ? [...readRecords(await files.decode(name, block))] : [];
  return { pack, offset, length: end - offset, chunks, records };
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/**
 * A process of its own on a disk of 24 MiB: `fill-small-disk.ts <directory>`. Puts a closure that is too large for the disk, then one that is not, and prints
 * as JSON what became of them.
 */
import { readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { isNarborError } from "../../src/errors.ts";
import type { TestDirectory } from "./castore.ts";
import { largeClosure } from "./wide-closure.ts";

export interface FilledDisk {
  /** Error codes of the closure that is too large, and of the one after it. */
  readonly codes: readonly string[];
  /** Names in the store's directory after the first. */
  readonly names: readonly string[];
  readonly freeBytesBefore: number;
  readonly freeBytesAfter: number;
  /** Whether anything of the first closure is readable. */
  readonly isAnyReadable: boolean;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) process.stdout.write(JSON.stringify(await fillDisk(process.argv[2] ?? "")));

async function fillDisk(disk: string): Promise<FilledDisk> {
  const directory = join(disk, "store");
  await using store = await PacksStore.open(directory, { create: true });
  const put = async (closure: readonly TestDirectory[]): Promise<string> =>
    await store.directories.putClosure(closure.map(({ bytes }) => bytes)).then(
      () => "stored",
      (error: unknown) => (isNarborError(error) ? error.code : String(error)),
    );
  const freeBytes = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(disk);
    return bavail * bsize;
  };
  const large = largeClosure(40, 256);
  const freeBytesBefore = await freeBytes();
  const first = await put(large);
  const [names, freeBytesAfter] = [await readdir(directory), await freeBytes()];
  const found = await Promise.all(large.map(({ digest }) => store.directories.get(digest)));
  return { codes: [first, await put(largeClosure(3, 10))], names, freeBytesBefore, freeBytesAfter, isAnyReadable: found.some((bytes) => bytes !== undefined) };
}

/**
 * A process of its own that writes to a store: `write-to-store.ts <directory> <seed> <count>`. After each piece of work it prints its
 * number, so that whoever kills it knows what was promised. Work `n` of a seed is `workOf(seed, n)`.
 */
import { pathToFileURL } from "node:url";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { importTree } from "./pack-stores.ts";
import { treeOfWork } from "./work-trees.ts";

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [directory = "", seed = "0", count = "0"] = process.argv.slice(2);
  await using store = await PacksStore.open(directory, { create: true });
  for (let number = 0; number < Number(count); number++) {
    await importTree(store, `work-${seed}-${number}`, treeOfWork(Number(seed), number));
    process.stdout.write(`${number}\n`);
  }
}

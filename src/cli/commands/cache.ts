import type { Command } from "commander";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";

interface CacheOptions extends StoreOption {
  readonly json?: boolean;
}

export function addCacheCommand(program: Command, signal: AbortSignal): void {
  const cache = program.command("cache").summary("what was computed and is remembered").description("Digests of layers are remembered by what the layers are made of, so that no one renders, hashes or compresses them again. Forgetting them costs time and nothing else.");

  const stats = cache.command("stats").summary("what is remembered, and what that was good for").description("Of each kind: values, how often one was found and how often not, and the seconds that it took to compute what was found.").option("--json", "print one JSON object for each kind");
  addStoreOption(stats).action(async (options: CacheOptions) => {
    await using store = await openNamedStore(stats, options.store);
    const kinds = await store.computed.stats({ signal });
    if (options.json !== true && kinds.length === 0) process.stdout.write("nothing is remembered\n");
    for (const kind of kinds) {
      const { kind: name, entries, hits, misses, secondsSaved } = kind;
      process.stdout.write(options.json === true ? `${JSON.stringify(kind)}\n` : `${name}  ${entries} values  ${hits} hits  ${misses} misses  ${secondsSaved.toFixed(1)} s saved\n`);
    }
  });

  const clear = cache.command("clear").summary("forget it").description("Forget everything that was computed.").option("--json", "print a JSON object");
  addStoreOption(clear).action(async (options: CacheOptions) => {
    await using store = await openNamedStore(clear, options.store);
    const entries = await store.computed.clear({ signal });
    process.stdout.write(options.json === true ? `${JSON.stringify({ entries })}\n` : `forgot ${entries} values\n`);
  });
}

import type { Command } from "commander";
import { Option } from "commander";
import type { PacksStoreOptions, PacksStore } from "../backends/packs/packs-store.ts";
import { defaultStoreDirectory, openStore } from "../composition/open-store.ts";

/** What `--store` gives. */
export interface StoreOption {
  readonly store: string;
}

/** Every verb takes `--store DIR`, or NARBOR_STORE, or the default. */
export function addStoreOption(command: Command): Command {
  const option = new Option("--store <dir>", "the store's directory").env("NARBOR_STORE").default(defaultStoreDirectory(process.env));
  return command.addOption(option);
}

/** Open the store that was named. */
export async function openNamedStore({ store }: StoreOption, options: PacksStoreOptions = {}): Promise<PacksStore> {
  return await openStore(store, options);
}

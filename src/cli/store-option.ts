import type { Command } from "commander";
import type { PacksStoreOptions } from "../backends/packs/packs-store.ts";
import type { AnyStore } from "../composition/open-store.ts";
import { defaultStoreDirectory, openStore } from "../composition/open-store.ts";

/** What `--store` gives. */
export interface StoreOption {
  readonly store: string;
}

/** Every verb takes `--store ADDRESS`, or NARBOR_STORE, or the default. */
export function addStoreOption(command: Command): Command {
  // An empty variable is as good as none.
  const directory = process.env["NARBOR_STORE"] || defaultStoreDirectory(process.env);
  return command.option("--store <address>", "the store: a directory, or grpc://HOST:PORT, grpcs://HOST:PORT, grpc+unix:/PATH; NARBOR_STORE names another default", directory);
}

/** Open the store that was named. */
export async function openNamedStore({ store }: StoreOption, options: PacksStoreOptions = {}): Promise<AnyStore> {
  return await openStore(store, options);
}

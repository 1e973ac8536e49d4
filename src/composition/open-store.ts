/** From what a person says to an open store. */
import { homedir } from "node:os";
import { join } from "node:path";
import type { PacksStoreOptions } from "../backends/packs/packs-store.ts";
import { PacksStore } from "../backends/packs/packs-store.ts";

/** The store that is meant when none is named: `narbor` in the user's XDG data directory. */
export function defaultStoreDirectory(environment: NodeJS.ProcessEnv): string {
  const data = environment["XDG_DATA_HOME"];
  // The specification has relative ones ignored.
  const base = data?.startsWith("/") === true ? data : join(environment["HOME"] ?? homedir(), ".local", "share");
  return join(base, "narbor");
}

/** Open the store in `directory`. @throws NarborError as `PacksStore.open` */
export async function openStore(directory: string, options: PacksStoreOptions): Promise<PacksStore> {
  return await PacksStore.open(directory, options);
}

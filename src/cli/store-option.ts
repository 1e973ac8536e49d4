import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type { PacksStoreOptions } from "../backends/packs/packs-store.ts";
import type { AnyStore } from "../composition/open-store.ts";
import { checkStoreAddress, defaultStoreDirectory, isDirectoryName, openStore } from "../composition/open-store.ts";
import { errorMessage } from "../errors.ts";
import { EXIT_USAGE } from "./exit-code.ts";

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

/** Open the store that was named to `command`. */
export async function openNamedStore(command: Command, address: string, options: PacksStoreOptions = {}): Promise<AnyStore> {
  checkStoreUsage(command, address, options);
  return await openStore(address, options);
}

/** A name that no store has, or options that such a store cannot have, are a mistake of the command line. */
export function checkStoreUsage(command: Command, address: string, options: PacksStoreOptions = {}): void {
  try {
    checkStoreAddress(address, options);
  } catch (error) {
    command.error(`error: ${errorMessage(error)}`, { exitCode: EXIT_USAGE });
  }
}

/** For options that name a directory and cannot name a store that is served. */
export function parseDirectory(text: string): string {
  if (!isDirectoryName(text)) throw new InvalidArgumentError("It is a directory.");
  return text;
}

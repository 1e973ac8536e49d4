/** From what a person says to an open store. */
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";
import { isGrpcAddress, parseGrpcAddress } from "../backends/grpc/grpc-address.ts";
import type { PacksStoreOptions } from "../backends/packs/packs-store.ts";
import { PacksStore } from "../backends/packs/packs-store.ts";
import { readStoreFormat } from "../backends/packs/store-format.ts";
import { NarborError } from "../errors.ts";
import type { DescribedStore } from "../store/described-store.ts";
import type { CheckableStore } from "../store/store-check.ts";
import type { Store } from "../store/store.ts";

/** Of a file's name, on every file system that matters. */
const MAX_NAME_BYTES = 255;

/** A store of any kind; one whose bytes are here can also check them. */
export type AnyStore = Store & DescribedStore & Partial<CheckableStore>;

/** The store that is meant when none is named: `narbor` in the user's XDG data directory. */
export function defaultStoreDirectory(environment: NodeJS.ProcessEnv): string {
  return join(dataDirectory(environment), "narbor");
}

/**
 * Open a store by its directory, or by its address: `grpc://…`, `grpcs://…` or `grpc+unix:…`. Options are those of a directory.
 *
 * @throws NarborError as `PacksStore.open` and `checkStoreAddress`
 */
export async function openStore(address: string, options: PacksStoreOptions): Promise<AnyStore> {
  checkStoreAddress(address, options);
  if (!isGrpcAddress(address)) return await PacksStore.open(address, options);
  // Half of what there is to load, which a command on a directory need not wait for.
  const { GrpcStore } = await import("../backends/grpc/grpc-store.ts");
  return new GrpcStore(address, { openSideStore: async () => await PacksStore.open(sideDirectory(address, process.env), { create: true }) });
}

/** Whether a store can be named so at all, and have these options. @throws NarborError ERR_INVALID */
export function checkStoreAddress(address: string, { compression, directorySizeProfile, rebuildIndex }: PacksStoreOptions = {}): void {
  const refuse = (what: string): never => {
    throw new NarborError("ERR_INVALID", `Cannot open the store ${JSON.stringify(address)}: ${what}`);
  };
  if (isGrpcAddress(address)) {
    parseGrpcAddress(address);
    if (compression !== undefined) refuse("how it compresses is set where it is served");
    if (directorySizeProfile !== undefined) refuse("say ?directory-size=… in its address");
    if (rebuildIndex === true) refuse("its index is made anew where it is served");
  } else if (!isDirectoryName(address)) refuse("a store is a directory, grpc://HOST:PORT, grpcs://HOST:PORT or grpc+unix:/PATH");
}

/** Whether it can be meant for a directory: not when it is empty, or an address of something. */
export function isDirectoryName(text: string): boolean {
  return text !== "" && !/^([a-z][a-z0-9+.-]*:\/\/|(grpcs?|grpc\+unix|unix):)/i.test(text);
}

/** Whether a store is in that directory. @throws NarborError ERR_STORE_VERSION for a newer store, ERR_STORE for one that is damaged */
export async function isStoreDirectory(directory: string): Promise<boolean> {
  return (await readStoreFormat(directory)) !== undefined;
}

/** Where the NAR index is kept for a server that has no place for one: on this machine, one for each server. */
export function sideDirectory(address: string, environment: NodeJS.ProcessEnv): string {
  const { target } = parseGrpcAddress(address);
  const name = encodeURIComponent(target);
  // No address is written like that: each has a port or a path.
  const short = name.length <= MAX_NAME_BYTES ? name : `sha256-${createHash("sha256").update(target).digest("hex")}`;
  return join(dataDirectory(environment), "narbor-nar-index", short);
}

function dataDirectory(environment: NodeJS.ProcessEnv): string {
  const data = environment["XDG_DATA_HOME"];
  // The specification has relative ones ignored.
  return data?.startsWith("/") === true ? data : join(environment["HOME"] ?? homedir(), ".local", "share");
}

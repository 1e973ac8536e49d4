import { resolve as resolvePath } from "node:path";
import type { Command } from "commander";
import { InvalidArgumentError, Option } from "commander";
import type { BlockCompression } from "../../castore/block-writer.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import type { ListenAddress } from "../../composition/listen-address.ts";
import { parseListenAddress } from "../../composition/listen-address.ts";
import type { ServerOptions } from "../../composition/start-server.ts";
import { errorMessage } from "../../errors.ts";
import { parseCompressionOption } from "../compression-option.ts";
import { printError, printWarning } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { VERSION } from "../version.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";

interface ServeOptions extends StoreOption {
  readonly listen: ServerOptions["listen"];
  readonly grpcListen?: ListenAddress;
  readonly allowAnonymousWrites?: boolean;
  readonly requireReferences?: boolean;
  readonly priority: number;
  readonly narCompression: ServerOptions["narCompression"];
  readonly compression?: BlockCompression;
  readonly directorySize?: DirectorySizeProfile;
  readonly idleTimeout: number;
  readonly maxUploads: number;
  readonly maxNarSize: number;
}

const DEFAULT_LISTEN = "127.0.0.1:7420";
/** How long what is under way may take when the server is told to stop. */
const GRACE_MILLISECONDS = 30_000;

export function addServeCommand(program: Command): void {
  const command = program
    .command("serve")
    .summary("serve the store as a binary cache and over gRPC")
    .description("Serve the store as a binary cache that any Nix client can push to and substitute from, and over gRPC by the castore protocols of snix and tvix. One port speaks both. Stop it with SIGTERM or Ctrl-C: what is under way ends first.")
    .addOption(new Option("--listen <host:port>", "where to listen; port 0 picks a free one").argParser(parseHostPort).default(parseHostPort(DEFAULT_LISTEN), DEFAULT_LISTEN))
    .addOption(new Option("--grpc-listen <address>", "where gRPC has an address of its own, beside that one: HOST:PORT or unix:PATH").argParser(parseAddress))
    .option("--allow-anonymous-writes", "take uploads from anyone also when listening beyond loopback")
    .option("--require-references", "refuse a path whose references are not here")
    .option("--priority <number>", "the cache's priority: clients ask lower ones first, and cache.nixos.org is 40", parseNatural, 30)
    .option("--compression <level>", "of what is stored: a zstd level from -7 to 19, or none; 1 unless given", parseCompressionOption)
    .addOption(new Option("--nar-compression <codec>", "of NARs on their way to clients: zstd gives them away as they are stored, where they are; none as they are").choices(["zstd", "none"]).default("zstd"))
    .option("--directory-size <profile>", "for a new store: documented, or doubled when snix clients will read it", parseProfile)
    .option("--idle-timeout <seconds>", "give up a client that sends or takes nothing for so long", parsePositive, 60)
    .option("--max-uploads <number>", "take in so many NARs at once; others wait", parsePositive, 16)
    .option("--max-nar-size <gigabytes>", "refuse NARs that are larger than that, decompressed", parsePositive, 1000)
    .addHelpText(
      "after",
      `
Examples:
  narbor serve
  nix copy --to http://127.0.0.1:7420 /nix/store/…-hello
  nix copy --from http://127.0.0.1:7420 /nix/store/…-hello
  narbor push /nix/store/…-hello --to grpc://127.0.0.1:7420
  narbor serve --listen 127.0.0.1:7421 --store grpc://127.0.0.1:7420     a bridge without data of its own`,
    );
  addStoreOption(command).action(async (options: ServeOptions) => await serve(command, options));
}

async function serve(command: Command, options: ServeOptions): Promise<void> {
  await using store = await openNamedStore(command, options.store, {
    create: true,
    ...(options.compression !== undefined && { compression: options.compression }),
    ...(options.directorySize !== undefined && { directorySizeProfile: options.directorySize }),
  });
  if (options.directorySize !== undefined) {
    const profile = await store.directorySizeProfile();
    if (profile !== options.directorySize) printWarning(`the store was made with --directory-size ${profile} and keeps it`);
  }
  // The servers and their protocols, which no other command needs.
  const { startServer } = await import("../../composition/start-server.ts");
  const server = await startServer({
    store,
    listen: options.listen,
    ...(options.grpcListen !== undefined && { grpcListen: options.grpcListen }),
    allowAnonymousWrites: options.allowAnonymousWrites === true,
    requireReferences: options.requireReferences === true,
    maxUploads: options.maxUploads,
    maxNarBytes: options.maxNarSize * 1e9,
    priority: options.priority,
    narCompression: options.narCompression,
    idleMilliseconds: options.idleTimeout * 1000,
    version: VERSION,
    onFault: (request, error) => printError(new Error(`${request}: ${errorMessage(error)}`)),
  });
  const { url, allowsWrites, grpcAddress } = server;
  process.stdout.write(`narbor listening on ${url}\n`);
  const push = allowsWrites ? `nix copy --to ${url} /nix/store/…` : "off; --allow-anonymous-writes takes uploads from anyone who can reach this address";
  const grpc = [url.replace(/^http/, "grpc"), ...(grpcAddress === undefined ? [] : [clientAddress(grpcAddress)])].join(", ");
  process.stderr.write(`  store       ${store.name}\n  push        ${push}\n  substitute  nix copy --from ${url} /nix/store/…\n  gRPC        ${grpc}\n`);
  await stopSignal();
  await server.stop(GRACE_MILLISECONDS);
}

/** What `--store` takes for a server that listens for gRPC alone, at `HOST:PORT` or `unix:PATH`. */
function clientAddress(listening: string): string {
  // A client may run anywhere, so it is told the whole path.
  return listening.startsWith("unix:") ? `grpc+unix:${resolvePath(listening.slice("unix:".length))}` : `grpc://${listening}`;
}

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => {
      process.off("SIGTERM", stop);
      process.off("SIGINT", stop);
      process.once("SIGINT", () => process.exit(130));
      process.once("SIGTERM", () => process.exit(143));
      resolve();
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
}

function parseHostPort(text: string): ServeOptions["listen"] {
  const address = parseAddress(text);
  if ("path" in address) throw new InvalidArgumentError("It is HOST:PORT; --grpc-listen takes unix:PATH.");
  return address;
}

function parseAddress(text: string): ListenAddress {
  try {
    return parseListenAddress(text);
  } catch (error) {
    throw new InvalidArgumentError(errorMessage(error));
  }
}

function parseNatural(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError("It is a whole number.");
  return Number(text);
}

function parsePositive(text: string): number {
  const number = parseNatural(text);
  if (number === 0) throw new InvalidArgumentError("It is at least 1.");
  return number;
}

function parseProfile(text: string): DirectorySizeProfile {
  if (text !== "documented" && text !== "doubled") throw new InvalidArgumentError("It is documented or doubled.");
  return text;
}

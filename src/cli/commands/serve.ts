import type { Command } from "commander";
import { InvalidArgumentError, Option } from "commander";
import type { BlockCompression } from "../../backends/packs/pack-appender.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import { createApp } from "../../http/app.ts";
import { startHttpServer } from "../../http/server.ts";
import { parseCompressionOption } from "../compression-option.ts";
import { printError, printWarning } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";

interface ServeOptions extends StoreOption {
  readonly listen: ListenAddress;
  readonly allowAnonymousWrites?: boolean;
  readonly requireReferences?: boolean;
  readonly priority: number;
  readonly compression?: BlockCompression;
  readonly directorySize?: DirectorySizeProfile;
  readonly idleTimeout: number;
  readonly maxUploads: number;
  readonly maxNarSize: number;
}

interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const DEFAULT_LISTEN = "127.0.0.1:7420";
/** How long what is under way may take when the server is told to stop. */
const GRACE_MILLISECONDS = 30_000;

export function addServeCommand(program: Command): void {
  const command = program
    .command("serve")
    .summary("serve the store as a binary cache")
    .description("Serve the store as a binary cache that any Nix client can push to and substitute from. Stop it with SIGTERM or Ctrl-C: what is under way ends first.")
    .addOption(new Option("--listen <host:port>", "where to listen; port 0 picks a free one").argParser(parseListen).default(parseListen(DEFAULT_LISTEN), DEFAULT_LISTEN))
    .option("--allow-anonymous-writes", "take uploads from anyone also when listening beyond loopback")
    .option("--require-references", "refuse a path whose references are not here")
    .option("--priority <number>", "the cache's priority: clients ask lower ones first, and cache.nixos.org is 40", parseNatural, 30)
    .option("--compression <level>", "of what is stored: a zstd level from -7 to 19, or none; 1 unless given", parseCompressionOption)
    .option("--directory-size <profile>", "for a new store: documented, or doubled when snix clients will read it", parseProfile)
    .option("--idle-timeout <seconds>", "give up a client that sends or takes nothing for so long", parseNatural, 60)
    .option("--max-uploads <number>", "take in so many NARs at once; others wait", parsePositive, 16)
    .option("--max-nar-size <gigabytes>", "refuse NARs that are larger than that, decompressed", parsePositive, 1000)
    .addHelpText(
      "after",
      `
Examples:
  narbor serve
  nix copy --to http://127.0.0.1:7420 /nix/store/…-hello
  nix copy --from http://127.0.0.1:7420 /nix/store/…-hello`,
    );
  addStoreOption(command).action(async (options: ServeOptions) => await serve(options));
}

async function serve(options: ServeOptions): Promise<void> {
  const { host, port } = options.listen;
  const allowWrites = isLoopback(host) || options.allowAnonymousWrites === true;
  await using store = await openNamedStore(options, {
    create: true,
    ...(options.compression !== undefined && { compression: options.compression }),
    ...(options.directorySize !== undefined && { directorySizeProfile: options.directorySize }),
  });
  if (options.directorySize !== undefined && store.directorySizeProfile !== options.directorySize) {
    printWarning(`the store was made with --directory-size ${store.directorySizeProfile} and keeps it`);
  }
  const app = createApp({ store, allowWrites, requireReferences: options.requireReferences === true, maxUploads: options.maxUploads, maxNarBytes: options.maxNarSize * 1e9, priority: options.priority });
  const server = await startHttpServer({
    host,
    port,
    app,
    idleMilliseconds: options.idleTimeout * 1000,
    onFault: (request, error) => printError(new Error(`${request}: ${error instanceof Error ? error.message : String(error)}`)),
  });
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${server.port}`;
  process.stdout.write(`narbor listening on ${url}\n`);
  process.stderr.write(
    `  store       ${store.directory}\n${allowWrites ? `  push        nix copy --to ${url} /nix/store/…\n` : "  push        off; --allow-anonymous-writes takes uploads from anyone who can reach this address\n"}  substitute  nix copy --from ${url} /nix/store/…\n`,
  );
  await stopSignal();
  await server.stop(GRACE_MILLISECONDS);
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

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function parseListen(text: string): ListenAddress {
  const [, bracketed, plain, portText] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(portText);
  if (host === undefined || !(port <= 65_535)) throw new InvalidArgumentError("It is HOST:PORT, such as 127.0.0.1:7420 or [::1]:7420.");
  return { host, port };
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

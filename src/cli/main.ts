#!/usr/bin/env node
/** The `narbor` command. */
import { setMaxListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { Command, CommanderError } from "commander";
import { EXIT_CODES_HELP, EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE, exitCodeOf } from "./exit-code.ts";
import { printError } from "./output.ts";
import { VERSION } from "./version.ts";

/** From an interruption to the end, when there is output that no one takes, or input that does not end. */
const EXIT_MILLISECONDS = 100;

type AddCommand = (program: Command, signal: AbortSignal) => void;

/** In the order of `--help`. Each is loaded when it is asked for: all that they need together takes longer than many a command then works. */
const COMMANDS: ReadonlyMap<string, () => Promise<AddCommand>> = new Map([
  ["serve", async (): Promise<AddCommand> => (await import("./commands/serve.ts")).addServeCommand],
  ["push", async (): Promise<AddCommand> => (await import("./commands/push.ts")).addPushCommand],
  ["pull", async (): Promise<AddCommand> => (await import("./commands/pull.ts")).addPullCommand],
  ["import", async (): Promise<AddCommand> => (await import("./commands/import.ts")).addImportCommand],
  ["export", async (): Promise<AddCommand> => (await import("./commands/export.ts")).addExportCommand],
  ["image", async (): Promise<AddCommand> => (await import("./commands/image.ts")).addImageCommand],
  ["ls", async (): Promise<AddCommand> => (await import("./commands/ls.ts")).addLsCommand],
  ["cat", async (): Promise<AddCommand> => (await import("./commands/cat.ts")).addCatCommand],
  ["info", async (): Promise<AddCommand> => (await import("./commands/info.ts")).addInfoCommand],
  ["cache", async (): Promise<AddCommand> => (await import("./commands/cache.ts")).addCacheCommand],
  ["verify", async (): Promise<AddCommand> => (await import("./commands/verify.ts")).addVerifyCommand],
]);

/** Those that compress or decompress, as a rule. */
const CODEC_COMMANDS: ReadonlySet<string> = new Set(["push", "pull", "import", "export", "image import", "image export"]);

async function main(argv: readonly string[]): Promise<void> {
  const [, , command = "", subcommand = ""] = argv;
  setEngineFlags(command);
  // While the command is loaded, which takes as long.
  if (CODEC_COMMANDS.has(command) || CODEC_COMMANDS.has(`${command} ${subcommand}`)) (await import("../compression/worker-pool.ts")).startCodecThread();
  const interrupt = new AbortController();
  // Each of many calls at once listens, which Node.js would take for a leak.
  setMaxListeners(0, interrupt.signal);
  // A reader that has left (`| head`) is no fault, and what was asked for is done all the same.
  let reported: unknown;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // The first of them says it all.
    if (error.code === "EPIPE" || reported !== undefined) return;
    reported = error;
    printError(new Error(`Cannot write the output: ${error.message}`));
    process.exitCode = exitCodeOf(error);
  });
  const program = new Command("narbor")
    .description("A content-addressed store for Nix: takes NARs apart as they come in, gives them out again to any Nix client.")
    .version(VERSION)
    .showHelpAfterError("(narbor --help tells more)")
    .exitOverride()
    .addHelpText(
      "after",
      `${EXIT_CODES_HELP}

Begin with:
  narbor serve                                                     a binary cache on http://127.0.0.1:7420
  nix copy --to http://127.0.0.1:7420 /nix/store/…-hello           push to it
  nix copy --from http://127.0.0.1:7420 /nix/store/…-hello         substitute from it
  narbor push ./result --to DIR                                    or without a server: put a closure into a store
  narbor pull /nix/store/…-hello --from DIR --to CACHE             and write it to a directory that Nix can copy from`,
    );
  const named = COMMANDS.get(command);
  for (const load of named === undefined ? COMMANDS.values() : [named]) (await load())(program, interrupt.signal);
  let interruptedExit: number = EXIT_INTERRUPTED;
  const onSignal = (exitCode: number) => (): void => {
    interruptedExit = exitCode;
    interrupt.abort(new Error("interrupted"));
  };
  if (command !== "serve") process.once("SIGINT", onSignal(EXIT_INTERRUPTED)).once("SIGTERM", onSignal(EXIT_TERMINATED));
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === EXIT_OK ? EXIT_OK : EXIT_USAGE;
    else if (interrupt.signal.aborted) {
      process.exitCode = interruptedExit;
      // Who reads or writes slowly, or not at all, is not waited for.
      setTimeout(() => void exitNow(), EXIT_MILLISECONDS).unref();
    }
    else {
      if (error !== reported) printError(error);
      process.exitCode = exitCodeOf(error);
    }
  }
}

async function exitNow(): Promise<void> {
  await (await import("../concurrency/start-thread.ts")).endThreads();
  process.exit();
}

/** What V8 is to do otherwise: docs/decisions/0019 and 0022 have what each of it brings. */
function setEngineFlags(command: string): void {
  keepNewSpaceSmall();
  process.on("worker", (worker) => worker.once("online", keepNewSpaceSmall));
  // A server has a larger heap, and is not to stand still while all of that is marked.
  if (command === "serve") return setFlagsFromString("--heap-growing-percent=100");
  // What is thrown away are buffers, which V8 counts against a heap that is small.
  setFlagsFromString("--heap-growing-percent=50");
  setFlagsFromString("--no-incremental-marking");
  // Before Node.js 22 there is but one compiler that optimizes, and it takes as long as some commands.
  if (process.versions.v8.startsWith("11.")) setFlagsFromString("--interrupt-budget=540672");
}

/**
 * The space for new objects stays at the megabyte with which it begins, so that buffers that no one has any more are given back soon and in a fraction of a
 * millisecond, and not when they are so many that everything is collected. With each thread that begins, V8 makes the factor two again, for all of them.
 */
function keepNewSpaceSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
}

await main(process.argv);

#!/usr/bin/env node
/** The `narbor` command. */
import { setMaxListeners } from "node:events";
import { Command, CommanderError } from "commander";
import { addCacheCommand } from "./commands/cache.ts";
import { addCatCommand } from "./commands/cat.ts";
import { addExportCommand } from "./commands/export.ts";
import { addImageCommand } from "./commands/image.ts";
import { addImportCommand } from "./commands/import.ts";
import { addInfoCommand } from "./commands/info.ts";
import { addLsCommand } from "./commands/ls.ts";
import { addPullCommand } from "./commands/pull.ts";
import { addPushCommand } from "./commands/push.ts";
import { addServeCommand } from "./commands/serve.ts";
import { addVerifyCommand } from "./commands/verify.ts";
import { EXIT_CODES_HELP, EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE, exitCodeOf } from "./exit-code.ts";
import { printError } from "./output.ts";
import { VERSION } from "./version.ts";

/** From an interruption to the end, when there is output that no one takes, or input that does not end. */
const EXIT_MILLISECONDS = 100;

async function main(argv: readonly string[]): Promise<void> {
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
  addServeCommand(program);
  addPushCommand(program, interrupt.signal);
  addPullCommand(program, interrupt.signal);
  addImportCommand(program, interrupt.signal);
  addExportCommand(program, interrupt.signal);
  addImageCommand(program, interrupt.signal);
  addLsCommand(program);
  addCatCommand(program, interrupt.signal);
  addInfoCommand(program);
  addCacheCommand(program, interrupt.signal);
  addVerifyCommand(program, interrupt.signal);
  let interruptedExit: number = EXIT_INTERRUPTED;
  const onSignal = (exitCode: number) => (): void => {
    interruptedExit = exitCode;
    interrupt.abort(new Error("interrupted"));
  };
  if (argv[2] !== "serve") process.once("SIGINT", onSignal(EXIT_INTERRUPTED)).once("SIGTERM", onSignal(EXIT_TERMINATED));
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === EXIT_OK ? EXIT_OK : EXIT_USAGE;
    else if (interrupt.signal.aborted) {
      process.exitCode = interruptedExit;
      // Who reads or writes slowly, or not at all, is not waited for. Codecs may end what they are at.
      setTimeout(() => process.exit(), EXIT_MILLISECONDS).unref();
    }
    else {
      if (error !== reported) printError(error);
      process.exitCode = exitCodeOf(error);
    }
  }
}

await main(process.argv);

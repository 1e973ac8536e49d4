#!/usr/bin/env node
/** The `narbor` command. */
import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { addCatCommand } from "./commands/cat.ts";
import { addExportCommand } from "./commands/export.ts";
import { addImportCommand } from "./commands/import.ts";
import { addInfoCommand } from "./commands/info.ts";
import { addLsCommand } from "./commands/ls.ts";
import { addServeCommand } from "./commands/serve.ts";
import { addVerifyCommand } from "./commands/verify.ts";
import { EXIT_CODES_HELP, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, exitCodeOf } from "./exit-code.ts";
import { printError } from "./output.ts";

const { version } = createRequire(import.meta.url)("../../package.json") as { readonly version: string };

async function main(argv: readonly string[]): Promise<void> {
  const interrupt = new AbortController();
  // A reader that has left (`| head`) is no fault, and what was asked for is done all the same.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    printError(new Error(`Cannot write the output: ${error.message}`));
    process.exitCode = exitCodeOf(error);
  });
  const program = new Command("narbor")
    .description("A content-addressed store for Nix: takes NARs apart as they come in, gives them out again to any Nix client.")
    .version(version)
    .showHelpAfterError("(narbor --help tells more)")
    .exitOverride()
    .addHelpText(
      "after",
      `${EXIT_CODES_HELP}

Begin with:
  narbor serve                                                     a binary cache on http://127.0.0.1:7420
  nix copy --to http://127.0.0.1:7420 /nix/store/…-hello           push to it
  nix copy --from http://127.0.0.1:7420 /nix/store/…-hello         substitute from it`,
    );
  addServeCommand(program);
  addImportCommand(program, interrupt.signal);
  addExportCommand(program, interrupt.signal);
  addLsCommand(program);
  addCatCommand(program, interrupt.signal);
  addInfoCommand(program);
  addVerifyCommand(program, interrupt.signal);
  if (argv[2] !== "serve") process.once("SIGINT", () => interrupt.abort(new Error("interrupted")));
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === EXIT_OK ? EXIT_OK : EXIT_USAGE;
    else if (interrupt.signal.aborted) process.exitCode = EXIT_INTERRUPTED;
    else {
      printError(error);
      process.exitCode = exitCodeOf(error);
    }
  }
}

await main(process.argv);

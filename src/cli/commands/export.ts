import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { rename, unlink } from "node:fs/promises";
import type { Command } from "commander";
import { errorMessage } from "../../errors.ts";
import { planNar } from "../../render/nar-plan.ts";
import { renderNar } from "../../render/render-nar.ts";
import { startProgress, writeAll } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";

interface ExportOptions extends StoreOption {
  readonly output?: string;
}

export function addExportCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("export")
    .summary("give a tree out as a NAR")
    .description("Write a tree, or something in it, as a NAR to standard output or a file.")
    .argument("<tree>", "a store path or an entry, with a path below it if you like")
    .option("-o, --output <file>", "write to this file, which appears when it is whole")
    .addHelpText("after", `${TREE_ADDRESS_HELP}\n\nExample:\n  narbor export /nix/store/…-hello | nix-store --restore hello`);
  addStoreOption(command).action(async (address: string, options: ExportOptions) => {
    const { output } = options;
    if (output === "") command.error("error: --output is followed by the name of a file", { exitCode: 2 });
    if (output === undefined && process.stdout.isTTY) command.error("error: a NAR is not for a terminal; redirect it or give --output", { exitCode: 2 });
    await using store = await openNamedStore(command, options.store);
    const { node } = await findTree(address, store);
    const plan = await planNar(node, store, { signal });
    const progress = startProgress(address, plan.narSize);
    let written = 0;
    async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const bytes of renderNar(plan, store, { signal })) {
        written += bytes.length;
        progress.update(written, "");
        yield bytes;
      }
    }
    try {
      if (output === undefined) await writeAll(process.stdout, counted());
      else await writeFileWhole(output, counted());
    } finally {
      progress.stop();
    }
  });
}

/** The file has its name only when everything is in it. */
async function writeFileWhole(path: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = createWriteStream(temporary, { flags: "wx" });
  try {
    await once(file, "open").catch((error: unknown) => {
      throw new Error(`Cannot write ${JSON.stringify(path)}: ${errorMessage(error)}`, { cause: error });
    });
    await writeAll(file, source);
    await new Promise<void>((resolve, reject) => file.end((error?: Error | null) => (error ? reject(error) : resolve())));
    await rename(temporary, path);
  } catch (error) {
    file.destroy();
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

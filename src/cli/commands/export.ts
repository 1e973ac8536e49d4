import { Option, type Command } from "commander";
import type { ExportOptions } from "../../image/plan-export.ts";
import { DEFAULT_MAX_LAYERS, DEFAULT_PLATFORM, planExport } from "../../image/plan-export.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";
import type { OutputOptions } from "../write-output.ts";
import { addOutputOptions, checkOutput, parseNumber, printWritten, writeArchive } from "../write-output.ts";

type Options = StoreOption & OutputOptions & Omit<ExportOptions, keyof OutputOptions>;

const IMAGE_OPTIONS = [["name", "--name"], ["platform", "--platform"], ["maxLayers", "--max-layers"]] as const;

export function addExportCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("export")
    .summary("give a tree out as a NAR, a tar archive or an image")
    .description("Write a tree, or something in it, or a store path with all that it refers to, to standard output or a file. The same tree gives the same bytes on every machine.")
    .argument("<tree>", "a store path or an entry, with a path below it if you like")
    .addOption(new Option("--format <format>", "what to write; docker and oci make an image of a store path").choices(["nar", "tar", "docker", "oci"]).default("nar"))
    .option("--closure", "a store path with all that it refers to: in one tar archive, or in an image")
    .option("--name <name>", "of the image: the store path's name and hash unless given")
    .option("--platform <platform>", "of the image", DEFAULT_PLATFORM)
    .option("--max-layers <number>", "of the image: the paths that most others need have one each, the rest share the last", parseNumber, DEFAULT_MAX_LAYERS);
  addOutputOptions(command, ["none", "gzip", "zstd", "xz"]).addHelpText(
    "after",
    `${TREE_ADDRESS_HELP}

Examples:
  narbor export /nix/store/…-hello | nix-store --restore hello
  narbor export /nix/store/…-hello --format docker --closure | docker load
  narbor export /nix/store/…-hello --format tar --closure --compression zstd -o hello.tar.zst`,
  );
  addStoreOption(command).action(async (address: string, options: Options) => {
    for (const [option, flag] of options.format === "docker" || options.format === "oci" ? [] : IMAGE_OPTIONS) {
      if (command.getOptionValueSource(option) === "cli") command.error(`error: ${flag} is of an image, and goes with --format docker or oci`, { exitCode: 2 });
    }
    checkOutput(command, options);
    await using store = await openNamedStore(command, options.store);
    const { node, pathInfo, isBelow } = await findTree(address, store);
    const plan = await planExport(node, isBelow ? undefined : pathInfo, options, store, { signal });
    const written = await writeArchive(address, plan, options.output, signal);
    if (written !== undefined) printWritten({ tree: address, format: options.format, compression: options.compression, ...written }, options);
  });
}

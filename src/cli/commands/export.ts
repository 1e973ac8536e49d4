import { Option, type Command } from "commander";
import type { CallOptions } from "../../castore/call-options.ts";
import type { ImageSummary } from "../../image/image-archive.ts";
import { closureImage } from "../../image/image-source.ts";
import { formatStorePath } from "../../nix/store-path.ts";
import { planNar } from "../../render/render-nar.ts";
import { planTar } from "../../render/render-tar.ts";
import { renderArchive } from "../../render/segments.ts";
import type { PathInfo } from "../../store/path-info.ts";
import type { Store } from "../../store/store.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import type { FoundTree } from "../tree-address.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";
import type { Archive, OutputOptions } from "../write-output.ts";
import { DEFAULT_MAX_LAYERS, DEFAULT_PLATFORM, findWholeClosure, imageArchiveOf, imageNameOf, parseLayers } from "../image-output.ts";
import { addOutputOptions, checkOutput, levelOf, printWritten, writeArchive } from "../write-output.ts";

type Format = "nar" | "tar" | "docker" | "oci";

interface ExportOptions extends StoreOption, OutputOptions {
  readonly format: Format;
  readonly closure?: boolean;
  readonly name?: string;
  readonly platform: string;
  readonly maxLayers: number;
}

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
    .option("--max-layers <number>", "of the image: the paths that most others need have one each, the rest share the last", parseLayers, DEFAULT_MAX_LAYERS);
  addOutputOptions(command, ["none", "gzip", "zstd", "xz"]).addHelpText(
    "after",
    `${TREE_ADDRESS_HELP}

Examples:
  narbor export /nix/store/…-hello | nix-store --restore hello
  narbor export /nix/store/…-hello --format docker --closure | docker load
  narbor export /nix/store/…-hello --format tar --closure --compression zstd -o hello.tar.zst`,
  );
  addStoreOption(command).action(async (address: string, options: ExportOptions) => {
    checkOutput(command, options);
    if (options.closure === true && options.format === "nar") command.error("error: a NAR holds one tree; --closure goes with --format tar, docker or oci", { exitCode: 2 });
    if (options.format === "oci" && options.compression === "xz") command.error("error: layers of an OCI layout are compressed with none, gzip or zstd", { exitCode: 2 });
    await using store = await openNamedStore(command, options.store);
    const found = await findTree(address, store);
    const path = found.isBelow ? undefined : found.pathInfo;
    if (path === undefined && (options.closure === true || options.format === "docker" || options.format === "oci")) {
      command.error(`error: ${address} is no store path; ${options.closure === true ? "--closure" : `--format ${options.format}`} needs one`, { exitCode: 2 });
    }
    const { archive, summary } = await planExport(address, found, path, options, store, { signal });
    const written = await writeArchive(archive, options.output, signal);
    printWritten({ tree: address, format: options.format, compression: options.compression, ...written, ...summary() }, options);
  });
}

interface PlannedExport {
  readonly archive: Archive;
  /** What is known of an image when it has been written. */
  readonly summary: () => Partial<ImageSummary>;
}

async function planExport(address: string, { node }: FoundTree, path: PathInfo | undefined, options: ExportOptions, store: Store, callOptions: CallOptions): Promise<PlannedExport> {
  const { format } = options;
  const paths = path === undefined ? [] : options.closure === true ? await findWholeClosure(path, store, callOptions) : [path];
  if (format === "nar" || format === "tar" || path === undefined) {
    const trees = path === undefined ? [{ root: node, path: "" }] : paths.map(({ root, storePath }) => ({ root, path: formatStorePath(storePath).slice(1) }));
    const plan = format === "tar" ? await planTar(trees, store, callOptions) : await planNar(node, store, callOptions);
    const archive = { label: address, size: plan.size, bytes: renderArchive(plan, store, callOptions), codec: options.compression, level: levelOf(options) };
    return { archive, summary: () => ({}) };
  }
  const image = await closureImage(paths, store, options, callOptions);
  return imageArchiveOf(address, [image], { ...options, format, name: options.name ?? imageNameOf(path) }, store, callOptions);
}

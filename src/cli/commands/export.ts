import { InvalidArgumentError, Option, type Command } from "commander";
import type { CallOptions } from "../../castore/call-options.ts";
import { NarborError } from "../../errors.ts";
import { planClosureImage } from "../../image/closure-image.ts";
import { formatStorePath, storePathHashPart } from "../../nix/store-path.ts";
import { planNar } from "../../render/render-nar.ts";
import { planTar } from "../../render/render-tar.ts";
import { renderArchive } from "../../render/segments.ts";
import type { PathInfo } from "../../store/path-info.ts";
import type { Store } from "../../store/store.ts";
import { findClosure } from "../../transfer/pull-closure.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import type { FoundTree } from "../tree-address.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";
import type { Archive, OutputOptions } from "../write-output.ts";
import { addOutputOptions, checkOutput, printWritten, writeArchive } from "../write-output.ts";

type Format = "nar" | "tar" | "docker" | "oci";

interface ExportOptions extends StoreOption, OutputOptions {
  readonly format: Format;
  readonly closure?: boolean;
  readonly name?: string;
  readonly platform: string;
  readonly maxLayers: number;
}

/** What others can make images of in all: docker takes 127 layers. */
const DEFAULT_MAX_LAYERS = 100;
const MAX_LAYERS = 127;
const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, string>>> = { x64: "amd64", ia32: "386" };

export function addExportCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("export")
    .summary("give a tree out as a NAR, a tar archive or an image")
    .description("Write a tree, or something in it, or a store path with all that it refers to, to standard output or a file. The same tree gives the same bytes on every machine.")
    .argument("<tree>", "a store path or an entry, with a path below it if you like")
    .addOption(new Option("--format <format>", "what to write; docker and oci make an image of a store path").choices(["nar", "tar", "docker", "oci"]).default("nar"))
    .option("--closure", "a store path with all that it refers to: in one tar archive, or in an image")
    .option("--name <name>", "of the image: the store path's name and hash unless given")
    .option("--platform <platform>", "of the image", `linux/${ARCHITECTURES[process.arch] ?? process.arch}`)
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
    await using store = await openNamedStore(command, options.store);
    const found = await findTree(address, store);
    const path = found.isBelow ? undefined : found.pathInfo;
    if (path === undefined && (options.closure === true || options.format === "docker" || options.format === "oci")) {
      command.error(`error: ${address} is no store path; ${options.closure === true ? "--closure" : `--format ${options.format}`} needs one`, { exitCode: 2 });
    }
    const { archive, more } = await planExport(address, found, path, options, store, { signal });
    const written = await writeArchive(archive, options, signal);
    printWritten({ tree: address, format: options.format, compression: options.compression, ...written, ...more() }, options);
  });
}

interface PlannedExport {
  readonly archive: Archive;
  /** What is known when it has been written. */
  readonly more: () => object;
}

async function planExport(address: string, { node }: FoundTree, path: PathInfo | undefined, options: ExportOptions, store: Store, callOptions: CallOptions): Promise<PlannedExport> {
  const { format } = options;
  const paths = path === undefined ? [] : options.closure === true ? await findWholeClosure(path, store, callOptions) : [path];
  if (format === "nar" || format === "tar" || path === undefined) {
    const trees = path === undefined ? [{ root: node, path: "" }] : paths.map(({ root, storePath }) => ({ root, path: formatStorePath(storePath).slice(1) }));
    const plan = format === "tar" ? await planTar(trees, store, callOptions) : await planNar(node, store, callOptions);
    return { archive: { label: address, size: plan.size, bytes: renderArchive(plan, store, callOptions) }, more: () => ({}) };
  }
  const name = options.name ?? imageName(path);
  const image = await planClosureImage(paths, store, { format, name, platform: options.platform, maxLayers: options.maxLayers }, callOptions);
  let more: object = {};
  async function* bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    more = { name, ...(yield* image.render(store, callOptions)) };
  }
  return { archive: { label: address, size: image.size, bytes: bytes() }, more: () => more };
}

/** In the order of their names, so that the archive does not depend on how they were found. */
async function findWholeClosure(path: PathInfo, store: Store, { signal }: CallOptions): Promise<readonly PathInfo[]> {
  const closure = await findClosure([path], store, signal);
  const known = new Set(closure.map(({ storePath }) => formatStorePath(storePath)));
  const missing = closure.flatMap(({ references }) => references.map(formatStorePath)).find((reference) => !known.has(reference));
  if (missing !== undefined) throw new NarborError("ERR_NOT_FOUND", `Cannot export the closure: ${missing}, which it refers to, is not in the store`);
  return [...closure].sort((a, b) => (formatStorePath(a.storePath) < formatStorePath(b.storePath) ? -1 : 1));
}

/** As dockerTools does it: the path's name, and its hash as the tag. */
function imageName({ storePath: { name, digest } }: PathInfo): string {
  // Docker's names have no capitals, and begin and end with a letter or digit.
  return `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "") || "image"}:${storePathHashPart(digest)}`;
}

function parseLayers(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > MAX_LAYERS) throw new InvalidArgumentError(`It is a number from 1 to ${MAX_LAYERS}.`);
  return number;
}

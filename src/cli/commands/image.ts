/** `narbor image`: container images in, out, and what there is of them. */
import { stat } from "node:fs/promises";
import { Option, type Command } from "commander";
import { readFileBytes } from "../../bytes/read-file.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { NarborError } from "../../errors.ts";
import { directoryMembers } from "../../image/archive-members.ts";
import { findImages, listImageNames, removeImages } from "../../image/image-catalog.ts";
import { isImageName } from "../../image/image-name.ts";
import type { ImageRecord, NamedImages } from "../../image/image-record.ts";
import type { ImportedImages, ImportImagesOptions } from "../../image/import-images.ts";
import { importImages, importMembers } from "../../image/import-images.ts";
import type { OciDigest } from "../../image/oci-schema.ts";
import type { ImageFormat } from "../../image/image-archive.ts";
import { describeImages } from "../../image/image-archive.ts";
import type { ImageSource } from "../../image/image-source.ts";
import { STORE_DIR } from "../../nix/store-path.ts";
import { DEFAULT_MAX_LAYERS, imageNameOf, imageOfClosure, importedImages, layerCompression, nameOf, planImageExport } from "../../image/plan-export.ts";
import type { Store } from "../../store/store.ts";
import { EXIT_OK, exitCodeOf } from "../exit-code.ts";
import { findStorePath } from "../tree-address.ts";
import { formatBytes, printError, startProgress } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import type { OutputOptions } from "../write-output.ts";
import { addCompressionOptions, addOutputOptions, checkExportUsage, checkOutput, parseNumber, printWritten, writeArchive } from "../write-output.ts";

interface ImageExportOptions extends StoreOption, OutputOptions {
  readonly format: ImageFormat;
  readonly platform?: string;
}

interface DescribeOptions extends StoreOption, Pick<OutputOptions, "level"> {
  readonly platform?: string;
  readonly maxLayers: number;
  readonly compression: "none" | "gzip" | "zstd";
}

interface JsonOption extends StoreOption {
  readonly json?: boolean;
}

export function addImageCommand(program: Command, signal: AbortSignal): void {
  const image = program.command("image").summary("container images: import, ls, inspect, describe, export, rm").description("Take container images in, show them, and give them out again: every layer byte for byte.");
  addImport(image, signal);
  addLs(image, signal);
  addInspect(image, signal);
  addDescribe(image, signal);
  addExport(image, signal);
  addRm(image, signal);
}

function addImport(image: Command, signal: AbortSignal): void {
  const command = image
    .command("import")
    .summary("take in image archives")
    .description(
      "Take in what `docker save`, podman, skopeo and Nix's dockerTools write, and OCI layouts (as a directory or a tar archive), in any compression, told by its bytes. Each is read once, and inflated once. An image is listed when every layer is what its manifest says.",
    )
    .argument("<archive...>", "an archive, a directory with an OCI layout, or - for an archive on standard input")
    .option("--name <name>", "with one archive of one image: its name instead of the one in the archive")
    .option("--json", "print one JSON object for each image")
    .addHelpText(
      "after",
      `
Examples:
  docker save hello | narbor image import -
  narbor image import $(nix-build image.nix)              what dockerTools.buildImage makes
  skopeo copy docker://alpine oci:alpine && narbor image import --name alpine:latest alpine`,
    );
  addStoreOption(command).action(async (archives: string[], options: JsonOption & { readonly name?: string }) => {
    if (options.name !== undefined && archives.length > 1) command.error("error: --name goes with one archive", { exitCode: 2 });
    if (options.name !== undefined && !isImageName(options.name)) command.error(`error: ${JSON.stringify(options.name)} is no name for an image, such as hello:latest`, { exitCode: 2 });
    if (archives.filter((archive) => archive === "-").length > 1) command.error("error: standard input can be read once only", { exitCode: 2 });
    await using store = await openNamedStore(command, options.store, { create: true });
    for (const archive of archives) {
      const begun = performance.now();
      try {
        const { imported, readBytes } = await importArchive(archive, options.name, store, signal);
        printImported(archive, imported, { readBytes, seconds: (performance.now() - begun) / 1000 }, options);
      } catch (error) {
        signal.throwIfAborted();
        printError(error, archives.length === 1 ? undefined : archive);
        if (process.exitCode === undefined || process.exitCode === EXIT_OK) process.exitCode = exitCodeOf(error);
      }
    }
  });
}

async function importArchive(archive: string, name: string | undefined, store: Store, signal: AbortSignal): Promise<{ readonly imported: ImportedImages; readonly readBytes: number }> {
  const stats = archive === "-" ? undefined : await stat(archive);
  const progress = startProgress(archive, stats?.isFile() === true ? stats.size : undefined);
  let readBytes = 0;
  let note = "";
  const tell = (bytes: number): void => progress.update((readBytes += bytes), note);
  const options: ImportImagesOptions = {
    name,
    signal,
    onProgress: ({ layers }) => {
      note = `${layers} ${layers === 1 ? "layer" : "layers"}`;
      progress.update(readBytes, note);
    },
  };
  try {
    if (stats?.isDirectory() === true) {
      const imported = await importMembers(countedMembers(archive, tell), store, options);
      return { imported, readBytes };
    }
    const source: AsyncIterable<Uint8Array> = archive === "-" ? (process.stdin as AsyncIterable<Uint8Array>) : readFileBytes(archive);
    const imported = await importImages(counted(source, tell), store, options);
    return { imported, readBytes };
  } finally {
    progress.stop();
  }
}

async function* countedMembers(directory: string, tell: (bytes: number) => void): ReturnType<typeof directoryMembers> {
  for await (const member of directoryMembers(directory)) yield member.type === "file" ? { ...member, contents: counted(member.contents, tell) } : member;
}

async function* counted(source: AsyncIterable<Uint8Array>, tell: (bytes: number) => void): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    tell(bytes.length);
    yield bytes;
  }
}

function printImported(archive: string, { images, layers }: ImportedImages, { readBytes, seconds }: { readonly readBytes: number; readonly seconds: number }, { json }: JsonOption): void {
  const tallies = (image: ImageRecord): object[] =>
    image.layers.map(({ layer, file }) => {
      const { newBytes = 0, sharedBytes = 0 } = layers.get(layer.diffId)?.tally ?? {};
      return { diffId: layer.diffId, size: layer.size, entries: layer.entries, digest: file.digest, fileSize: file.size, newBytes, sharedBytes };
    });
  if (json === true) {
    for (const { name, images: platforms } of images) {
      for (const image of platforms) process.stdout.write(`${JSON.stringify({ archive, name, platform: image.platform, id: image.id, layers: tallies(image), readBytes, seconds })}\n`);
    }
    return;
  }
  const lines = images.flatMap(({ name, images: platforms }) =>
    platforms.flatMap((image) => [
      name,
      `  platform  ${image.platform}`,
      `  id        ${image.id}`,
      ...image.layers.map(({ layer }, index) => {
        const { newBytes = 0, sharedBytes = 0 } = layers.get(layer.diffId)?.tally ?? {};
        return `  ${index === 0 ? "layers" : "      "}    ${shortDigest(layer.diffId)}  ${formatBytes(layer.size).padStart(8)}  new ${formatBytes(newBytes)}, shared ${formatBytes(sharedBytes)}`;
      }),
    ]),
  );
  process.stdout.write(`${lines.join("\n")}\n  read      ${formatBytes(readBytes)} in ${seconds.toFixed(1)} s, ${formatBytes(readBytes / Math.max(seconds, 0.001))}/s\n`);
}

function addLs(image: Command, signal: AbortSignal): void {
  const command = image.command("ls").summary("the images that are here").description("List images: name, platform, ID, number of layers and their bytes.").option("--json", "print one JSON object for each");
  addStoreOption(command).action(async (options: JsonOption) => {
    await using store = await openNamedStore(command, options.store);
    for await (const name of listImageNames(store, { signal })) {
      const named = await findImages(name, store, { signal }).catch((error: unknown) => {
        signal.throwIfAborted();
        // The others are there all the same.
        printError(error, name);
        process.exitCode = exitCodeOf(error);
      });
      for (const each of named?.images ?? []) {
        const size = sizeOf(each);
        process.stdout.write(
          options.json === true
            ? `${JSON.stringify({ name, platform: each.platform, id: each.id, layers: each.layers.length, size })}\n`
            : `${name}  ${each.platform}  ${shortDigest(each.id)}  ${each.layers.length} ${each.layers.length === 1 ? "layer" : "layers"}  ${formatBytes(size)}\n`,
        );
      }
    }
  });
}

function addInspect(image: Command, signal: AbortSignal): void {
  const command = image.command("inspect").summary("what is known of an image").description("Print what is known of an image as JSON: platforms, configuration digests, and of each layer its diffID and size.").argument("<name>", "as `narbor image ls` has it");
  addStoreOption(command).action(async (name: string, options: StoreOption) => {
    await using store = await openNamedStore(command, options.store);
    const { images } = await findNamed(name, store, { signal });
    const platforms = images.map((each) => ({
      platform: each.platform,
      id: each.id,
      size: sizeOf(each),
      layers: each.layers.map(({ layer, file }) => ({ diffId: layer.diffId, size: layer.size, entries: layer.entries, importedAs: file })),
    }));
    process.stdout.write(`${JSON.stringify({ name, platforms }, undefined, 2)}\n`);
  });
}

function addDescribe(image: Command, signal: AbortSignal): void {
  const command = image
    .command("describe")
    .summary("the manifest that an image has, or a closure would have")
    .description("Print the OCI manifest's digest, and what is in it, as JSON, without making the image: what `narbor image export --format oci`, or `narbor export --format oci --closure` of a store path, would write. Digests that are remembered are not computed again.")
    .argument("<name>", "as `narbor image ls` has it, or a store path, with all that it refers to")
    .option("--platform <platform>", "of several; of a store path's image")
    .option("--max-layers <number>", "of a store path's image", parseNumber, DEFAULT_MAX_LAYERS);
  addCompressionOptions(command, ["none", "gzip", "zstd"]);
  addStoreOption(command).action(async (name: string, options: DescribeOptions) => {
    checkExportUsage(command, { ...options, format: "oci" });
    await using store = await openNamedStore(command, options.store);
    const { sources, imageName } = await findSources(name, options, store, { signal });
    const progress = startProgress(name, undefined);
    let rendered = 0;
    const onRendered = (bytes: number): void => progress.update((rendered += bytes), "");
    const { manifests, ...summary } = await describeImages(sources, store, { name: imageName, compression: layerCompression(options), onRendered, signal }).finally(() => progress.stop());
    process.stdout.write(`${JSON.stringify({ name: imageName, ...summary, manifests: manifests.map((bytes) => JSON.parse(Buffer.from(bytes).toString()) as unknown) }, undefined, 2)}\n`);
  });
}

/** As `narbor export` takes it: with the store's directory or without, or its hash alone. */
const STORE_PATH = /^(\/nix\/store\/)?[0-9a-z]{32}(-|$)/;

async function findSources(name: string, options: DescribeOptions, store: Store, callOptions: CallOptions): Promise<{ readonly sources: readonly ImageSource[]; readonly imageName: string | undefined }> {
  const named = name.startsWith(`${STORE_DIR}/`) ? undefined : await findImages(name, store, callOptions);
  if (named !== undefined) return { sources: await importedImages(named, options.platform, store, callOptions), imageName: nameOf(named) };
  if (!STORE_PATH.test(name)) throw notHere(name);
  const path = await findStorePath(name, store);
  return { sources: [await imageOfClosure(path, options, store, callOptions)], imageName: imageNameOf(path) };
}

function addExport(image: Command, signal: AbortSignal): void {
  const command = image
    .command("export")
    .summary("give an image out as an archive")
    .description("Write an image as an archive that docker, podman, containerd, skopeo and crane read. Layers are what they were, byte for byte.")
    .argument("<name>", "as `narbor image ls` has it")
    .addOption(new Option("--format <format>", "of the archive").choices(["docker", "oci"]).default("docker"))
    .option("--platform <platform>", "of several, such as linux/arm64");
  addOutputOptions(command, ["none", "gzip", "zstd"]).addHelpText("after", "\nExample:\n  narbor image export hello | docker load");
  addStoreOption(command).action(async (name: string, options: ImageExportOptions) => {
    checkOutput(command, options);
    await using store = await openNamedStore(command, options.store);
    const named = await findNamed(name, store, { signal });
    const written = await writeArchive(name, await planImageExport(named, options, store, { signal }), options.output, signal);
    if (written !== undefined) printWritten({ name: named.name, format: options.format, compression: options.compression, ...written }, options);
  });
}

function addRm(image: Command, signal: AbortSignal): void {
  const command = image.command("rm").summary("forget images").description("Forget images. What only they used stays until it is collected.").argument("<name...>", "as `narbor image ls` has them");
  addStoreOption(command).action(async (names: string[], options: StoreOption) => {
    await using store = await openNamedStore(command, options.store);
    for (const name of names) {
      try {
        await removeImages((await findNamed(name, store, { signal })).name, store, { signal });
      } catch (error) {
        signal.throwIfAborted();
        printError(error);
        process.exitCode = exitCodeOf(error);
      }
    }
  });
}

async function findNamed(name: string, store: Store, callOptions: CallOptions): Promise<NamedImages> {
  const found = await findImages(name, store, callOptions);
  if (found === undefined) throw notHere(name);
  return found;
}

/** Enough of it for a person; `--json` and `inspect` have all. */
function shortDigest(digest: OciDigest): string {
  return digest.slice(0, "sha256:".length + 12);
}

function notHere(name: string): NarborError {
  return new NarborError("ERR_NOT_FOUND", `There is no image ${JSON.stringify(name)} here; narbor image ls lists those that are`);
}

function sizeOf({ layers }: ImageRecord): number {
  return layers.reduce((sum, { layer }) => sum + layer.size, 0);
}

import { lstat, stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import type { Command } from "commander";
import { readFileBytes } from "../../bytes/read-file.ts";
import { toBase64, toBase64Url } from "../../bytes/text-encoding.ts";
import { encodeEntry } from "../../castore/directory-proto.ts";
import type { Node } from "../../castore/node.ts";
import { errorMessage } from "../../errors.ts";
import { dumpFilesystem } from "../../ingest/dump-filesystem.ts";
import type { ImportedNar } from "../../ingest/ingest-nar.ts";
import { importNarFile } from "../../ingest/import-nar-file.ts";
import { Sha256Tap } from "../../hash/sha256.ts";
import { formatStorePath, makeSourceStorePath } from "../../nix/store-path.ts";
import type { StorePath } from "../../nix/store-path.ts";
import { formatSriHash, toNixHash } from "../../nix/nix-hash.ts";
import { findKnownFile, rememberFile } from "../../store/known-file.ts";
import type { Store } from "../../store/store.ts";
import { parseCompressionOption } from "../compression-option.ts";
import type { BlockCompression } from "../../castore/block-writer.ts";
import { EXIT_OK, exitCodeOf } from "../exit-code.ts";
import { formatBytes, printError, startProgress } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";

interface ImportOptions extends StoreOption {
  readonly json?: boolean;
  readonly add?: boolean;
  readonly name?: string;
  readonly compression?: BlockCompression;
}

export function addImportCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("import")
    .summary("take in NARs, directories and files")
    .description("Take in NARs (in any compression that Nix writes, told by their bytes) and directories, and say what they are. `-` is standard input.")
    .argument("<input...>", "a NAR file, a directory, or - for a NAR on standard input")
    .option("--add", "take inputs as they are, files too, and register each as the store path that `nix-store --add` would give it")
    .option("--name <name>", "with --add, and one input: the store path's name instead of the input's")
    .option("--json", "print one JSON object for each input")
    .option("--compression <level>", "of what is stored: a zstd level from -7 to 19, or none", parseCompressionOption)
    .addHelpText(
      "after",
      `
Examples:
  narbor import hello.nar.xz              what is in a NAR, and its hashes
  nix-store --dump /nix/store/…-hello | narbor import -
  narbor import --add ./src               the path that "nix-store --add ./src" prints, now in the store`,
    );
  addStoreOption(command).action(async (inputs: string[], options: ImportOptions) => {
    checkUsage(command, inputs, options);
    await using store = await openNamedStore(command, options.store, { create: true, ...(options.compression !== undefined && { compression: options.compression }) });
    for (const input of inputs) {
      try {
        printResult(input, await importInput(input, options, store, signal), options);
      } catch (error) {
        signal.throwIfAborted();
        printError(inputs.length === 1 ? error : new Error(`${input}: ${error instanceof Error ? error.message : String(error)}`, { cause: error }));
        if (process.exitCode === undefined || process.exitCode === EXIT_OK) process.exitCode = exitCodeOf(error);
      }
    }
  });
}

interface ImportResult extends ImportedNar {
  readonly storePath: StorePath | undefined;
  /** Whether the file was taken in before, and only hashed now. */
  readonly isKnown: boolean;
}

function checkUsage(command: Command, inputs: readonly string[], { add, name }: ImportOptions): void {
  if (name !== undefined && (add !== true || inputs.length !== 1)) command.error("error: --name goes with --add and one input", { exitCode: 2 });
  for (const input of add === true ? inputs : []) {
    try {
      makeSourceStorePath(name ?? basename(resolve(input)), new Uint8Array(32));
    } catch (error) {
      command.error(`error: ${input}: ${errorMessage(error)}; --name gives another name`, { exitCode: 2 });
    }
  }
  if (add === true && inputs.includes("-")) command.error("error: --add takes paths, not standard input", { exitCode: 2 });
  if (inputs.filter((input) => input === "-").length > 1) command.error("error: standard input can be read once only", { exitCode: 2 });
}

async function importInput(input: string, options: ImportOptions, store: Store, signal: AbortSignal): Promise<ImportResult> {
  const { source, totalBytes } = options.add === true ? { source: dumpFilesystem(input), totalBytes: undefined } : await openInput(input);
  const known = totalBytes === undefined ? undefined : await findKnownFile(totalBytes, () => hashFile(input, signal), store, { signal });
  if (known !== undefined) return { ...known, storePath: undefined, isKnown: true };
  const progress = startProgress(input, totalBytes);
  let readBytes = 0;
  let nodes = 0;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of source) {
      readBytes += bytes.length;
      progress.update(readBytes, `${nodes} entries`);
      yield bytes;
    }
  }
  try {
    const work = store.begin();
    // A directory is dumped, which cannot be taken for a compressed stream: a NAR begins with its magic.
    const { nar: imported, file } = await importNarFile(counted(), {
      blobs: work.blobs,
      directories: work.directories,
      directorySizeProfile: await store.directorySizeProfile({ signal }),
      signal,
      onNode: () => nodes++,
    });
    await work.nars.put(imported, totalBytes === undefined ? undefined : file, { signal });
    await work.commit();
    if (totalBytes !== undefined) await rememberFile(file.fileSize, store, { signal });
    const storePath = options.add === true ? await register(options.name ?? basename(resolve(input)), imported, store) : undefined;
    return { ...imported, storePath, isKnown: false };
  } finally {
    progress.stop();
  }
}

async function hashFile(path: string, signal: AbortSignal): Promise<Uint8Array> {
  const file = new Sha256Tap();
  for await (const bytes of readFileBytes(path, signal)) file.update(bytes);
  return file.digest();
}

async function openInput(input: string): Promise<{ readonly source: AsyncIterable<Uint8Array>; readonly totalBytes: number | undefined }> {
  if (input === "-") return { source: process.stdin as AsyncIterable<Uint8Array>, totalBytes: undefined };
  const stats = await stat(input);
  if (stats.isDirectory()) {
    // The link itself is not what anyone means by a directory's name.
    const path = (await lstat(input)).isSymbolicLink() ? `${input}/.` : input;
    return { source: dumpFilesystem(path), totalBytes: undefined };
  }
  return { source: readFileBytes(input), totalBytes: stats.isFile() ? stats.size : undefined };
}

async function register(name: string, { root, narSize, narSha256 }: ImportedNar, store: Store): Promise<StorePath> {
  const storePath = makeSourceStorePath(name, narSha256);
  const ca = { method: "nar", hash: toNixHash("sha256", narSha256) } as const;
  await store.pathInfos.put({ storePath, root, narSize, narSha256, references: [], signatures: [], ca });
  return storePath;
}

function printResult(input: string, result: ImportResult, { json }: ImportOptions): void {
  const { root, narSize, narSha256, storePath, isKnown } = result;
  const entry = toBase64Url(encodeEntry(root));
  const narHash = formatSriHash(toNixHash("sha256", narSha256));
  if (json === true) {
    const { digest, size } = describeRoot(root);
    const object = { input, type: root.type, digest, size, entry, narHash, narSize, known: isKnown, ...(storePath !== undefined && { storePath: formatStorePath(storePath) }) };
    process.stdout.write(`${JSON.stringify(object)}\n`);
    return;
  }
  const lines = [
    input,
    ...(storePath === undefined ? [] : [`  path      ${formatStorePath(storePath)}`]),
    `  root      ${describeForPeople(root)}`,
    `  entry     ${entry}`,
    `  NAR hash  ${narHash}`,
    `  NAR size  ${narSize} bytes${narSize < 1000 ? "" : ` (${formatBytes(narSize)})`}`,
    ...(isKnown ? ["  known     this very file was taken in before"] : []),
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** A symlink has no digest and no blob; its size is its target's length, as on a disk. */
function describeRoot(root: Node): { readonly digest: string | null; readonly size: number } {
  return root.type === "symlink" ? { digest: null, size: root.target.length } : { digest: `blake3-${toBase64(root.digest)}`, size: root.size };
}

function describeForPeople(root: Node): string {
  switch (root.type) {
    case "symlink":
      return `symlink to ${JSON.stringify(Buffer.from(root.target).toString())}`;
    case "file":
      return `${root.executable ? "executable file" : "file"} blake3-${toBase64(root.digest)}, ${root.size} bytes`;
    case "directory":
      return `directory blake3-${toBase64(root.digest)}, ${root.size} entries in all`;
  }
}

import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type { Codec } from "../../compression/codec.ts";
import { CODECS } from "../../compression/codec.ts";
import { isStoreDirectory } from "../../composition/open-store.ts";
import { NarborError } from "../../errors.ts";
import type { PathInfo } from "../../store/path-info.ts";
import type { NarTarget } from "../../transfer/pull-closure.ts";
import { findClosure } from "../../store/closure.ts";
import { pullClosure } from "../../transfer/pull-closure.ts";
import { BinaryCacheDirectory, NarFiles } from "../../transfer/nar-directory.ts";
import { checkStoreUsage, openNamedStore, parseDirectory } from "../store-option.ts";
import { findStorePath } from "../tree-address.ts";
import { DEFAULT_JOBS, parseJobs, TransferReport } from "../transfer-report.ts";

interface PullOptions {
  readonly from: string;
  readonly to: string;
  readonly nar?: boolean;
  readonly compression?: Codec;
  readonly jobs: number;
  readonly json?: boolean;
}

/** Of a binary cache: it is read over a network or from a stick, where a third of the bytes is worth more than the little work. */
const DEFAULT_COMPRESSION: Codec = "zstd";

export function addPullCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("pull")
    .summary("write paths of a store to a binary cache in a directory")
    .description(
      "Write paths of a store, and all that they refer to, to a directory: a binary cache that Nix reads as it is, from a disk or by way of any web server. Signatures come along. Only what is missing there is written, and files appear when they are whole: when it is interrupted or something fails, the same command goes on from there.",
    )
    .argument("<path...>", "a store path, with or without /nix/store/, or its 32-character hash alone")
    .requiredOption("--from <store>", "where from: a directory, or grpc://HOST:PORT")
    .requiredOption("--to <dir>", "where to: a directory, which is made when it is not there", parseDirectory)
    .option("--compression <name>", `of the NARs: ${CODECS.join(", ")}; ${DEFAULT_COMPRESSION} unless given, or none with --nar`, parseCodec)
    .option("--nar", "write no binary cache but the NARs alone, each as <hash>-<name>.nar")
    .option("--jobs <number>", "write so many paths at once", parseJobs, DEFAULT_JOBS)
    .option("--json", "print one JSON object for each path, and a last one that sums up")
    .addHelpText(
      "after",
      `
Compression: zstd makes NARs about a third of their size and costs Nix, which reads it since 2.4, almost nothing to undo. none is for a
directory that is itself compressed or deduplicated. xz is written for readers that know nothing else, and is no smaller here.

Examples:
  narbor pull /nix/store/…-hello --from ~/cache --to /mnt/stick/cache
  nix copy --from file:///mnt/stick/cache /nix/store/…-hello      on the other machine
  narbor pull --nar …-hello --from ~/cache --to nars              then: nix-store --restore hello < nars/…-hello.nar

Every NAR is verified while it is written. One that cannot be read whole any more is an error, and so are those that refer to it;
the others are written, and the first error's code is the exit code. Files that end in .tmp are of a pull that was killed: delete them.`,
    );
  command.action(async (names: string[], options: PullOptions) => await pull(command, names, options, signal));
}

async function pull(command: Command, names: readonly string[], options: PullOptions, signal: AbortSignal): Promise<void> {
  const { from, to, nar, jobs, json } = options;
  checkStoreUsage(command, from);
  using report = new TransferReport<PathInfo>({ verb: "pull", done: "pulled", json: json === true });
  try {
    if ((await isStoreDirectory(to)) || (await isStoreDirectory(dirname(resolve(to))))) throw new NarborError("ERR_STORE", `Cannot pull to ${JSON.stringify(to)}: a Narbor store is there; name another directory`);
    await using store = await openNamedStore(command, from);
    const roots: PathInfo[] = [];
    for (const name of names) roots.push(await findStorePath(name, store));
    const closure = await findClosure(roots, store, signal);
    const write = async <Written>(target: NarTarget<Written>): Promise<void> => await pullClosure(closure, store, target, { jobs, signal, onEvent: report.onEvent });
    if (nar === true) await write(await NarFiles.open(to, options.compression ?? "none"));
    else await write(await BinaryCacheDirectory.open(to, options.compression ?? DEFAULT_COMPRESSION));
  } catch (error) {
    report.stopped(error, signal.aborted);
    throw error;
  }
  report.finish();
}

function parseCodec(text: string): Codec {
  const codec = CODECS.find((known) => known === text);
  if (codec === undefined) throw new InvalidArgumentError(`It is one of ${CODECS.join(", ")}.`);
  return codec;
}

import type { Command } from "commander";
import { formatStorePath } from "../../nix/store-path.ts";
import type { NixPathInfo } from "../../nix/path-info-json.ts";
import { NixCommand } from "../../transfer/local-nix-store.ts";
import { pushClosure } from "../../transfer/push-closure.ts";
import { resolveLocalStorePath } from "../local-store-path.ts";
import { printWarning } from "../output.ts";
import { checkStoreUsage, openNamedStore } from "../store-option.ts";
import { DEFAULT_JOBS, parseJobs, TransferReport } from "../transfer-report.ts";

interface PushOptions {
  readonly to: string;
  readonly jobs: number;
  readonly json?: boolean;
}

export function addPushCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("push")
    .summary("put paths of the local Nix store into a store")
    .description(
      "Put paths of this machine's Nix store, and all that they refer to, into a store. Only what is missing there is sent; signatures come along, and new ones are added to paths that are there. Whatever was put stays when it is interrupted or something fails: the same command goes on from there.",
    )
    .argument("<path...>", "a store path, something below it, or a link to it such as ./result")
    .requiredOption("--to <store>", "where to: a directory, which is made when it is not there, or grpc://HOST:PORT")
    .option("--jobs <number>", "send so many paths at once", parseJobs, DEFAULT_JOBS)
    .option("--json", "print one JSON object for each path, and a last one that sums up")
    .addHelpText(
      "after",
      `
Examples:
  narbor push ./result --to ~/cache                        what "nix build" made, with what it needs
  narbor push $(nix-store --query --requisites --include-outputs \\
    $(nix-instantiate shell.nix)) --to ~/cache             and with what it was built from
  narbor push /run/current-system --to ~/cache             the system that is running

Then "narbor serve --store ~/cache" serves it to other machines; a store that is served already is pushed to by its address.

The "nix" on the PATH is asked for paths and NARs. A path whose files are not what Nix's database says is an error, and so are those that
refer to it; the others are sent, and the first error's code is the exit code.`,
    );
  command.action(async (names: string[], options: PushOptions) => await push(command, names, options, signal));
}

async function push(command: Command, names: readonly string[], { to, jobs, json }: PushOptions, signal: AbortSignal): Promise<void> {
  // Before Nix is asked, which may take its time. A directory is made only when Nix knows the paths.
  checkStoreUsage(command, to);
  const local = new NixCommand();
  using report = new TransferReport<NixPathInfo>({ verb: "push", done: "pushed", json: json === true });
  try {
    const paths = await Promise.all(names.map(resolveLocalStorePath));
    const closure = await local.closure(paths, signal);
    await using store = await openNamedStore(command, to, { create: true });
    await pushClosure(closure, local, store, { jobs, signal, onEvent: report.onEvent, onReplace: warnOfReplacement });
  } catch (error) {
    report.stopped(error, signal.aborted);
    throw error;
  }
  report.finish();
}

function warnOfReplacement({ storePath }: NixPathInfo): void {
  printWarning(`the store has ${formatStorePath(storePath)} with other contents, which are replaced`);
}

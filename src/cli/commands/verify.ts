import type { Command } from "commander";
import { verifyStore } from "../../maintenance/verify-store.ts";
import { EXIT_DAMAGED } from "../exit-code.ts";
import { startProgress } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";

interface VerifyOptions extends StoreOption {
  readonly json?: boolean;
  readonly rebuildIndex?: boolean;
}

export function addVerifyCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("verify")
    .summary("read everything again and check it")
    .description("Read every block of the store, hash all that is in it, and the NAR of every store path; of a store that is served elsewhere, the NARs. Says what is damaged and which paths it hurts; exits with 5 if anything is.")
    .option("--rebuild-index", "first forget the index and make it anew from the packs")
    .option("--json", "print one JSON object for each finding, and a last one that sums up");
  addStoreOption(command).action(async (options: VerifyOptions) => {
    await using store = await openNamedStore(command, options.store, options.rebuildIndex === true ? { rebuildIndex: true } : {});
    const print = (text: string, object: object): void => void process.stdout.write(options.json === true ? `${JSON.stringify(object)}\n` : `${text}\n`);
    let progress = startProgress("verify", undefined);
    let total = -1;
    try {
      for await (const event of verifyStore(store, signal)) {
        switch (event.type) {
          case "progress":
            if (total !== event.totalBytes) {
              progress.stop();
              total = event.totalBytes;
              progress = startProgress("verify", total);
            }
            progress.update(event.bytes, "");
            break;
          case "damage":
            print(`damaged: ${event.message}`, { type: "damage", message: event.message });
            break;
          case "torn":
            print(`note: ${event.message}`, { type: "torn", message: event.message });
            break;
          case "hurtPath":
            print(`hurt: ${event.storePath}: ${event.message}`, event);
            break;
          case "summary": {
            progress.stop();
            const { damages, paths, hurtPaths } = event;
            const isClean = damages === 0 && hurtPaths === 0;
            print(isClean ? `ok: ${paths} store paths, all whole` : `${damages} damaged, ${hurtPaths} of ${paths} store paths hurt`, event);
            if (!isClean) process.exitCode = EXIT_DAMAGED;
          }
        }
      }
    } finally {
      progress.stop();
    }
  });
}

import type { Command } from "commander";
import { NarborError } from "../../errors.ts";
import { writeAll } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";

export function addCatCommand(program: Command, signal: AbortSignal): void {
  const command = program
    .command("cat")
    .summary("print a file of a tree")
    .description("Write a file's contents to standard output.")
    .argument("<file>", "a store path or an entry, and the path to the file below it")
    .addHelpText("after", `${TREE_ADDRESS_HELP}\n\nExample:\n  narbor cat /nix/store/…-hello/bin/hello | file -`);
  addStoreOption(command).action(async (address: string, options: StoreOption) => {
    await using store = await openNamedStore(command, options.store);
    const { node } = await findTree(address, store);
    if (node.type === "symlink") throw new NarborError("ERR_INVALID", `Cannot print ${JSON.stringify(address)}: it is a link to ${JSON.stringify(Buffer.from(node.target).toString())}`);
    if (node.type === "directory") throw new NarborError("ERR_INVALID", `Cannot print ${JSON.stringify(address)}: it is a directory`);
    const content = await store.blobs.openRead(node.digest, { signal });
    if (content === undefined) throw new NarborError("ERR_NOT_FOUND", `The contents of ${JSON.stringify(address)} are not in the store`);
    await writeAll(process.stdout, content, signal);
  });
}

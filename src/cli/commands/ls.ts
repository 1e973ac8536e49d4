import type { Command } from "commander";
import { narListing } from "../../render/nar-listing.ts";
import { loadTree, walkTree } from "../../render/tree.ts";
import type { Entry } from "../../castore/directory.ts";
import { decodeDirectory } from "../../castore/directory-proto.ts";
import type { Node } from "../../castore/node.ts";
import type { Store } from "../../store/store.ts";
import { escapeBytes } from "../../bytes/text-encoding.ts";
import { NarborError } from "../../errors.ts";
import { writeAll } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";

interface LsOptions extends StoreOption {
  readonly recursive?: boolean;
  readonly long?: boolean;
  readonly json?: boolean;
}

export function addLsCommand(program: Command): void {
  const command = program
    .command("ls")
    .summary("list a tree")
    .description("List a directory of a tree, or name the one file there is.")
    .argument("<tree>", "a store path or an entry, with a path below it if you like")
    .option("-R, --recursive", "list all that is below, too")
    .option("-l, --long", "with kind, size and the target of links")
    .option("--json", "the whole tree as JSON, as in a binary cache's .ls files")
    .addHelpText("after", TREE_ADDRESS_HELP);
  addStoreOption(command).action(async (address: string, options: LsOptions) => {
    await using store = await openNamedStore(command, options.store);
    const { node } = await findTree(address, store);
    await writeAll(process.stdout, encodeLines(options.json === true ? listJson(node, store) : listNames(node, address, store, options)));
  });
}

async function* listJson(node: Node, store: Store): AsyncGenerator<string, void, undefined> {
  yield* narListing(await loadTree(node, store.directories), escapeBytes);
  yield "\n";
}

async function* listNames(node: Node, address: string, store: Store, options: LsOptions): AsyncGenerator<string, void, undefined> {
  if (node.type !== "directory") {
    yield line(Buffer.from(address), node, options);
    return;
  }
  if (options.recursive !== true) {
    const bytes = await store.directories.get(node.digest);
    if (bytes === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(address)} in the store`);
    for (const entry of decodeDirectory(bytes)) yield line(entry.name, entry.node, options);
    return;
  }
  const above: Uint8Array[] = [];
  for (const step of walkTree(await loadTree(node, store.directories))) {
    if (step.type === "endDirectory") {
      above.pop();
      continue;
    }
    if (step.name.length > 0) yield line(Buffer.concat([...above.flatMap((name) => (name.length === 0 ? [] : [name, Buffer.from("/")])), step.name]), step.node, options);
    if (step.type === "directory") above.push(step.name);
  }
}

function line(path: Uint8Array, node: Entry["node"], { long }: LsOptions): string {
  const name = printable(path);
  if (long !== true) return `${name}${node.type === "directory" ? "/" : ""}\n`;
  switch (node.type) {
    case "directory":
      return `dr-xr-xr-x ${"-".padStart(14)} ${name}/\n`;
    case "file":
      return `${node.executable ? "-r-xr-xr-x" : "-r--r--r--"} ${String(node.size).padStart(14)} ${name}\n`;
    case "symlink":
      return `lrwxrwxrwx ${"-".padStart(14)} ${name} -> ${printable(node.target)}\n`;
  }
}

/** Names are bytes: what is no text, and what could steer a terminal, is written as an escape. */
function printable(bytes: Uint8Array): string {
  return escapeBytes(bytes)
    .replace(/[\u0000-\u001f\u007f]/g, (character) => `\\x${hexOf(character)}`)
    // In UTF-8 they are two bytes, the second of them themselves.
    .replace(/[\u0080-\u009f]/g, (character) => `\\xc2\\x${hexOf(character)}`);
}

function hexOf(character: string): string {
  return character.charCodeAt(0).toString(16).padStart(2, "0");
}

async function* encodeLines(lines: AsyncIterable<string>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const text of lines) yield Buffer.from(text);
}

import type { Command } from "commander";
import { toBase64, toBase64Url } from "../../bytes/text-encoding.ts";
import type { Store } from "../../store/store.ts";
import { encodeEntry } from "../../castore/directory-proto.ts";
import { formatContentAddress } from "../../nix/content-address.ts";
import { formatSriHash, toNixHash } from "../../nix/nix-hash.ts";
import { formatSignature } from "../../nix/signature.ts";
import { formatStorePath } from "../../nix/store-path.ts";
import { planNar } from "../../render/render-nar.ts";
import { formatBytes } from "../output.ts";
import type { StoreOption } from "../store-option.ts";
import { addStoreOption, openNamedStore } from "../store-option.ts";
import type { FoundTree } from "../tree-address.ts";
import { findTree, TREE_ADDRESS_HELP } from "../tree-address.ts";

interface InfoOptions extends StoreOption {
  readonly json?: boolean;
}

export function addInfoCommand(program: Command): void {
  const command = program
    .command("info")
    .summary("what is known of a tree, or of the store")
    .description("Without an argument, how much is in the store; with one, what is known of a tree.")
    .argument("[tree]", "a store path or an entry")
    .option("--json", "print JSON")
    .addHelpText("after", TREE_ADDRESS_HELP);
  addStoreOption(command).action(async (address: string | undefined, options: InfoOptions) => {
    await using store = await openNamedStore(command, options.store);
    const facts = address === undefined ? await store.describe() : await treeFacts(await findTree(address, store), store);
    process.stdout.write(options.json === true ? `${JSON.stringify(facts)}\n` : formatFacts(facts));
  });
}

type Facts = Readonly<Record<string, string | number | readonly string[] | null>>;

async function treeFacts({ node, pathInfo, isBelow }: FoundTree, store: Store): Promise<Facts> {
  const tree: Facts = {
    type: node.type,
    digest: node.type === "symlink" ? null : `blake3-${toBase64(node.digest)}`,
    size: node.type === "symlink" ? node.target.length : node.size,
    entry: toBase64Url(encodeEntry(node)),
  };
  if (pathInfo === undefined || isBelow) return { ...tree, narSize: (await planNar(node, store)).size };
  const { storePath, narSha256, narSize, references, deriver, signatures, ca } = pathInfo;
  return {
    storePath: formatStorePath(storePath),
    ...tree,
    narHash: formatSriHash(toNixHash("sha256", narSha256)),
    narSize,
    references: references.map(formatStorePath),
    deriver: deriver === undefined ? null : formatStorePath(deriver),
    signatures: signatures.map(formatSignature),
    ca: ca === undefined ? null : formatContentAddress(ca),
  };
}

function formatFacts(facts: Facts): string {
  const width = Math.max(...Object.keys(facts).map((key) => key.length));
  return Object.entries(facts)
    .flatMap(([key, value]) => {
      const values = Array.isArray(value) ? (value as readonly string[]) : [value as string | number | null];
      const texts = values.length === 0 ? ["-"] : values.map((one) => formatFact(key, one));
      return texts.map((text, index) => `${(index === 0 ? key : "").padEnd(width)}  ${text}\n`);
    })
    .join("");
}

function formatFact(key: string, value: string | number | null): string {
  if (value === null) return "-";
  return typeof value === "number" && key.endsWith("Bytes") && value >= 1000 ? `${value} (${formatBytes(value)})` : String(value);
}

import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { decodeDirectory } from "../../castore/directory-proto.ts";
import { errorMessage, isNarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { PacksCore } from "./packs-core.ts";
import type { ScannedBlock } from "./pack-files.ts";
import { readRecords } from "./record-format.ts";

/** What a check of a store tells as it goes. */
export type StoreCheck =
  /** Bytes of packs read so far, of how many. */
  | { readonly type: "progress"; readonly bytes: number; readonly totalBytes: number }
  /** Something is not as it was stored. `digest` names the blob, chunk or directory that cannot be read any more, where one is known. */
  | { readonly type: "damage"; readonly message: string; readonly digest?: B3Digest }
  /** Bytes at a pack's end that were never part of the store: a write that a crash cut off. */
  | { readonly type: "torn"; readonly message: string };

/**
 * Read every block of every pack, decompress it, and hash every chunk and directory in it; then look the index up for what it names.
 * Reads the disk and not the cache of blocks.
 */
export async function* checkPacks(core: PacksCore, signal: AbortSignal | undefined): AsyncGenerator<StoreCheck, void, undefined> {
  const packs = await core.files.list();
  const totalBytes = packs.reduce((sum, { size }) => sum + size, 0);
  let bytes = 0;
  for (const { name, size } of packs) {
    for await (const block of core.files.scan(name, 0)) {
      core.check({ signal });
      if (block.type === "damage") yield damagedBytes(name, block);
      else yield* checkBlock(core, name, block);
      yield { type: "progress", bytes: bytes + Math.min(block.end, size), totalBytes };
    }
    bytes += size;
  }
  yield* checkIndex(core, signal);
}

function damagedBytes(name: string, { offset, end, torn }: ScannedBlock & { type: "damage" }): StoreCheck {
  const where = `bytes ${offset} to ${end} of pack "${name}"`;
  return torn
    ? { type: "torn", message: `${where} are an unfinished write` }
    : { type: "damage", message: `${where} are damaged` };
}

async function* checkBlock(core: PacksCore, name: string, block: ScannedBlock & { type: "block" }): AsyncGenerator<StoreCheck, void, undefined> {
  const where = `the block at byte ${block.offset} of pack "${name}"`;
  let content: Uint8Array;
  try {
    content = await core.files.decode(name, block);
    if (block.header.kind === "records") for (const _record of readRecords(content)) void _record;
  } catch (error) {
    if (!isNarborError(error)) throw error;
    yield { type: "damage", message: errorMessage(error) };
    return;
  }
  let offset = 0;
  for (const { digest, length } of block.chunks) {
    const chunk = content.subarray(offset, offset + length);
    offset += length;
    if (!equalBytes(blake3(chunk), digest)) yield { type: "damage", message: `${where} holds other bytes than ${formatDigest(digest)}`, digest };
  }
}

/** What the index says must be there, in the packs and in itself. */
async function* checkIndex(core: PacksCore, signal: AbortSignal | undefined): AsyncGenerator<StoreCheck, void, undefined> {
  for (const { digest, message } of core.index.allDirectories()) {
    core.check({ signal });
    const named = toB3Digest(digest);
    if (!equalBytes(blake3(message), digest)) {
      yield { type: "damage", message: `the index holds other bytes for directory ${formatDigest(named)}`, digest: named };
      continue;
    }
    try {
      decodeDirectory(message);
    } catch (error) {
      yield { type: "damage", message: `directory ${formatDigest(named)}: ${errorMessage(error)}`, digest: named };
    }
  }
}

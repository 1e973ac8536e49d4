import { equalBytes } from "../../bytes/compare-bytes.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { readDirectory } from "../../castore/directory-proto.ts";
import { errorMessage, isNarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { StoreCheck } from "../../store/store-check.ts";
import type { IndexedPack } from "./index-database.ts";
import type { PacksCore } from "./packs-core.ts";
import type { ScannedBlock } from "./pack-files.ts";
import { encodeChunkList, readRecords } from "./record-format.ts";

/**
 * Read every block of every pack, decompress it, and hash every chunk in it. What the index names and the packs did not show whole, at the
 * place that the index says, is damaged.
 */
export async function* checkPacks(core: PacksCore, signal: AbortSignal | undefined): AsyncGenerator<StoreCheck, void, undefined> {
  // Before the files are listed: a pack that another process begins now is then in neither or in the files only.
  const indexed = new Map(core.index.packs().map((pack) => [pack.name, pack]));
  const packs = await core.files.list();
  const totalBytes = packs.reduce((sum, { size }) => sum + size, 0);
  let bytesBefore = 0;
  using seen = core.index.beginCheck();
  yield* checkPresence(indexed.values(), packs);
  for (const { name, size } of packs) {
    const { id = -1, indexedBytes = 0 } = indexed.get(name) ?? {};
    for await (const block of core.files.scan(name, 0)) {
      core.check({ signal });
      if (block.type === "damage") yield damagedBytes(name, block, indexedBytes);
      else yield* checkBlock(core, name, block, (chunks) => seen.add(id, block.offset, chunks));
      yield { type: "progress", bytes: bytesBefore + block.end, totalBytes };
    }
    bytesBefore += size;
  }
  for (const digest of seen.unseenChunks()) {
    core.check({ signal });
    yield { type: "damage", message: `chunk ${formatDigest(digest)} cannot be read where the index says it is`, digest };
  }
  yield* checkDirectories(core, signal);
}

/** What the index has taken in must still be there, or nothing that was in it can be told to be missing. */
function* checkPresence(indexed: Iterable<IndexedPack>, packs: readonly { readonly name: string; readonly size: number }[]): Generator<StoreCheck, void, undefined> {
  const sizes = new Map(packs.map(({ name, size }) => [name, size]));
  for (const { name, indexedBytes } of indexed) {
    const size = sizes.get(name);
    if (size === undefined && indexedBytes > 0) yield { type: "damage", message: `pack "${name}" is not there` };
    else if (size !== undefined && size < indexedBytes) yield { type: "damage", message: `pack "${name}" is ${size} bytes, of ${indexedBytes} that were written` };
  }
}

function damagedBytes(name: string, { offset, end, torn }: ScannedBlock & { type: "damage" }, indexedBytes: number): StoreCheck {
  const where = `bytes ${offset} to ${end} of pack "${name}"`;
  // Only what was never acknowledged can be a write that was cut off.
  return torn && offset >= indexedBytes ? { type: "torn", message: `${where} are an unfinished write` } : { type: "damage", message: `${where} are damaged` };
}

async function* checkBlock(
  core: PacksCore,
  name: string,
  block: ScannedBlock & { type: "block" },
  onGoodChunks: (chunks: readonly { readonly digest: Uint8Array; readonly offset: number }[]) => void,
): AsyncGenerator<StoreCheck, void, undefined> {
  const where = `the block at byte ${block.offset} of pack "${name}"`;
  try {
    const content = await core.files.decode(name, block);
    // A block that another process has just written is not in the index yet.
    if (block.header.kind === "records" && block.end <= core.index.indexedBytes(name)) yield* checkRecords(core, content);
    const good: { readonly digest: Uint8Array; readonly offset: number }[] = [];
    let offset = 0;
    for (const { digest, length } of block.chunks) {
      if (equalBytes(blake3(content.subarray(offset, offset + length)), digest)) good.push({ digest, offset });
      else yield { type: "damage", message: `${where} holds other bytes than ${formatDigest(digest)}`, digest };
      offset += length;
    }
    onGoodChunks(good);
  } catch (error) {
    if (!isNarborError(error)) throw error;
    yield { type: "damage", message: errorMessage(error) };
  }
}

function* checkRecords(core: PacksCore, content: Uint8Array): Generator<StoreCheck, void, undefined> {
  for (const record of readRecords(content)) {
    if (record.type !== "blob") continue;
    const indexed = core.index.splitBlob(record.digest);
    if (indexed !== undefined && equalBytes(encodeChunkList(indexed), encodeChunkList(record.chunks))) continue;
    yield { type: "damage", message: `the index has other chunks for blob ${formatDigest(record.digest)} than its pack`, digest: record.digest };
  }
}

function* checkDirectories(core: PacksCore, signal: AbortSignal | undefined): Generator<StoreCheck, void, undefined> {
  for (const { digest, message } of core.index.allDirectories()) {
    core.check({ signal });
    const named = toB3Digest(digest);
    try {
      if (!equalBytes(blake3(message), digest)) yield { type: "damage", message: `the index holds other bytes for directory ${formatDigest(named)}`, digest: named };
      else for (const _entry of readDirectory(message)) void _entry;
    } catch (error) {
      yield { type: "damage", message: `directory ${formatDigest(named)}: ${errorMessage(error)}`, digest: named };
    }
  }
}

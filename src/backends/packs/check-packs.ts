import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { BlobService } from "../../castore/blob-service.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { readDirectory } from "../../castore/directory-proto.ts";
import { errorMessage, isNarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import { formatStorePath } from "../../nix/store-path.ts";
import { decodePathInfo } from "../../store/path-info-message.ts";
import type { StoreCheck } from "../../store/store-check.ts";
import type { PacksCore } from "./packs-core.ts";
import type { ScannedBlock } from "./pack-files.ts";
import { encodeChunkTable } from "./chunk-table.ts";
import { readRecords } from "./record-format.ts";

/**
 * How much was written to each pack, as far as anyone knows: what the index says, what an old index said before it was made anew,
 * or "unknown" when that could not be read.
 */
export type WrittenBytes = "indexed" | "unknown" | ReadonlyMap<string, number>;

/** The store that is checked. */
export interface Checked {
  readonly core: PacksCore;
  readonly blobs: Pick<BlobService, "openRead">;
}

/**
 * Read every block of every pack, decompress it, and hash every chunk in it. What the index names and the packs did not show whole, at the
 * place that the index says, is damaged.
 */
export async function* checkPacks(checked: Checked, written: WrittenBytes, signal: AbortSignal | undefined): AsyncGenerator<StoreCheck, void, undefined> {
  const { core } = checked;
  // Before the files are listed: a pack that another process begins now is then in neither or in the files only.
  const indexed = core.index.packs();
  const ids = new Map(indexed.map(({ name, id }) => [name, id]));
  const expected = new Map(indexed.map(({ name, indexedBytes }) => [name, indexedBytes]));
  if (typeof written !== "string") for (const [name, bytes] of written) expected.set(name, Math.max(bytes, expected.get(name) ?? 0));
  const packs = await core.files.list();
  const totalBytes = packs.reduce((sum, { size }) => sum + size, 0);
  let bytesBefore = 0;
  using seen = core.index.beginCheck();
  yield* checkPresence(expected, packs);
  for (const pathInfo of core.index.lostPathInfos()) {
    yield { type: "damage", message: `store path ${formatStorePath(decodePathInfo(pathInfo).storePath)} was in the old index and is in no pack any more` };
  }
  for (const { name, size } of packs) {
    for await (const block of core.files.scan(name, 0)) {
      core.check({ signal });
      if (block.type === "damage") yield damagedBytes(name, block, written === "unknown" ? undefined : (expected.get(name) ?? 0));
      else yield* checkBlock(checked, name, block, (chunks) => seen.add(ids.get(name) ?? -1, block.offset, chunks));
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

/** What was written must still be there, or nothing that was in it can be told to be missing. */
function* checkPresence(expected: ReadonlyMap<string, number>, packs: readonly { readonly name: string; readonly size: number }[]): Generator<StoreCheck, void, undefined> {
  const sizes = new Map(packs.map(({ name, size }) => [name, size]));
  for (const [name, written] of expected) {
    const size = sizes.get(name);
    if (size === undefined && written > 0) yield { type: "damage", message: `pack "${name}" is not there` };
    else if (size !== undefined && size < written) yield { type: "damage", message: `pack "${name}" is ${size} bytes, of ${written} that were written` };
  }
}

/** @param written bytes of the pack that were once acknowledged; undefined when no one knows */
function damagedBytes(name: string, { offset, end, torn }: ScannedBlock & { type: "damage" }, written: number | undefined): StoreCheck {
  const where = `bytes ${offset} to ${end} of pack "${name}"`;
  if (torn && written === undefined) return { type: "torn", message: `${where} are no whole block: a write that was cut off, or a loss; the old index, which would tell, cannot be read` };
  // Only what was never acknowledged can be a write that was cut off.
  return torn && offset >= (written ?? 0) ? { type: "torn", message: `${where} are an unfinished write; nothing was lost` } : { type: "damage", message: `${where} are damaged` };
}

async function* checkBlock(
  checked: Checked,
  name: string,
  block: ScannedBlock & { type: "block" },
  onGoodChunks: (chunks: readonly { readonly digest: Uint8Array; readonly offset: number }[]) => void,
): AsyncGenerator<StoreCheck, void, undefined> {
  const { core } = checked;
  const where = `the block at byte ${block.offset} of pack "${name}"`;
  try {
    const content = await core.files.decode(name, block);
    // A block that another process has just written is not in the index yet.
    if (block.header.kind === "records" && block.end <= core.index.indexedBytes(name)) yield* checkRecords(checked, content);
    const good: { readonly digest: Uint8Array; readonly offset: number }[] = [];
    let offset = 0;
    for (const { digest, length, isFraming } of block.chunks) {
      if (equalBytes(blake3(content.subarray(offset, offset + length)), digest)) {
        if (isFraming !== true) good.push({ digest, offset });
      } else yield { type: "damage", message: `${where} holds other bytes than ${formatDigest(digest)}`, digest };
      offset += length;
    }
    onGoodChunks(good);
  } catch (error) {
    if (!isNarborError(error)) throw error;
    yield { type: "damage", message: errorMessage(error) };
  }
}

async function* checkRecords({ core, blobs }: Checked, content: Uint8Array): AsyncGenerator<StoreCheck, void, undefined> {
  for (const record of readRecords(content)) {
    if (record.type !== "blob") continue;
    const lost = record.chunks.find(({ digest }) => !core.index.hasChunk(digest));
    if (lost !== undefined) yield { type: "damage", message: `blob ${formatDigest(record.digest)} cannot be read: its chunk ${formatDigest(lost.digest)} is not in the index`, digest: record.digest };
    const indexed = core.index.splitBlob(record.digest);
    // Forgotten when the index was made anew, for what was said above.
    if (indexed === undefined && lost !== undefined) continue;
    if (indexed !== undefined && equalBytes(encodeChunkTable(indexed), encodeChunkTable(record.chunks))) continue;
    // Two clients that came at once may have cut it in two ways; the first counts.
    if (indexed !== undefined && (await isWhole(record.digest, blobs))) continue;
    yield { type: "damage", message: `the index has other chunks for blob ${formatDigest(record.digest)} than its pack`, digest: record.digest };
  }
}

async function isWhole(digest: B3Digest, blobs: Checked["blobs"]): Promise<boolean> {
  try {
    const content = await blobs.openRead(digest);
    for await (const bytes of content ?? []) void bytes;
    return content !== undefined;
  } catch (error) {
    if (!isNarborError(error, "ERR_DATA_LOSS")) throw error;
    return false;
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

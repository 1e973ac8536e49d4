import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { B3Digest } from "../../castore/digest.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

interface SplitBlob {
  readonly digest: B3Digest;
  /** What it was cut into, which was written before. */
  readonly chunks: readonly ChunkEntry[];
  /** What that was written with; the record's is added. */
  readonly groups: Set<Group | undefined>;
}

/** Write down what a blob was cut into. A blob of one chunk is that chunk. */
export function addSplitBlob(core: PacksCore, sink: WriteSink, { digest, chunks, groups }: SplitBlob): void {
  if (chunks.length === 1 || core.index.hasBlob(digest)) return;
  sink.check(groups);
  const size = chunks.reduce((sum, { length }) => sum + length, 0);
  groups.add(core.writer.addRecord({ type: "blob", digest, size, chunks }));
}

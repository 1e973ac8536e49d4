import type { BlobService } from "./blob-service.ts";
import type { CallOptions } from "./call-options.ts";
import type { B3Digest } from "./digest.ts";
import { digestKey } from "./digest.ts";
import { readDirectory } from "./directory-proto.ts";
import type { DirectoryService } from "./directory-service.ts";
import type { Node } from "./node.ts";
import { isNarborError } from "../errors.ts";

/** Where a tree is looked for. */
export interface TreeLookup {
  readonly blobs: Pick<BlobService, "findMissing" | "findsTogether">;
  readonly directories: Pick<DirectoryService, "getClosure">;
}

/** Blobs asked for in one call: many trees may be looked for at once, and each keeps so many digests. */
const DIGESTS_PER_CALL = 8192;

/**
 * Whether a tree is stored with all that is in it: one call for its directories, one for (every 8,192 of) its files. Nothing is read of the files, so one
 * whose bytes were damaged where they lie counts as stored. Where they would have to be asked for one by one, the directories alone are looked for.
 */
export async function isTreeStored(root: Node, { blobs, directories }: TreeLookup, options?: CallOptions): Promise<boolean> {
  const wanted = new Map<string, B3Digest>();
  const areStored = async (): Promise<boolean> => {
    const digests = [...wanted.values()];
    wanted.clear();
    return digests.length === 0 || (await blobs.findMissing(digests, options)).length === 0;
  };
  if (root.type === "file") wanted.set(digestKey(root.digest), root.digest);
  if (root.type !== "directory") return await areStored();
  const looksForFiles = (await blobs.findsTogether?.(options)) ?? true;
  try {
    const closure = await directories.getClosure(root.digest, options);
    if (closure === undefined) return false;
    for await (const { bytes } of closure) {
      for (const { node } of readDirectory(bytes)) if (looksForFiles && node.type === "file") wanted.set(digestKey(node.digest), node.digest);
      if (wanted.size >= DIGESTS_PER_CALL && !(await areStored())) return false;
    }
  } catch (error) {
    // Of a directory below the root that is gone, or that cannot be what was put.
    if (isNarborError(error, "ERR_DATA_LOSS", "ERR_CASTORE_INVALID")) return false;
    throw error;
  }
  return await areStored();
}

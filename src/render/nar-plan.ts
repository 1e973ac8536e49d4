import type { BlobService } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import type { FileNode, Node } from "../castore/node.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError } from "../errors.ts";
import { encodeDirectoryEnd, encodeDirectoryStart, encodeFileEnd, encodeFileStart, encodeSymlink, NAR_MAGIC } from "../nar/nar-encoder.ts";
import type { Tree } from "./tree.ts";
import { loadTree, walkTree } from "./tree.ts";

/** Where a tree is read from. */
export interface TreeServices {
  readonly blobs: Pick<BlobService, "findMissing" | "openRead" | "readMany">;
  readonly directories: Pick<DirectoryService, "getClosure">;
}

/** A NAR that can be rendered: everything it needs was there when it was planned. */
export interface NarPlan {
  readonly tree: Tree;
  /** Bytes. */
  readonly narSize: number;
}

/** A piece of a NAR: bytes as they are, or a file's contents. */
export type NarSegment = Uint8Array | FileNode;

/** Pieces of a NAR counted before the event loop gets a turn. */
const SEGMENTS_PER_TURN = 8192;
/** Blobs asked for in one call. */
const DIGESTS_PER_CALL = 65_536;

/**
 * Look up all that a tree's NAR needs, before anyone is promised it: one call for its directories, one for (every 65,536 of) its files.
 *
 * @throws NarborError ERR_NOT_FOUND when the root is not stored, ERR_DATA_LOSS when something below it is not
 */
export async function planNar(root: Node, services: TreeServices, options?: CallOptions): Promise<NarPlan> {
  const tree = await loadTree(root, services.directories, options);
  const code = root.type === "file" ? "ERR_NOT_FOUND" : "ERR_DATA_LOSS";
  let narSize = 0;
  let digests = new Map<string, B3Digest>();
  const lookUp = async (): Promise<void> => {
    const [missing] = await services.blobs.findMissing([...digests.values()], options);
    if (missing !== undefined) throw new NarborError(code, `Cannot render: blob ${formatDigest(missing)} is not stored`);
    digests = new Map();
  };
  let untilTurn = SEGMENTS_PER_TURN;
  for (const segment of narSegments(tree)) {
    if (untilTurn-- === 0) {
      await nextTurn();
      options?.signal?.throwIfAborted();
      untilTurn = SEGMENTS_PER_TURN;
    }
    if (segment instanceof Uint8Array) {
      narSize += segment.length;
      continue;
    }
    narSize += segment.size;
    digests.set(digestKey(segment.digest), segment.digest);
    if (digests.size >= DIGESTS_PER_CALL) await lookUp();
  }
  if (digests.size > 0) await lookUp();
  return { tree, narSize };
}

/** A NAR's pieces in order. */
export function* narSegments(tree: Tree): Generator<NarSegment, void, undefined> {
  yield NAR_MAGIC;
  for (const step of walkTree(tree)) {
    switch (step.type) {
      case "directory":
        yield encodeDirectoryStart(step.name);
        break;
      case "endDirectory":
        yield encodeDirectoryEnd(step.isRoot);
        break;
      case "symlink":
        yield encodeSymlink(step.name, step.node.target);
        break;
      case "file":
        yield encodeFileStart(step.name, step.node.size, step.node.executable);
        yield step.node;
        yield encodeFileEnd(step.node.size, step.name.length === 0);
        break;
    }
  }
}

/** Whether a file is read together with others, or as a stream of its own. */
export function isSmallFile(file: FileNode): boolean {
  return file.size <= SMALL_BLOB_LIMIT;
}

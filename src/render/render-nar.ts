/** castore to NAR. */
import type { BlobRef } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import type { Node } from "../castore/node.ts";
import { encodeDirectoryEnd, encodeDirectoryStart, encodeFileEnd, encodeFileStart, encodeSymlink, NAR_MAGIC } from "../nar/nar-encoder.ts";
import type { ReadBlobs, RenderPlan } from "./segments.ts";
import { planSegments } from "./segments.ts";
import type { Tree } from "./tree.ts";
import { loadTree, walkTree } from "./tree.ts";

/** Where a tree is read from. */
export interface TreeServices {
  readonly blobs: ReadBlobs;
  readonly directories: Pick<DirectoryService, "getClosure">;
}

/**
 * Look up all that a tree's NAR needs, before anyone is promised it: one call for its directories, one for (every 65,536 of) its files.
 *
 * @throws NarborError ERR_NOT_FOUND when the root is not stored, ERR_DATA_LOSS when something below it is not
 */
export async function planNar(root: Node, services: TreeServices, options?: CallOptions): Promise<RenderPlan> {
  return await planTree(await loadTree(root, services.directories, options), services, options);
}

/** The same of a tree whose directories are loaded. */
export async function planTree(tree: Tree, { blobs }: Pick<TreeServices, "blobs">, options?: CallOptions): Promise<RenderPlan> {
  return await planSegments(() => narSegments(tree), blobs, tree.root.type === "file" ? "ERR_NOT_FOUND" : "ERR_DATA_LOSS", options);
}

/** The pieces of a tree's NAR. */
export function* narSegments(tree: Tree): Generator<Uint8Array | BlobRef, void, undefined> {
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

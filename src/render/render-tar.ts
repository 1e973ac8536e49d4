/** castore to tar: the same trees give the same bytes on every machine. */
import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import type { Segment } from "../castore/recipe.ts";
import { TAR_END, encodeTarHeader, tarPadding } from "../tar/tar-encoder.ts";
import type { TreeServices } from "./render-nar.ts";
import type { RenderPlan } from "./segments.ts";
import { planSegments } from "./segments.ts";
import type { Tree } from "./tree.ts";
import { loadTree, walkTree } from "./tree.ts";

/** A tree and where it goes. */
export interface PlacedTree {
  readonly root: Node;
  /** Where its root is in the archive, such as `nix/store/…-hello`. Empty for the archive's own root; a tree that is no directory is called `file` there. */
  readonly path: string;
}

/** As in a Nix store: no one may write. What leads there is someone else's. */
const MODE = { directory: 0o555, file: 0o444, executable: 0o555, symlink: 0o777, above: 0o755 } as const;
const SLASH = Buffer.from("/");

/**
 * Look up all that an archive of some trees needs. Entries are sorted, of the year 1970 and user 0, and the directories above each tree come before it.
 *
 * @param trees in the order in which they are to be
 * @throws NarborError ERR_NOT_FOUND when a root is not stored, ERR_DATA_LOSS when something below it is not
 */
export async function planTar(trees: readonly PlacedTree[], services: TreeServices, options?: CallOptions): Promise<RenderPlan> {
  const loaded: { readonly tree: Tree; readonly path: string }[] = [];
  for (const { root, path } of trees) loaded.push({ tree: await loadTree(root, services.directories, options), path });
  return await planSegments(() => tarSegments(loaded), services.blobs, "ERR_DATA_LOSS", options);
}

function* tarSegments(trees: readonly { readonly tree: Tree; readonly path: string }[]): Generator<Segment, void, undefined> {
  const above = new Set<string>();
  for (const { tree, path } of trees) {
    const components = path.split("/");
    for (let length = 1; length < components.length; length++) {
      const parent = components.slice(0, length).join("/");
      if (above.has(parent)) continue;
      above.add(parent);
      yield encodeTarHeader({ kind: "directory", path: Buffer.from(parent), mode: MODE.above });
    }
    yield* treeSegments(tree, Buffer.from(path));
  }
  yield TAR_END;
}

function* treeSegments(tree: Tree, rootPath: Buffer): Generator<Segment, void, undefined> {
  const parents: Buffer[] = [];
  for (const step of walkTree(tree)) {
    if (step.type === "endDirectory") {
      parents.pop();
      continue;
    }
    const parent = parents.at(-1);
    const path = parent === undefined ? rootPath : parent.length === 0 ? Buffer.from(step.name) : Buffer.concat([parent, SLASH, step.name]);
    switch (step.type) {
      case "directory":
        if (path.length > 0) yield encodeTarHeader({ kind: "directory", path, mode: MODE.directory });
        parents.push(path);
        break;
      case "symlink":
        yield encodeTarHeader({ kind: "symlink", path: nameOf(path), mode: MODE.symlink, linkTarget: step.node.target });
        break;
      case "file": {
        const { size, executable } = step.node;
        yield encodeTarHeader({ kind: "file", path: nameOf(path), size, mode: executable ? MODE.executable : MODE.file });
        yield step.node;
        yield tarPadding(size);
        break;
      }
    }
  }
}

/** A file that is all there is has no name of its own. */
function nameOf(path: Buffer): Uint8Array {
  return path.length === 0 ? Buffer.from("file") : path;
}

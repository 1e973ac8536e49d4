import type { CallOptions } from "../castore/call-options.ts";
import type { B3Digest } from "../castore/digest.ts";
import { digestKey, formatDigest } from "../castore/digest.ts";
import type { Entry } from "../castore/directory.ts";
import { readDirectory } from "../castore/directory-proto.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import type { DirectoryNode, FileNode, Node, SymlinkNode } from "../castore/node.ts";
import { NarborError } from "../errors.ts";
import { MAX_DEPTH } from "../nar/nar-event.ts";

/** A whole tree's directories in memory, as their messages: what is needed to walk it any number of times without asking again. */
export interface Tree {
  readonly root: Node;
  readonly directories: ReadonlyMap<string, Uint8Array>;
}

/** Read a tree's directories, all of them, in one call. @throws NarborError ERR_NOT_FOUND when its root is not stored */
export async function loadTree(root: Node, directories: Pick<DirectoryService, "getClosure">, options?: CallOptions): Promise<Tree> {
  const loaded = new Map<string, Uint8Array>();
  if (root.type === "directory") {
    const closure = await directories.getClosure(root.digest, options);
    if (closure === undefined) throw new NarborError("ERR_NOT_FOUND", `Cannot read directory ${formatDigest(root.digest)}: it is not stored`);
    for await (const { digest, bytes } of closure) loaded.set(digestKey(digest), bytes);
  }
  return { root, directories: loaded };
}

/** About how much memory a tree takes, in bytes. */
export function treeBytes({ directories }: Tree): number {
  let bytes = ROW_BYTES;
  for (const message of directories.values()) bytes += message.length + ROW_BYTES;
  return bytes;
}

/** A step of a walk: a node where it begins, or the end of a directory. `name` is empty for the root. */
export type TreeStep =
  | { readonly type: "directory"; readonly name: Uint8Array; readonly node: DirectoryNode }
  | { readonly type: "endDirectory"; readonly isRoot: boolean }
  | { readonly type: "file"; readonly name: Uint8Array; readonly node: FileNode }
  | { readonly type: "symlink"; readonly name: Uint8Array; readonly node: SymlinkNode };

/** What a directory takes beside its message. */
const ROW_BYTES = 256;
const NO_NAME = new Uint8Array(0);

/** Every node of a tree in the order of a NAR. @throws NarborError ERR_CASTORE_INVALID for a tree that is deeper than a NAR may be */
export function* walkTree(tree: Tree): Generator<TreeStep, void, undefined> {
  const open: Iterator<Entry>[] = [];
  let entry: Entry | undefined = { name: NO_NAME, node: tree.root };
  for (;;) {
    if (entry !== undefined) {
      const { name, node }: Entry = entry;
      if (node.type === "file") yield { type: "file", name, node };
      else if (node.type === "symlink") yield { type: "symlink", name, node };
      else {
        if (open.length >= MAX_DEPTH) throw new NarborError("ERR_CASTORE_INVALID", `Cannot render: the tree is deeper than ${MAX_DEPTH}`);
        yield { type: "directory", name, node };
        open.push(readDirectory(directoryMessage(tree, node.digest)));
      }
    }
    const parent = open.at(-1);
    if (parent === undefined) return;
    const result = parent.next();
    entry = result.done === true ? undefined : result.value;
    if (entry === undefined) {
      open.pop();
      yield { type: "endDirectory", isRoot: open.length === 0 };
    }
  }
}

function directoryMessage(tree: Tree, digest: B3Digest): Uint8Array {
  const bytes = tree.directories.get(digestKey(digest));
  if (bytes === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)}: it did not come with its tree`);
  return bytes;
}

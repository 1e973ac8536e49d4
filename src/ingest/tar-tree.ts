import { DirectoryStack } from "./directory-stack.ts";
import type { Node } from "../castore/node.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import { isPathComponent, isSymlinkTarget } from "../castore/path-component.ts";
import type { DirectorySizeProfile } from "../castore/directory.ts";
import { NarborError } from "../errors.ts";

/** What an entry is to a tree. `nothing` is what castore cannot hold, such as a device: it only takes the place of what was there. */
export type TarTreeEntry = Node | "directory" | "nothing";

/** Names of a directory, one UTF-16 unit a byte, and what they are. */
type Branch = Map<string, Node | Branch>;

/** Components of a path. */
const MAX_DEPTH = 256;
const NO_NAME = new Uint8Array(0);

/**
 * The tree of an archive whose entries come in any order, some of them more than once: the last one counts, as it does for whoever unpacks it.
 * Only directories, files and symlinks are in a castore tree. A path through a symlink of the archive makes a directory of that: nothing is followed.
 */
export class TarTree {
  readonly #root: Branch = new Map();
  readonly #maxEntries: number;
  #entries = 0;

  /** @param maxEntries most entries, directories that are only named by what is in them included; more is ERR_LIMIT */
  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  /**
   * @param path as the archive has it: `/` at its beginning and `.` mean nothing, `..` the directory above
   * @throws NarborError ERR_TAR_INVALID for a path that leads out of the archive, or that castore cannot hold
   */
  add(path: Uint8Array, node: TarTreeEntry): void {
    if (typeof node === "object" && node.type === "symlink" && !isSymlinkTarget(node.target)) throw invalid(path, "is a symlink whose target no symlink may have");
    const components = split(path);
    const name = components.pop();
    if (name === undefined) {
      // The archive's own root.
      if (node !== "directory") throw invalid(path, "is the root, and no directory");
      return;
    }
    let parent = this.#root;
    for (const component of components) parent = this.#enter(parent, component);
    if (node === "directory") this.#enter(parent, name);
    else if (node === "nothing") parent.delete(name);
    else {
      if (!parent.has(name)) this.#count();
      parent.set(name, node);
    }
  }

  /** A file or symlink that has come already. */
  find(path: Uint8Array): Node | undefined {
    let found: Node | Branch | undefined = this.#root;
    for (const component of split(path)) {
      if (!(found instanceof Map)) return undefined;
      found = found.get(component);
    }
    return found instanceof Map ? undefined : found;
  }

  /** Encode and name all directories. @throws NarborError ERR_LIMIT */
  finish(profile: DirectorySizeProfile, maxDirectoryBytes: number): DirectoryStack {
    const stack = new DirectoryStack(profile, maxDirectoryBytes);
    stack.enter(NO_NAME);
    addAll(this.#root, stack);
    stack.leave();
    return stack;
  }

  #enter(parent: Branch, name: string): Branch {
    const found = parent.get(name);
    if (found instanceof Map) return found;
    if (found === undefined) this.#count();
    const branch: Branch = new Map();
    parent.set(name, branch);
    return branch;
  }

  #count(): void {
    if (++this.#entries > this.#maxEntries) throw new NarborError("ERR_LIMIT", `Cannot ingest: the archive has more than ${this.#maxEntries} entries`);
  }
}

function addAll(branch: Branch, stack: DirectoryStack): void {
  // By bytes, which the units are.
  for (const key of [...branch.keys()].sort(compareUnits)) {
    const node = branch.get(key) as Node | Branch;
    const name = Buffer.from(key, "latin1");
    if (!(node instanceof Map)) {
      stack.add(name, node);
      continue;
    }
    stack.enter(name);
    addAll(node, stack);
    stack.leave();
  }
}

function compareUnits(a: string, b: string): number {
  return a < b ? -1 : 1;
}

function split(path: Uint8Array): string[] {
  const components: string[] = [];
  for (const component of Buffer.from(path.buffer, path.byteOffset, path.length).toString("latin1").split("/")) {
    if (component === "" || component === ".") continue;
    if (component !== "..") {
      if (!isPathComponent(Buffer.from(component, "latin1"))) throw invalid(path, "has a component that no file may have as its name");
      components.push(component);
      if (components.length > MAX_DEPTH) throw invalid(path, `is deeper than ${MAX_DEPTH}`);
    } else if (components.pop() === undefined) throw invalid(path, "leads out of the archive");
  }
  return components;
}

function invalid(path: Uint8Array, what: string): NarborError {
  return new NarborError("ERR_TAR_INVALID", `Cannot ingest tar: path ${quoteBytes(path.subarray(0, 200))} ${what}`);
}

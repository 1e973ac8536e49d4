import { DirectoryStack } from "./directory-stack.ts";
import type { Node } from "../castore/node.ts";
import { asBuffer } from "../bytes/as-buffer.ts";
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
  #lastDirectory: { readonly path: string; readonly branch: Branch } | undefined;

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
    const place = this.#place(path);
    if (place === undefined) {
      // The archive's own root.
      if (node !== "directory") throw invalid(path, "is the root, and no directory");
      return;
    }
    const { parent, name } = place;
    if (node === "directory") {
      this.#enter(parent, name);
      return;
    }
    const found = parent.get(name);
    // Whatever was in it is not in the tree any more.
    if (found instanceof Map) this.#lastDirectory = undefined;
    if (node === "nothing") parent.delete(name);
    else {
      if (found === undefined) this.#count();
      parent.set(name, node);
    }
  }

  /** A file or symlink that has come already. */
  find(path: Uint8Array): Node | undefined {
    let found: Node | Branch | undefined = this.#root;
    for (const component of split(latin1(path), path)) {
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

  /** The directory that an entry is in, and its name there; undefined for the root. */
  #place(path: Uint8Array): { readonly parent: Branch; readonly name: string } | undefined {
    const text = latin1(path);
    const slash = text.lastIndexOf("/");
    const last = text.slice(slash + 1);
    if (slash === -1 || last === "" || last === "." || last === "..") {
      const components = split(text, path);
      const name = components.pop();
      return name === undefined ? undefined : { parent: this.#enterAll(components), name };
    }
    checkComponent(last, path);
    // Those of one directory mostly come in a row.
    const directory = text.slice(0, slash);
    if (this.#lastDirectory?.path !== directory) {
      const components = split(directory, path);
      if (components.length === MAX_DEPTH) throw tooDeep(path);
      this.#lastDirectory = { path: directory, branch: this.#enterAll(components) };
    }
    return { parent: this.#lastDirectory.branch, name: last };
  }

  #enterAll(components: readonly string[]): Branch {
    return components.reduce((parent, component) => this.#enter(parent, component), this.#root);
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

/** @param path that of the entry, for errors */
function split(text: string, path: Uint8Array): string[] {
  const components: string[] = [];
  for (const component of text.split("/")) {
    if (component === "" || component === ".") continue;
    if (component !== "..") {
      checkComponent(component, path);
      components.push(component);
      if (components.length > MAX_DEPTH) throw tooDeep(path);
    } else if (components.pop() === undefined) throw invalid(path, "leads out of the archive");
  }
  return components;
}

function checkComponent(component: string, path: Uint8Array): void {
  if (!isPathComponent(Buffer.from(component, "latin1"))) throw invalid(path, "has a component that no file may have as its name");
}

function latin1(path: Uint8Array): string {
  return asBuffer(path).toString("latin1");
}

function tooDeep(path: Uint8Array): NarborError {
  return invalid(path, `is deeper than ${MAX_DEPTH}`);
}

function invalid(path: Uint8Array, what: string): NarborError {
  return new NarborError("ERR_TAR_INVALID", `Cannot ingest tar: path ${quoteBytes(path.subarray(0, 200))} ${what}`);
}

/**
 * A NAR encoder that shares nothing with src/nar: written from the grammar, for tests to compare with.
 */

/** A tree as tests write it. A directory's entries are in the order in which they are to be written. */
export type Tree =
  | { readonly type: "file"; readonly bytes: Uint8Array; readonly executable?: boolean }
  | { readonly type: "symlink"; readonly target: Uint8Array }
  | { readonly type: "directory"; readonly entries: readonly (readonly [name: Uint8Array, tree: Tree])[] };

/** `str(s)`. */
export function str(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, Buffer.alloc(Math.ceil(bytes.length / 8) * 8 - bytes.length)]);
}

/** A `str` by its contents, or bytes that go in as they are. */
export type Part = string | Uint8Array | Raw;

/** Several `str` in a row. */
export function strs(...values: readonly Part[]): Buffer {
  return Buffer.concat(values.map((value) => (value instanceof Raw ? value.bytes : str(value))));
}

class Raw {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** Bytes that are to stand in a NAR as they are. */
export function raw(bytes: Uint8Array): Raw {
  return new Raw(bytes);
}

/** A length field alone, of any value. */
export function length(value: bigint | number): Raw {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return new Raw(bytes);
}

/** The NAR of a tree. */
export function referenceNar(tree: Tree): Uint8Array {
  return new Uint8Array(Buffer.concat([str("nix-archive-1"), node(tree)]));
}

function node(tree: Tree): Buffer {
  switch (tree.type) {
    case "file":
      return strs("(", "type", "regular", ...(tree.executable === true ? ["executable", ""] : []), "contents", tree.bytes, ")");
    case "symlink":
      return strs("(", "type", "symlink", "target", tree.target, ")");
    case "directory":
      return Buffer.concat([
        strs("(", "type", "directory"),
        ...tree.entries.map(([name, child]) => Buffer.concat([strs("entry", "(", "name", name, "node"), node(child), str(")")])),
        str(")"),
      ]);
  }
}

/** A file of a tree. */
export function file(contents: string | Uint8Array, executable = false): Tree {
  return { type: "file", bytes: Buffer.from(contents as string), executable };
}

/** A symlink of a tree. */
export function symlink(target: string): Tree {
  return { type: "symlink", target: Buffer.from(target) };
}

/** A directory of a tree, its entries in the order of their names' bytes. */
export function directory(entries: Readonly<Record<string, Tree>>): Tree {
  const sorted = Object.entries(entries).map(([name, tree]) => [Buffer.from(name), tree] as const);
  return { type: "directory", entries: sorted.sort(([a], [b]) => Buffer.compare(a, b)) };
}

import { describe, expect, test } from "vitest";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { toHex } from "../../src/bytes/text-encoding.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import type { TarTreeEntry } from "../../src/ingest/tar-tree.ts";
import { TarTree } from "../../src/ingest/tar-tree.ts";

const fileOf = (text: string, executable = false): Node => {
  const { digest, size } = toSmallBlob(Buffer.from(text));
  return { type: "file", digest, size, executable };
};
const linkTo = (target: string): Node => ({ type: "symlink", target: Buffer.from(target) });
const bytesOf = (path: string): Uint8Array => Buffer.from(path, "latin1");

const A = fileOf("a");
const B = fileOf("b");

function treeOf(entries: readonly (readonly [path: string, entry: TarTreeEntry])[], maxEntries = 100): TarTree {
  const tree = new TarTree(maxEntries);
  for (const [path, entry] of entries) tree.add(bytesOf(path), entry);
  return tree;
}

type Found = readonly [path: string, what: string];

function describeEntry(entry: TarTreeEntry): string {
  if (typeof entry === "string") return entry;
  return entry.type === "symlink" ? `symlink to ${Buffer.from(entry.target).toString()}` : `${entry.type} ${toHex(entry.digest)}`;
}

/** Every path of a finished tree and what is there, in the order of its messages. */
function pathsOf(tree: TarTree): Found[] {
  const stack = tree.finish("documented", 1e6);
  const messages = new Map(stack.takeFinished().map((message) => [toHex(blake3(message)), message]));
  const walk = (node: Node, path: string): Found[] => {
    if (node.type !== "directory") return [[path, describeEntry(node)]];
    const entries = [...decodeDirectory(messages.get(toHex(node.digest)) as Uint8Array)];
    const below = entries.flatMap((entry) => walk(entry.node, `${path === "" ? "" : `${path}/`}${Buffer.from(entry.name).toString("latin1")}`));
    return path === "" ? below : [[path, "directory"], ...below];
  };
  return walk(stack.root, "");
}

function expectPaths(tree: TarTree, paths: readonly (readonly [string, TarTreeEntry])[]): void {
  expect(pathsOf(tree)).toEqual(paths.map(([path, entry]) => [path, describeEntry(entry)]));
}

describe("TarTree", () => {
  test("has directories that are only named by what is in them, and empty ones", () => {
    expectPaths(treeOf([["a/b/c", A], ["empty/", "directory"]]), [["a", "directory"], ["a/b", "directory"], ["a/b/c", A], ["empty", "directory"]]);
    expectPaths(treeOf([]), []);
  });

  test.for(["a", "./a", "/a", "//a", "./././a", "a/", "a/.", "b/../a", "./b/c/../../a"])("takes %j for a", (path) => {
    expectPaths(treeOf([[path, A]]), [["a", A]]);
  });

  test.for<readonly [string, readonly (readonly [string, TarTreeEntry])[], readonly (readonly [string, TarTreeEntry])[]]>([
    ["a file for a file", [["x", A], ["x", B]], [["x", B]]],
    ["a directory for a file", [["x", A], ["x", "directory"]], [["x", "directory"]]],
    ["a file for a directory and all that is in it", [["x/y/z", A], ["x", B]], [["x", B]]],
    ["what is in it for a file", [["x", A], ["x/y", B]], [["x", "directory"], ["x/y", B]]],
    ["what is in it for a symlink, which is not followed", [["y", "directory"], ["x", linkTo("y")], ["x/z", B]], [["x", "directory"], ["x/z", B], ["y", "directory"]]],
    ["a symlink for a file", [["x", A], ["x", linkTo("y")]], [["x", linkTo("y")]]],
    ["nothing for a file", [["x", A], ["y", B], ["x", "nothing"]], [["y", B]]],
    ["nothing for a directory and all that is in it", [["x/y", A], ["x", "nothing"]], []],
    ["what comes after a directory was replaced", [["x/y/z", A], ["x", B], ["x/y/w", A]], [["x", "directory"], ["x/y", "directory"], ["x/y/w", A]]],
    ["what comes after a directory was taken away", [["x/y/z", A], ["x/y", "nothing"], ["x/y/w", A]], [["x", "directory"], ["x/y", "directory"], ["x/y/w", A]]],
    ["a directory for itself", [["x/y", A], ["x", "directory"], ["./", "directory"]], [["x", "directory"], ["x/y", A]]],
  ])("has what comes last: %s", ([, entries, paths]) => {
    expectPaths(treeOf(entries), paths);
  });

  test("has the directories above what castore cannot hold", () => {
    expectPaths(treeOf([["dev/null", "nothing"]]), [["dev", "directory"]]);
  });

  test("sorts names by their bytes", () => {
    const names = ["b", "a", "\xff", "a.b", "a-b", "a0", "A", "\xc3\xbc", "__proto__", "constructor"];
    const sorted = names.toSorted((x, y) => Buffer.compare(Buffer.from(x, "latin1"), Buffer.from(y, "latin1")));
    expectPaths(treeOf(names.map((name) => [name, A] as const)), sorted.map((name) => [name, A]));
    expectPaths(treeOf(names.map((name) => [name, "directory"] as const)), sorted.map((name) => [name, "directory"]));
  });

  test("finds files and symlinks that have come, as they are now", () => {
    const tree = treeOf([["a/b", A], ["c", linkTo("a/b")]]);
    expect(tree.find(bytesOf("./a/b"))).toBe(A);
    expect(tree.find(bytesOf("/c"))).toEqual(linkTo("a/b"));
    for (const path of ["a", "", "a/b/c", "none", "none/x"]) expect(tree.find(bytesOf(path)), path).toBeUndefined();
    tree.add(bytesOf("a/b"), B);
    expect(tree.find(bytesOf("a/b"))).toBe(B);
    tree.add(bytesOf("a"), "nothing");
    expect(tree.find(bytesOf("a/b"))).toBeUndefined();
  });

  test.for<readonly [string, TarTreeEntry, string]>([
    ["..", A, 'path ".." leads out of the archive'],
    ["a/../../b", A, 'path "a/../../b" leads out of the archive'],
    ["../dev/null", "nothing", 'path "../dev/null" leads out of the archive'],
    ["/..", "directory", 'path "/.." leads out of the archive'],
    ["", A, 'path "" is the root, and no directory'],
    ["a/..", linkTo("x"), 'path "a/.." is the root, and no directory'],
    ["./", "nothing", 'path "./" is the root, and no directory'],
    ["a\0b", A, "has a component that no file may have as its name"],
    ["n".repeat(256), A, "has a component that no file may have as its name"],
    ["d/".repeat(256) + "a", A, "is deeper than 256"],
    ["a", linkTo(""), "is a symlink whose target no symlink may have"],
    ["a", linkTo("t".repeat(4_096)), "is a symlink whose target no symlink may have"],
  ])("refuses %j", ([path, entry, message]) => {
    expect(() => treeOf([[path, entry]])).toThrow(expect.objectContaining({ code: "ERR_TAR_INVALID", message: expect.stringContaining(message) as string }));
  });

  test("takes names and paths that are as long as they may be", () => {
    expect(pathsOf(treeOf([["n".repeat(255), A], ["d/".repeat(255) + "a", B]], 300))).toHaveLength(257);
  });

  test("counts every entry once, and the directories that are only named", () => {
    expect(pathsOf(treeOf([["a/b", A], ["a/c", A], ["a", "directory"], ["a/b", B]], 3))).toHaveLength(3);
    expect(() => treeOf([["a/b", A], ["a/c", A], ["d", A]], 3)).toThrow(expect.objectContaining({ code: "ERR_LIMIT" }));
    expect(() => treeOf([["a/b/c/d", A]], 3)).toThrow(expect.objectContaining({ code: "ERR_LIMIT" }));
  });

  test("keeps to the limit of what its directories take", () => {
    const tree = treeOf(Array.from({ length: 100 }, (_, index) => [`directory ${index}/file ${index}`, A] as const), 200);
    expect(() => tree.finish("documented", 50_000)).toThrow(expect.objectContaining({ code: "ERR_LIMIT" }));
    expect(tree.finish("documented", 500_000).takeFinished()).toHaveLength(101);
  });
});

import type { TestDirectory } from "./castore.ts";
import { directoryOf, symlinkNode } from "./castore.ts";

/** A root that holds `count` directories, all distinct, each with `entries` symlinks whose targets are long: about 4 KiB an entry. Leaves to root. */
export function largeClosure(count: number, entries: number): readonly TestDirectory[] {
  const leaves = Array.from({ length: count }, (_, leaf) =>
    directoryOf(Object.fromEntries(Array.from({ length: entries }, (_, entry) => [`link ${entry}`, symlinkNode(`${leaf} ${entry} ${"x".repeat(4000)}`)]))),
  );
  return [...leaves, parentOf(leaves)];
}

/** A tree of three levels, of `width` directories that hold `width` each, all distinct. Leaves to root. */
export function wideClosure(width: number): readonly TestDirectory[] {
  const closure: TestDirectory[] = [];
  const middle = Array.from({ length: width }, (_, outer) => {
    const leaves = Array.from({ length: width }, (_, inner) => directoryOf({ x: symlinkNode(`${outer}/${inner}`) }));
    const parent = parentOf(leaves);
    closure.push(...leaves, parent);
    return parent;
  });
  return [...closure, parentOf(middle)];
}

function parentOf(children: readonly TestDirectory[]): TestDirectory {
  return directoryOf(Object.fromEntries(children.map((child, index) => [String(index).padStart(6, "0"), child])));
}

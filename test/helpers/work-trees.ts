import { sampleBytes } from "./bytes.ts";
import type { Tree } from "./reference-nar.ts";
import { directory, file, symlink } from "./reference-nar.ts";

/** The tree of a piece of work: some of it shared with every other, some with those of the same number, some its own. */
export function treeOfWork(seed: number, number: number): Tree {
  return directory({
    shared: directory({ license: file("the same everywhere"), link: symlink("license") }),
    numbered: directory({ n: file(`number ${number}`), large: file(sampleBytes(200_000, number)) }),
    own: file(sampleBytes(1_000, seed * 1_000 + number)),
  });
}

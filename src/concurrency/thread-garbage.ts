/**
 * Memory that a thread was given, by a native codec or by another thread, and that is garbage soon. V8 collects new objects when there are many of
 * them: those that hold 128 KiB each are as small as others, and a thread that does nothing else lets tens of megabytes come together (docs/decisions/0024).
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** So much is collected at once: it takes a fraction of a millisecond, and a codec two to ten to give as much. */
const MAX_BYTES = 2 * 1024 * 1024;

type CollectGarbage = (options: { readonly type: "minor" }) => void;

let bytes = 0;
let collect: CollectGarbage | undefined;

/** So many bytes are of no more use. */
export function countGarbage(length: number): void {
  bytes += length;
}

/** To be called between two pieces of work. */
export function collectGarbage(): void {
  if (bytes < MAX_BYTES) return;
  bytes = 0;
  collect ??= findCollector();
  collect({ type: "minor" });
}

function findCollector(): CollectGarbage {
  // Contexts that are made from now on have it.
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as CollectGarbage;
}

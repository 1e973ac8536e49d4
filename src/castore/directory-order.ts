import { blake3 } from "../hash/blake3.ts";
import { NarborError } from "../errors.ts";
import type { B3Digest } from "./digest.ts";
import { digestFromKey, digestKey, formatDigest, toB3Digest } from "./digest.ts";
import { SIZE_PER_ENTRY } from "./directory.ts";
import { readDirectory } from "./directory-proto.ts";

/** A directory with its name and the bytes that give it. */
export interface NamedDirectory {
  readonly digest: B3Digest;
  /** The canonical message. */
  readonly bytes: Uint8Array;
}

interface SeenDirectory {
  /** The sizes that a pointer to it may give, one for each profile, of its children as they were sent. */
  readonly documented: number;
  readonly doubled: number;
  pointedTo: boolean;
}

/**
 * Checks a closure of directories that comes leaves to root: every child was sent earlier in this stream, its size is right in
 * either profile, and at the end there is one root. What a store already holds does not count. Sending one twice is tolerated.
 */
export class ClosureValidator {
  readonly #seen = new Map<string, SeenDirectory>();
  #unpointed = 0;
  #last: string | undefined;

  /**
   * Check the next directory.
   *
   * @returns it with its digest, or undefined when it was sent before
   * @throws NarborError ERR_CASTORE_INVALID
   */
  add(bytes: Uint8Array): NamedDirectory | undefined {
    const digest = toB3Digest(blake3(bytes));
    const key = digestKey(digest);
    this.#last = key;
    if (this.#seen.has(key)) return undefined;
    const { count, childSizes } = this.#checkChildren(digest, bytes);
    this.#seen.set(key, {
      documented: count * SIZE_PER_ENTRY.documented + childSizes,
      doubled: count * SIZE_PER_ENTRY.doubled + childSizes,
      pointedTo: false,
    });
    this.#unpointed++;
    return { digest, bytes };
  }

  /** The root's digest, when everything sent hangs from it. @throws NarborError ERR_CASTORE_INVALID */
  finish(): B3Digest {
    if (this.#last === undefined) throw invalid("no directory was sent");
    if (this.#unpointed !== 1) throw invalid(`found ${this.#unpointed} directories that no other one holds, expected one root`);
    if (this.#seen.get(this.#last)?.pointedTo !== false) throw invalid("the root is not the last directory");
    return digestFromKey(this.#last);
  }

  #checkChildren(digest: B3Digest, bytes: Uint8Array): { readonly count: number; readonly childSizes: number } {
    let count = 0;
    let childSizes = 0;
    for (const { node } of readDirectory(bytes)) {
      count++;
      if (node.type !== "directory") continue;
      const child = this.#seen.get(digestKey(node.digest));
      if (child === undefined) throw invalid(`${formatDigest(digest)} holds ${formatDigest(node.digest)}, which was not sent before it`);
      if (node.size !== child.documented && node.size !== child.doubled) {
        throw invalid(
          `${formatDigest(digest)} says that ${formatDigest(node.digest)} has size ${node.size}, found ${child.documented} (or ${child.doubled})`,
        );
      }
      if (!child.pointedTo) {
        child.pointedTo = true;
        this.#unpointed--;
      }
      childSizes += node.size;
    }
    if (!Number.isSafeInteger(childSizes)) throw invalid(`${formatDigest(digest)} is larger than 2^53`);
    return { count, childSizes };
  }
}

function invalid(what: string): NarborError {
  return new NarborError("ERR_CASTORE_INVALID", `Cannot store directories: ${what}`);
}

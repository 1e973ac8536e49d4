import { copyBytes } from "../bytes/collect.ts";
import { blake3 } from "../hash/blake3.ts";
import { NarborError } from "../errors.ts";
import type { B3Digest } from "./digest.ts";
import { formatDigest, toB3Digest } from "./digest.ts";
import { DigestTable } from "./digest-table.ts";
import { SIZE_PER_ENTRY } from "./directory.ts";
import { readDirectory } from "./directory-proto.ts";

/** A directory with its name and the bytes that give it. */
export interface NamedDirectory {
  readonly digest: B3Digest;
  /** The canonical message. */
  readonly bytes: Uint8Array;
}

/** What is kept of so many directories in a row, in typed arrays: a closure may have millions. */
const DIRECTORIES_PER_PAGE = 256;

class SeenPage {
  /** The sizes that a pointer to each may give, one for each profile, of its children as they were sent. */
  readonly documented = new Float64Array(DIRECTORIES_PER_PAGE);
  readonly doubled = new Float64Array(DIRECTORIES_PER_PAGE);
  /** 1 for those that another one holds. */
  readonly pointedTo = new Uint8Array(DIRECTORIES_PER_PAGE);
}

/**
 * Checks a closure of directories that comes leaves to root: every child was sent earlier in this stream, its size is right in
 * either profile, and at the end there is one root. What a store already holds does not count. Sending one twice is tolerated.
 * Keeps about 60 bytes of each.
 */
export class ClosureValidator {
  readonly #digests = new DigestTable();
  readonly #pages: SeenPage[] = [];
  #unpointed = 0;
  /** Index of the one that was sent last. */
  #last: number | undefined;

  /** Those that `add` gave, in that order. */
  get digests(): Pick<DigestTable, "size" | "at"> {
    return this.#digests;
  }

  /**
   * Check the next directory.
   *
   * @returns it with its digest, or undefined when it was sent before
   * @throws NarborError ERR_CASTORE_INVALID
   */
  add(bytes: Uint8Array): NamedDirectory | undefined {
    const digest = toB3Digest(blake3(bytes));
    const earlier = this.#digests.indexOf(digest);
    this.#last = earlier ?? this.#digests.size;
    if (earlier !== undefined) return undefined;
    const { count, childSizes } = this.#checkChildren(digest, bytes);
    const { index } = this.#digests.add(digest);
    if (index % DIRECTORIES_PER_PAGE === 0) this.#pages.push(new SeenPage());
    const { page, at } = this.#place(index);
    page.documented[at] = count * SIZE_PER_ENTRY.documented + childSizes;
    page.doubled[at] = count * SIZE_PER_ENTRY.doubled + childSizes;
    this.#unpointed++;
    return { digest, bytes };
  }

  /** The root's digest, when everything sent hangs from it. @throws NarborError ERR_CASTORE_INVALID */
  finish(): B3Digest {
    if (this.#last === undefined) throw invalid("no directory was sent");
    if (this.#unpointed !== 1) throw invalid(`found ${this.#unpointed} directories that no other one holds, expected one root`);
    const { page, at } = this.#place(this.#last);
    if (page.pointedTo[at] !== 0) throw invalid("the root is not the last directory");
    return toB3Digest(copyBytes(this.#digests.at(this.#last)));
  }

  #checkChildren(digest: B3Digest, bytes: Uint8Array): { readonly count: number; readonly childSizes: number } {
    let count = 0;
    let childSizes = 0;
    for (const { node } of readDirectory(bytes)) {
      count++;
      if (node.type !== "directory") continue;
      const child = this.#digests.indexOf(node.digest);
      if (child === undefined) throw invalid(`${formatDigest(digest)} holds ${formatDigest(node.digest)}, which was not sent before it`);
      const { page, at } = this.#place(child);
      if (node.size !== page.documented[at] && node.size !== page.doubled[at]) {
        throw invalid(
          `${formatDigest(digest)} says that ${formatDigest(node.digest)} has size ${node.size}, found ${page.documented[at]} (or ${page.doubled[at]})`,
        );
      }
      if (page.pointedTo[at] === 0) {
        page.pointedTo[at] = 1;
        this.#unpointed--;
      }
      childSizes += node.size;
    }
    if (!Number.isSafeInteger(childSizes)) throw invalid(`${formatDigest(digest)} is larger than 2^53`);
    return { count, childSizes };
  }

  /** Where what is known of the directory of that index is kept. */
  #place(index: number): { readonly page: SeenPage; readonly at: number } {
    return { page: this.#pages[Math.floor(index / DIRECTORIES_PER_PAGE)] as SeenPage, at: index % DIRECTORIES_PER_PAGE };
  }
}

function invalid(what: string): NarborError {
  return new NarborError("ERR_CASTORE_INVALID", `Cannot store directories: ${what}`);
}

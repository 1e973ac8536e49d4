import type { B3Digest } from "../castore/digest.ts";
import { toB3Digest } from "../castore/digest.ts";
import { DigestTable } from "../castore/digest-table.ts";
import type { DirectorySizeProfile } from "../castore/directory.ts";
import { DirectoryBuilder } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import { NarborError } from "../errors.ts";
import { blake3 } from "../hash/blake3.ts";

/**
 * What a directory costs beside its message while it is held: a NAR of millions of tiny ones must not be cheap to send and dear to keep.
 */
const OVERHEAD_BYTES = 1024;

/**
 * The directories that are open while a tree is read depth first. Entering one pushes; leaving it pops, encodes, names it by its digest and adds
 * it to its parent. It holds the messages of finished directories, each distinct one once, until they are taken, and of open ones.
 */
export class DirectoryStack {
  readonly #profile: DirectorySizeProfile;
  readonly #maxBytes: number;
  readonly #names: Uint8Array[] = [];
  /** One for each depth ever reached, used again and again. */
  readonly #builders: DirectoryBuilder[] = [];
  readonly #seen = new DigestTable();
  #finished: Uint8Array[] = [];
  #finishedBytes = 0;
  /** Of all that were finished, whether they were taken or not. */
  #countedBytes = 0;
  #root: Node | undefined;

  /** @param maxBytes most bytes of messages of one tree, each counted with 1 KiB for keeping it; more is ERR_LIMIT */
  constructor(profile: DirectorySizeProfile, maxBytes: number) {
    this.#profile = profile;
    this.#maxBytes = maxBytes;
  }

  /** A directory begins. */
  enter(name: Uint8Array): void {
    this.#names.push(name);
    if (this.#builders.length < this.#names.length) this.#builders.push(new DirectoryBuilder(this.#profile));
  }

  /** A file, symlink or finished directory in the directory that is open, or the root. */
  add(name: Uint8Array, node: Node): void {
    const builder = this.#builders[this.#names.length - 1];
    if (this.#names.length === 0 || builder === undefined) {
      this.#root = node;
      return;
    }
    builder.add(name, node);
    this.#checkLimit(builder.byteLength);
  }

  /** The directory that was entered last ends. */
  leave(): void {
    const builder = this.#builders[this.#names.length - 1];
    const name = this.#names.pop();
    if (builder === undefined || name === undefined) throw new TypeError("leave() without enter()");
    const { bytes, size } = builder.finish();
    const digest: B3Digest = toB3Digest(blake3(bytes));
    if (this.#seen.add(digest).isNew) {
      this.#finished.push(bytes);
      this.#finishedBytes += bytes.length;
      this.#countedBytes += bytes.length + OVERHEAD_BYTES;
      this.#checkLimit(0);
    }
    this.add(name, { type: "directory", digest, size });
  }

  /** The root, once the tree has ended. */
  get root(): Node {
    if (this.#root === undefined) throw new TypeError("The tree has not ended");
    return this.#root;
  }

  /** Bytes of the messages that `takeFinished` would give. */
  get finishedBytes(): number {
    return this.#finishedBytes;
  }

  /** Messages of the distinct directories that were finished since it was called last, leaves to root. */
  takeFinished(): readonly Uint8Array[] {
    const finished = this.#finished;
    this.#finished = [];
    this.#finishedBytes = 0;
    return finished;
  }

  #checkLimit(open: number): void {
    if (this.#countedBytes + open <= this.#maxBytes) return;
    throw new NarborError("ERR_LIMIT", `Cannot ingest: the tree's directories take more than ${this.#maxBytes} bytes`);
  }
}

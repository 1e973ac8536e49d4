import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, formatDigest } from "../../castore/digest.ts";
import type { NamedDirectory } from "../../castore/directory-order.ts";
import { ClosureValidator } from "../../castore/directory-order.ts";
import { readDirectory } from "../../castore/directory-proto.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

/**
 * Directories written before the event loop gets a turn. What is written in one turn is committed together, so a closure of up to so many shows
 * all at once; of a larger one, whole subtrees may be readable a moment before its root.
 */
const WRITES_PER_TURN = 16_384;
/** Directories read, and bytes of them checked, before the event loop gets a turn. */
const DIRECTORIES_PER_TURN = 256;
const BYTES_PER_TURN = 256 * 1024;
/** A small directory costs as much to check as so many bytes of a large one. */
const BYTES_PER_DIRECTORY = 512;

export class PacksDirectoryService implements DirectoryService {
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async get(digest: B3Digest, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#core.check(options);
    return this.#read(digest);
  }

  async getClosure(root: B3Digest, options?: CallOptions): Promise<AsyncIterable<NamedDirectory> | undefined> {
    this.#core.check(options);
    const bytes = this.#read(root);
    return bytes === undefined ? undefined : this.#walk({ digest: root, bytes }, options);
  }

  async putClosure(directories: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: CallOptions): Promise<B3Digest> {
    this.#core.check(options);
    const validator = new ClosureValidator();
    const closure: NamedDirectory[] = [];
    let untilTurn = BYTES_PER_TURN;
    for await (const bytes of abortable(directories, options?.signal)) {
      const directory = validator.add(bytes);
      if (directory !== undefined) closure.push(directory);
      untilTurn -= bytes.length + BYTES_PER_DIRECTORY;
      if (untilTurn > 0) continue;
      await nextTurn();
      untilTurn = BYTES_PER_TURN;
    }
    const root = validator.finish();
    const groups = new Set<Group | undefined>();
    // Leaves first in the packs too: a log that is cut off anywhere holds no directory without its children.
    for (const [position, { digest, bytes }] of closure.entries()) {
      if (position % WRITES_PER_TURN === WRITES_PER_TURN - 1) {
        await nextTurn();
        await this.#core.writer.ready();
        this.#core.check(options);
      }
      this.#sink.check(groups);
      if (!this.#core.index.hasDirectory(digest)) groups.add(this.#core.writer.addRecord({ type: "directory", message: bytes }));
    }
    await this.#sink.settle(groups);
    return root;
  }

  async *#walk(root: NamedDirectory, options: CallOptions | undefined): AsyncGenerator<NamedDirectory, void, undefined> {
    const seen = new Set([digestKey(root.digest)]);
    let level: NamedDirectory[] = [root];
    while (level.length > 0) {
      const next: NamedDirectory[] = [];
      for (const [position, directory] of level.entries()) {
        if (position % DIRECTORIES_PER_TURN === DIRECTORIES_PER_TURN - 1) await nextTurn();
        yield directory;
        for (const { node } of readDirectory(directory.bytes)) {
          if (node.type !== "directory" || seen.has(digestKey(node.digest))) continue;
          seen.add(digestKey(node.digest));
          // The reader may have taken its time with the last one.
          this.#core.check(options);
          const bytes = this.#read(node.digest);
          if (bytes === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(node.digest)}: it is not stored`);
          next.push({ digest: node.digest, bytes });
        }
      }
      level = next;
    }
  }

  #read(digest: B3Digest): Uint8Array | undefined {
    const bytes = this.#core.index.directory(digest);
    if (bytes !== undefined && !equalBytes(blake3(bytes), digest)) {
      throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)}: the index holds other bytes`);
    }
    return bytes;
  }
}

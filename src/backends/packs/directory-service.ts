import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest } from "../../castore/digest.ts";
import { DigestTable } from "../../castore/digest-table.ts";
import type { NamedDirectory } from "../../castore/directory-order.ts";
import { ClosureValidator } from "../../castore/directory-order.ts";
import { readDirectory } from "../../castore/directory-proto.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import { DirectorySpool } from "./directory-spool.ts";
import { DIRECTORIES_PER_QUERY } from "./index-database.ts";
import type { Group } from "./pack-writer.ts";
import type { PacksCore, WriteSink } from "./packs-core.ts";

/**
 * Directories written before the event loop gets a turn. What is written in one turn is committed together, so a closure of up to so many, and no more
 * than a spool keeps in memory, shows all at once; of a larger one, whole subtrees may be readable a moment before its root.
 */
const WRITES_PER_TURN = 16_384;
/** Bytes of messages that are written together where a spool had to put some aside. */
const BYTES_AT_ONCE = 1024 * 1024;
/** Bytes of directories checked before the event loop gets a turn: a millisecond. */
const BYTES_PER_TURN = 64 * 1024;
/** Directories looked up before it gets one. */
const LOOKUPS_PER_TURN = 256;
/** A small directory costs as much to check as so many bytes of a large one. */
const BYTES_PER_DIRECTORY = 512;

export class PacksDirectoryService implements DirectoryService {
  readonly putsClosuresAside = true;
  readonly #core: PacksCore;
  readonly #sink: WriteSink;

  constructor(core: PacksCore, sink: WriteSink) {
    this.#core = core;
    this.#sink = sink;
  }

  async get(digest: B3Digest, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#core.check(options);
    const bytes = this.#core.index.directory(digest);
    return bytes === undefined ? undefined : verified(bytes, digest);
  }

  async getClosure(root: B3Digest, options?: CallOptions): Promise<AsyncIterable<NamedDirectory> | undefined> {
    this.#core.check(options);
    return this.#core.index.hasDirectory(root) ? this.#walk(root, options) : undefined;
  }

  async putClosure(directories: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: CallOptions): Promise<B3Digest> {
    this.#core.check(options);
    const validator = new ClosureValidator();
    await using spool = new DirectorySpool(this.#core.directory);
    let untilTurn = BYTES_PER_TURN;
    for await (const bytes of abortable(directories, options?.signal)) {
      if (validator.add(bytes) !== undefined) spool.add(bytes);
      untilTurn -= bytes.length + BYTES_PER_DIRECTORY;
      if (untilTurn > 0) continue;
      await spool.flush();
      await nextTurn();
      untilTurn = BYTES_PER_TURN;
    }
    const root = validator.finish();
    await this.#write(validator.digests, spool, options);
    return root;
  }

  /** Leaves first in the packs too: a log that is cut off anywhere holds no directory without its children. */
  async #write(digests: ClosureValidator["digests"], spool: DirectorySpool, options: CallOptions | undefined): Promise<void> {
    let looked = 0;
    let unknown: Uint8Array[] = [];
    let unknownBytes = 0;
    const bytesAtOnce = spool.writtenBytes === 0 ? Infinity : BYTES_AT_ONCE;
    /** What was written and need not be durable yet; all but the last are on their way. */
    const groups: Group[] = [];
    for await (const run of spool.runs()) {
      for (const message of run) {
        if (looked % LOOKUPS_PER_TURN === 0) {
          await nextTurn();
          this.#core.check(options);
        }
        if (this.#core.index.hasDirectory(digests.at(looked++))) continue;
        if (unknown.length >= WRITES_PER_TURN || (unknownBytes > 0 && unknownBytes + message.length > bytesAtOnce)) {
          this.#writeTogether(unknown, groups);
          unknown = [];
          unknownBytes = 0;
          await nextTurn();
          await this.#core.writer.ready();
          // One group fills while another becomes durable: however slow the disk is, no more of them are kept in memory.
          while (groups.length > 1) await groups.shift()?.done;
          this.#core.check(options);
        }
        unknown.push(message);
        unknownBytes += message.length;
      }
    }
    this.#writeTogether(unknown, groups);
    await this.#sink.settle(groups);
  }

  #writeTogether(messages: readonly Uint8Array[], groups: Group[]): void {
    for (const message of messages) {
      this.#sink.check(groups);
      const group = this.#core.writer.addRecord({ type: "directory", message });
      if (group !== groups.at(-1)) groups.push(group);
    }
  }

  async *#walk(root: B3Digest, options: CallOptions | undefined): AsyncGenerator<NamedDirectory, void, undefined> {
    // Numbered as they are found, which makes it the queue of a walk breadth first too.
    const found = new DigestTable();
    found.add(root);
    let untilTurn = BYTES_PER_TURN;
    this.#core.check(options);
    for (let next = 0; next < found.size; ) {
      const wanted = Array.from({ length: Math.min(DIRECTORIES_PER_QUERY, found.size - next) }, (_, position) => found.at(next + position));
      next += wanted.length;
      const messages = this.#core.index.directories(wanted);
      for (const [position, digest] of wanted.entries()) {
        const bytes = messages[position] ?? this.#core.index.directory(digest);
        if (bytes === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)}: it is not stored`);
        for (const { node } of readDirectory(verified(bytes, digest))) if (node.type === "directory") found.add(node.digest);
        yield { digest, bytes };
        untilTurn -= bytes.length + BYTES_PER_DIRECTORY;
        if (untilTurn <= 0) {
          await nextTurn();
          untilTurn = BYTES_PER_TURN;
        }
        // The reader may have taken its time.
        this.#core.check(options);
      }
    }
  }
}

function verified(bytes: Uint8Array, digest: B3Digest): Uint8Array {
  if (equalBytes(blake3(bytes), digest)) return bytes;
  throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)}: the index holds other bytes`);
}

import { equalBytes } from "../../bytes/compare-bytes.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { formatDigest, toB3Digest } from "../../castore/digest.ts";
import { DigestTable } from "../../castore/digest-table.ts";
import type { NamedDirectory } from "../../castore/directory-order.ts";
import { readDirectory } from "../../castore/directory-proto.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { linkSignal } from "../../concurrency/linked-signal.ts";
import { nextTurn } from "../../concurrency/next-turn.ts";
import { NarborError, errorMessage, isNarborError } from "../../errors.ts";
import { blake3 } from "../../hash/blake3.ts";
import { DirectoryService as DirectoryServiceDescriptor } from "../../proto/gen/snix/castore/v1/rpc_directory_pb.ts";
import type { GrpcCore } from "./grpc-core.ts";

const { get, put } = DirectoryServiceDescriptor.method;

export class GrpcDirectoryService implements DirectoryService {
  readonly #core: GrpcCore;

  constructor(core: GrpcCore) {
    this.#core = core;
  }

  async get(digest: B3Digest, options?: CallOptions): Promise<Uint8Array | undefined> {
    const { family } = await this.#core.peer(options);
    const messages = this.#core.channel.serverStream(get, { byWhat: { case: "digest", value: digest }, recursive: false }, { ...options, family });
    try {
      for await (const bytes of messages) {
        if (!equalBytes(blake3(bytes), digest)) throw this.#lost(digest, "it sent another");
        return bytes;
      }
      return undefined;
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async getClosure(root: B3Digest, options?: CallOptions): Promise<AsyncIterable<NamedDirectory> | undefined> {
    const { family } = await this.#core.peer(options);
    const messages = this.#core.channel.serverStream(get, { byWhat: { case: "digest", value: root }, recursive: true }, { ...options, family });
    try {
      const first = await messages.next();
      return first.done === true ? undefined : this.#verified(root, first.value, messages);
    } catch (error) {
      if (isNarborError(error, "ERR_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async putClosure(directories: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: CallOptions): Promise<B3Digest> {
    const { family, isNarbor } = await this.#core.peer(options);
    let last: Uint8Array | undefined;
    let largest = { bytes: 0, entries: 0 };
    const check = (bytes: Uint8Array): Uint8Array => {
      let entries = 0;
      // A server may read what is not canonical, and store what it takes it for under another digest.
      for (const _entry of readDirectory(bytes)) entries++;
      if (bytes.length > largest.bytes) largest = { bytes: bytes.length, entries };
      return (last = bytes);
    };
    using stop = linkSignal(options?.signal);
    const checked = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const bytes of abortable(directories, stop.signal)) yield check(bytes);
    };
    try {
      // Only an array can be sent again, should the server go away meanwhile.
      const messages = Array.isArray(directories) ? directories.map(check) : checked();
      const { rootDigest } = await this.#core.channel.clientStream(put, messages, { ...options, family });
      return this.#checkRoot(toB3Digest(rootDigest), last);
    } catch (error) {
      // The stream may be stuck when the server fails, and must be closed all the same; it hears of it within this turn.
      stop.abort(error);
      await nextTurn();
      if (isTooLarge(error)) throw tooLarge(error, largest, this.#core);
      throw isNarbor || !/wrong size/.test(String(error)) ? error : withProfileHint(error, this.#core);
    }
  }

  #checkRoot(stored: B3Digest, last: Uint8Array | undefined): B3Digest {
    if (last !== undefined && equalBytes(blake3(last), stored)) return stored;
    throw new NarborError("ERR_MISMATCH", `Cannot store directories: ${this.#core.name} calls the root ${formatDigest(stored)}, which is not the last one sent`);
  }

  /** Each once and after one that holds it, though a server may send one again for each directory that holds it; and all of them, or an error. */
  async *#verified(root: B3Digest, first: Uint8Array, rest: AsyncGenerator<Uint8Array, void, undefined>): AsyncGenerator<NamedDirectory, void, undefined> {
    const wanted = new DigestTable();
    const came = new Set<number>();
    wanted.add(root);
    /** How many may come, were each sent again wherever it is held: nothing else ends a stream of repeats. */
    let left = 1;
    try {
      for (let bytes: Uint8Array | undefined = first; bytes !== undefined; bytes = (await rest.next()).value ?? undefined) {
        const digest = toB3Digest(blake3(bytes));
        const index = wanted.indexOf(digest);
        if (index === undefined) throw this.#lost(root, `it sent ${formatDigest(digest)}, which nothing before it holds`);
        if (left-- === 0) throw new NarborError("ERR_STORE", `Cannot read directory ${formatDigest(root)} from ${this.#core.name}: it sends the same directories again and again`);
        if (came.has(index)) continue;
        came.add(index);
        for (const { node } of readDirectory(bytes)) {
          if (node.type !== "directory") continue;
          wanted.add(node.digest);
          left++;
        }
        yield { digest, bytes };
      }
      for (let index = 0; came.size < wanted.size; index++) {
        if (!came.has(index)) throw this.#lost(wanted.at(index), `it did not come with ${formatDigest(root)}`);
      }
    } finally {
      await rest.return();
    }
  }

  #lost(digest: B3Digest, what: string): NarborError {
    return new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)} from ${this.#core.name}: ${what}`);
  }
}

/** The commonest thing to go wrong with a store that is not ours, and its words for it do not help. */
function withProfileHint(error: unknown, core: GrpcCore): NarborError {
  return new NarborError("ERR_CASTORE_INVALID", `${core.name} counts the sizes of directories in another way; snix and tvix need ?directory-size=doubled in the address (${errorMessage(error)})`, { cause: error });
}

/** As grpc-js and tonic say of a message that is larger than they take. */
function isTooLarge(error: unknown): boolean {
  return isNarborError(error, "ERR_LIMIT", "ERR_OUT_OF_RANGE") && /message larger than max|message length too large/.test(error.message);
}

/** A directory is one message, and there is no way to send it in pieces. */
function tooLarge(error: unknown, { bytes, entries }: { readonly bytes: number; readonly entries: number }, core: GrpcCore): NarborError {
  const [, limit] = /(?: vs |limit is: )(\d+)/.exec(errorMessage(error)) ?? [];
  const taken = limit === undefined ? "" : `, it takes ${limit}`;
  return new NarborError("ERR_LIMIT", `Cannot store a directory of ${entries} entries: ${core.name} takes none that is so large (${bytes} bytes${taken}); split it, or put it into a store that is a directory here`, { cause: error });
}

import type { DescMessage, DescMethodUnary } from "@bufbuild/protobuf";
import type { BlockCompression } from "../../castore/block-writer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import { untilAborted } from "../../concurrency/until-aborted.ts";
import { NarborError, isNarborError } from "../../errors.ts";
import { Capabilities, DigestFunction_Value } from "../../proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { DirectorySize, StoreService } from "../../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import { BlobService } from "../../proto/gen/snix/castore/v1/rpc_blobstore_pb.ts";
import type { Received, ToSend } from "../../proto/rpc-codec.ts";
import type { RpcChannel, ServiceFamily } from "./rpc-channel.ts";

/** What the server at the other end is. */
export interface Peer {
  /** Whether it has what only a Narbor has. */
  readonly isNarbor: boolean;
  /** Of a Narbor. */
  readonly version: string | undefined;
  readonly family: ServiceFamily;
  /** Most bytes of blobs in one call of many; undefined when it takes them one at a time only. */
  readonly maxBatchBytes: number | undefined;
  /** Whether it gives blobs as it stores them. */
  readonly readsBlocks: boolean;
  /** How it would have blocks compressed that it stores as they come; undefined when it takes none. */
  readonly blockCompression: BlockCompression | undefined;
  /** What it says of how it counts the sizes of directories. */
  readonly directorySize: DirectorySizeProfile | undefined;
}

/** No server is sent more in one call, whatever it takes: a batch is held in memory at both ends. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** A server that takes less than this together is no better asked one blob at a time. */
const MIN_BATCH_BYTES = 1024 * 1024;

/** Levels of zstd that blocks are compressed with, whatever the server asks for. */
const MIN_BLOCK_LEVEL = -7;
const MAX_BLOCK_LEVEL = 19;

/** Finds out, when it is first asked, what the other end is, and remembers it. */
export class PeerFinder {
  readonly #channel: RpcChannel;
  #found: Peer | undefined;
  #finding: Promise<Peer> | undefined;

  constructor(channel: RpcChannel) {
    this.#channel = channel;
  }

  /** It is not what it was. */
  forget(): void {
    this.#found = undefined;
  }

  async find(options: CallOptions | undefined): Promise<Peer> {
    this.#channel.check(options);
    if (this.#found !== undefined) return this.#found;
    // Shared by all who ask meanwhile, so it follows no one's signal but the channel's.
    this.#finding ??= this.#ask().finally(() => {
      this.#finding = undefined;
    });
    const { signal } = options ?? {};
    this.#found = await (signal === undefined ? this.#finding : untilAborted(this.#finding, signal));
    return this.#found;
  }

  async #ask(): Promise<Peer> {
    const [info, capabilities] = await Promise.all([this.#optional(StoreService.method.getInfo, {}), this.#optional(Capabilities.method.getCapabilities, {})]);
    const { digestFunctions = [], maxBatchTotalSizeBytes = 0n } = capabilities?.cacheCapabilities ?? {};
    // In this API 0 means that the server sets no limit.
    const saidBytes = maxBatchTotalSizeBytes > 0n ? Number(maxBatchTotalSizeBytes) : MAX_BATCH_BYTES;
    const maxBatchBytes = Math.min(MAX_BATCH_BYTES, saidBytes);
    return {
      isNarbor: info !== undefined,
      version: info?.version,
      family: info === undefined ? await this.#findFamily() : "snix",
      maxBatchBytes: digestFunctions.includes(DigestFunction_Value.BLAKE3) && maxBatchBytes >= MIN_BATCH_BYTES ? maxBatchBytes : undefined,
      readsBlocks: info?.readsBlocks === true,
      blockCompression: blockCompressionOf(info?.blockLevel),
      directorySize: info === undefined ? undefined : profileOf(info.directorySize),
    };
  }

  async #findFamily(): Promise<ServiceFamily> {
    const digest = new Uint8Array(32);
    for (const family of ["snix", "tvix"] as const) {
      try {
        await this.#channel.unary(BlobService.method.stat, { digest }, { family });
        return family;
      } catch (error) {
        if (isNarborError(error, "ERR_NOT_FOUND")) return family;
        if (!isNarborError(error, "ERR_UNSUPPORTED")) throw error;
      }
    }
    throw new NarborError("ERR_UNAVAILABLE", `${this.#channel.address.text} answers, but has no castore services: neither snix.castore.v1 nor tvix.castore.v1`);
  }

  /** Undefined when the server does not have the method. */
  async #optional<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: ToSend<I>): Promise<Received<O> | undefined> {
    try {
      return await this.#channel.unary(method, request);
    } catch (error) {
      if (isNarborError(error, "ERR_UNSUPPORTED")) return undefined;
      throw error;
    }
  }
}

/** It is our processor that it asks for. */
function blockCompressionOf(level: number | undefined): BlockCompression | undefined {
  return level === 0 ? "none" : level && Math.max(MIN_BLOCK_LEVEL, Math.min(level, MAX_BLOCK_LEVEL));
}

function profileOf(size: DirectorySize): DirectorySizeProfile {
  return size === DirectorySize.DOUBLED ? "doubled" : "documented";
}

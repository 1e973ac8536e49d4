import { setMaxListeners } from "node:events";
import pLimit from "p-limit";
import type { CallOptions } from "../../castore/call-options.ts";
import { Semaphore } from "../../concurrency/semaphore.ts";
import { untilAborted } from "../../concurrency/until-aborted.ts";
import type { GrpcAddress } from "./grpc-address.ts";
import type { Peer } from "./peer.ts";
import { PeerFinder } from "./peer.ts";
import { RpcChannel } from "./rpc-channel.ts";

/** Calls for single blobs at once, over all that use the store. */
export const SINGLE_CALLS_AT_ONCE = 128;
/** Bytes of small blobs that all readers together may read ahead of need, before each must do with little. */
const READ_AHEAD_BYTES = 192 * 1024 * 1024;
/** Calls that carry many blobs at once: each holds up to 4 MiB at both ends. */
const BATCH_CALLS_AT_ONCE = 16;

/** What the services of one gRPC store share. */
export class GrpcCore {
  readonly channel: RpcChannel;
  readonly readAhead = new Semaphore(READ_AHEAD_BYTES);
  readonly #singles = pLimit(SINGLE_CALLS_AT_ONCE);
  readonly #batches = pLimit(BATCH_CALLS_AT_ONCE);
  readonly #peer: PeerFinder;

  constructor(address: GrpcAddress) {
    this.channel = new RpcChannel(address);
    this.#peer = new PeerFinder(this.channel);
  }

  /** What the other end is. To be asked first by every method of every service. @throws the signal's reason; NarborError */
  async peer(options: CallOptions | undefined): Promise<Peer> {
    // Hundreds of calls may follow one signal; that is no leak.
    if (options?.signal !== undefined) setMaxListeners(0, options.signal);
    return await this.#peer.find(options);
  }

  /** Another server has come in the place of the one that was asked: ask anew. */
  forgetPeer(): void {
    this.#peer.forget();
  }

  /** Make a call for a single blob or record in its turn. @throws what it fails with; the signal's reason, also while it waits for its turn */
  async single<T>(options: CallOptions | undefined, call: () => Promise<T>): Promise<T> {
    return await this.#inTurn(this.#singles(call), options);
  }

  /** Make a call that carries many blobs in its turn. @throws what it fails with; the signal's reason, also while it waits for its turn */
  async batch<T>(options: CallOptions | undefined, call: () => Promise<T>): Promise<T> {
    return await this.#inTurn(this.#batches(call), options);
  }

  /** The address, as a beginning of messages. */
  get name(): string {
    return this.channel.address.text;
  }

  async #inTurn<T>(result: Promise<T>, options: CallOptions | undefined): Promise<T> {
    return await (options?.signal === undefined ? result : untilAborted(result, options.signal));
  }
}

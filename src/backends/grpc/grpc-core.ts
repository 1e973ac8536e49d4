import type { LimitFunction } from "p-limit";
import pLimit from "p-limit";
import type { CallOptions } from "../../castore/call-options.ts";
import type { GrpcAddress } from "./grpc-address.ts";
import type { Peer } from "./peer.ts";
import { PeerFinder } from "./peer.ts";
import { RpcChannel } from "./rpc-channel.ts";

/** Calls for single blobs at once, over all that use the store. */
const SINGLE_CALLS_AT_ONCE = 128;
/** Calls that carry many blobs at once: each holds up to 4 MiB at both ends. */
const BATCH_CALLS_AT_ONCE = 16;

/** What the services of one gRPC store share. */
export class GrpcCore {
  readonly channel: RpcChannel;
  readonly singles: LimitFunction = pLimit(SINGLE_CALLS_AT_ONCE);
  readonly batches: LimitFunction = pLimit(BATCH_CALLS_AT_ONCE);
  readonly #peer: PeerFinder;

  constructor(address: GrpcAddress) {
    this.channel = new RpcChannel(address);
    this.#peer = new PeerFinder(this.channel);
  }

  /** What the other end is. To be asked first by every method of every service. @throws the signal's reason; NarborError */
  async peer(options: CallOptions | undefined): Promise<Peer> {
    return await this.#peer.find(options);
  }

  /** The address, as a beginning of messages. */
  get name(): string {
    return this.channel.address.text;
  }
}

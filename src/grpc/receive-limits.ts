/**
 * What clients may make a server hold. grpc-js gathers a message before any handler sees it, so what is announced and never sent to its end
 * must be bounded before: by method, over all calls together, and in time.
 */
import type { ServerInterceptingCall, ServerInterceptingCallInterface, ServerInterceptor } from "@grpc/grpc-js";
import { Semaphore } from "../concurrency/semaphore.ts";
import { NarborError } from "../errors.ts";
import type { Gathering } from "./grpc-js-internals.ts";
import { READING_MESSAGE, gatheringOf } from "./grpc-js-internals.ts";
import { onMessageHandled } from "./handled-messages.ts";
import { toRpcStatus } from "./rpc-call.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/** Requests that are no more than a few names and digests. */
const SMALL_REQUEST_BYTES = 64 * KIB;
/** Largest message of each method that takes more, in bytes; by the end of its path, since services go by several names. */
const MESSAGE_LIMITS: readonly (readonly [path: string, bytes: number])[] = [
  // A directory of half a million entries.
  [".DirectoryService/Put", 32 * MIB],
  [".ContentAddressableStorage/BatchUpdateBlobs", 8 * MIB],
  [".ContentAddressableStorage/FindMissingBlobs", 4 * MIB],
  [".ContentAddressableStorage/BatchReadBlobs", 4 * MIB],
  [".BlobService/Put", 4 * MIB],
  [".ByteStream/Write", 4 * MIB],
  [".PathInfoService/Put", 4 * MIB],
  [".StoreService/ReadBlocks", 128 * KIB],
  // A block that is not compressed, and its table.
  [".StoreService/WriteBlocks", 2 * MIB],
];

/** Bytes of messages held at once, over all calls and connections: those that come in pieces, and those of them that a handler is busy with. */
const HELD_BYTES = 128 * MIB;
/** Calls that wait for room: each may have sent as much as its window lets it, which Node.js holds. More are told to come back. */
const MAX_WAITING = 64;
/** What a request must bring within the idle time, in bytes, unless it is whole by then. */
const PROGRESS_BYTES = 256 * KIB;

/** @param idleMilliseconds a request that is not a stream and brings less than 256 KiB in so long, and is not whole then, is given up */
export function receiveLimits(idleMilliseconds: number): ServerInterceptor {
  const room = new Semaphore(HELD_BYTES);
  return ({ path, requestStream }, call) => {
    const limit = MESSAGE_LIMITS.find(([ending]) => path.endsWith(ending))?.[1] ?? SMALL_REQUEST_BYTES;
    new LimitedCall(call, { limit, room, idleMilliseconds: requestStream ? undefined : idleMilliseconds }).begin();
    // Nothing is put before it, so it may be passed on as it is.
    return call as ServerInterceptingCall;
  };
}

interface CallLimits {
  /** Of one message, in bytes. */
  readonly limit: number;
  /** For the messages of all calls, in bytes. */
  readonly room: Semaphore;
  /** Undefined for a stream: who reads it waits no longer than that. */
  readonly idleMilliseconds: number | undefined;
}

/** A message that comes in pieces. */
interface ComingMessage {
  /** Undefined until there is room for it. */
  bytes: Buffer | undefined;
  filled: number;
  release: () => void;
}

class LimitedCall {
  readonly #call: ServerInterceptingCallInterface;
  readonly #gathering: Gathering;
  readonly #limits: CallLimits;
  readonly #ended = new AbortController();
  readonly #timer: NodeJS.Timeout | undefined;
  #progress = 0;
  #coming: ComingMessage | undefined;
  /** The last one that was whole. */
  #whole: ComingMessage | undefined;

  constructor(call: ServerInterceptingCallInterface, limits: CallLimits) {
    this.#call = call;
    this.#gathering = gatheringOf(call);
    this.#limits = limits;
    this.#timer = limits.idleMilliseconds === undefined ? undefined : setTimeout(() => this.#giveUp(), limits.idleMilliseconds);
  }

  begin(): void {
    const { decoder, stream } = this.#gathering;
    decoder.maxReadMessageLength = this.#limits.limit;
    const write = decoder.write.bind(decoder);
    decoder.write = (data) => this.#received(data.length, write(data));
    const sendStatus = this.#call.sendStatus.bind(this.#call);
    this.#call.sendStatus = (status) => {
      this.#end();
      // INTERNAL to grpc-js, and the caller's fault.
      sendStatus(status.details.startsWith("Invalid grpc-timeout value ") ? toRpcStatus(new NarborError("ERR_INVALID", status.details)) : status);
    };
    onMessageHandled(stream, () => this.#releaseWhole());
    stream.once("close", () => this.#end());
  }

  #releaseWhole(): void {
    this.#whole?.release();
    this.#whole = undefined;
  }

  /** @returns the messages that are whole, as the handler is to see them */
  #received(length: number, messages: Buffer[]): Buffer[] {
    // It is read on only when the handler is done with the message before.
    this.#releaseWhole();
    if (messages.some(isCompressed)) {
      this.#call.sendStatus(toRpcStatus(new NarborError("ERR_UNSUPPORTED", "Messages may not be compressed here; blobs may, as compressed-blobs/zstd")));
      return [];
    }
    if (messages.length > 0) {
      clearTimeout(this.#timer);
      this.#whole = this.#coming;
      this.#coming = undefined;
    }
    if (this.#gathering.decoder.readState === READING_MESSAGE) this.#gather();
    this.#progress += length;
    if (this.#progress >= PROGRESS_BYTES) {
      this.#progress = 0;
      if (messages.length === 0) this.#timer?.refresh();
    }
    return messages;
  }

  #gather(): void {
    const { decoder, stream } = this.#gathering;
    if (this.#coming === undefined) {
      const coming = { bytes: undefined, filled: 0, release: () => undefined };
      this.#coming = coming;
      void this.#makeRoom(coming, decoder.readMessageSize);
    }
    const { bytes } = this.#coming;
    // Whoever reads may have let it flow again.
    if (bytes === undefined) stream.pause();
    else this.#keep(this.#coming, bytes);
  }

  async #makeRoom(coming: ComingMessage, size: number): Promise<void> {
    const { room } = this.#limits;
    if (room.waiting >= MAX_WAITING) {
      this.#call.sendStatus(toRpcStatus(new NarborError("ERR_UNAVAILABLE", `Large requests are under way here already, and ${room.waiting} wait; try again later`)));
      return;
    }
    try {
      coming.release = await room.acquire(size, this.#ended.signal);
    } catch {
      // The call has ended.
      return;
    }
    if (this.#coming !== coming) coming.release();
    else {
      coming.bytes = Buffer.allocUnsafeSlow(size);
      this.#keep(coming, coming.bytes);
      this.#timer?.refresh();
      this.#gathering.stream.resume();
    }
  }

  /** Pieces are views of what a connection has read in one go, and may be of one byte: to hold them would take many times what they are. */
  #keep(coming: ComingMessage, bytes: Buffer): void {
    const { decoder } = this.#gathering;
    for (const piece of decoder.readPartialMessage) {
      if (piece.buffer !== bytes.buffer) coming.filled += piece.copy(bytes, coming.filled);
    }
    decoder.readPartialMessage = [bytes.subarray(0, coming.filled)];
  }

  #giveUp(): void {
    const { idleMilliseconds = 0 } = this.#limits;
    if (this.#coming !== undefined && this.#coming.bytes === undefined) return;
    this.#call.sendStatus(toRpcStatus(new NarborError("ERR_TIMEOUT", `The request was not whole within ${idleMilliseconds / 1000} s`)));
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#ended.abort();
    this.#whole?.release();
    this.#coming?.release();
    // A client that never ends its stream keeps the call, which must not keep these.
    this.#whole = undefined;
    this.#coming = undefined;
    this.#gathering.decoder.readPartialMessage = [];
  }
}

/** By the flag before it. */
function isCompressed(message: Buffer): boolean {
  return message[0] !== 0;
}

/** One call, from the server's side: grpc-js's streams turned into promises and AsyncIterables, and errors into statuses. */
import type { EventEmitter } from "node:events";
import type { ServerHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import type { Readable } from "node:stream";
import type { sendUnaryData, ServerDuplexStream, ServerReadableStream, ServerUnaryCall, ServerWritableStream, ServiceError } from "@grpc/grpc-js";
import { Metadata } from "@grpc/grpc-js";
import { asBuffer } from "../bytes/as-buffer.ts";
import { abortable } from "../concurrency/abortable.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { NarborError, errorMessage, isNarborError } from "../errors.ts";
import { endsWithinMessage, http2StreamOf } from "./grpc-js-internals.ts";
import { messageHandled } from "./handled-messages.ts";
import { PendingSends } from "./pending-sends.ts";
import { ERROR_CODE_TRAILER, RPC_STATUS, toRpcFailure } from "../proto/rpc-status.ts";

/** Messages of a client's stream that are handled before others have their turn. */
const MESSAGES_PER_TURN = 32;

/** What a handler knows of its call. */
export interface RpcContext {
  /** Fires when the client has gone or cancelled, when its deadline is over, and when it was idle for too long. */
  readonly signal: AbortSignal;
}

/** What every call is served with. */
export interface RpcCallOptions {
  /** A client that sends nothing it should send, or takes nothing, for so long is given up. */
  readonly idleMilliseconds: number;
  /** Calls at once, over all connections; one more is RESOURCE_EXHAUSTED. */
  readonly maxCalls: number;
  /** Told of faults of ours: which method, and what went wrong. */
  readonly onFault: (method: string, error: unknown) => void;
}

type AnyServerCall =
  | ServerUnaryCall<Buffer, Buffer>
  | ServerReadableStream<Buffer, Buffer>
  | ServerWritableStream<Buffer, Buffer>
  | ServerDuplexStream<Buffer, Buffer>;

/** Begins calls, and knows how many there are. */
export class RpcCalls {
  readonly #options: RpcCallOptions;
  readonly #sends = new PendingSends();
  #count = 0;

  constructor(options: RpcCallOptions) {
    this.#options = options;
  }

  /** Run a call that answers once. */
  async answer(call: AnyServerCall, callback: sendUnaryData<Buffer>, work: (rpc: RpcCall) => Promise<Uint8Array>): Promise<void> {
    try {
      const message = await this.#run(call, work);
      callback(null, asBuffer(message));
    } catch (error) {
      callback(toRpcStatus(error));
    }
  }

  /** Run a call that answers with a stream. */
  async stream(call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>, work: (rpc: RpcCall) => AsyncIterable<Uint8Array>): Promise<void> {
    try {
      await this.#run(call, async (rpc) => {
        for await (const message of work(rpc)) await rpc.send(call, message);
      });
      call.end();
    } catch (error) {
      call.emit("error", toRpcStatus(error));
    }
  }

  async #run<T>(call: AnyServerCall, work: (rpc: RpcCall) => Promise<T>): Promise<T> {
    if (this.#count >= this.#options.maxCalls) {
      throw new NarborError("ERR_LIMIT", `Cannot take the call: ${this.#options.maxCalls} are under way already`);
    }
    this.#count++;
    const rpc = new RpcCall(call, this.#options.idleMilliseconds, this.#sends);
    try {
      return await work(rpc);
    } catch (error) {
      if (toRpcFailure(error).status === RPC_STATUS.INTERNAL && !rpc.signal.aborted) this.#options.onFault(call.getPath(), error);
      throw error;
    } finally {
      this.#count--;
    }
  }
}

/** A call that is under way. */
export class RpcCall implements RpcContext {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #idleMilliseconds: number;
  readonly #stream: ServerHttp2Stream;
  readonly #sends: PendingSends;

  constructor(call: AnyServerCall, idleMilliseconds: number, sends: PendingSends) {
    this.#sends = sends;
    this.#stream = http2StreamOf(call);
    this.signal = this.#controller.signal;
    this.#idleMilliseconds = idleMilliseconds;
    const events: EventEmitter = call;
    events.on("cancelled", () => this.#controller.abort(new NarborError("ERR_UNAVAILABLE", "The client has gone")));
  }

  /** The messages of a client's stream. It ends well only when the client has ended it; a client that goes or goes quiet makes it reject. */
  async *received(call: ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>): AsyncGenerator<Uint8Array, void, undefined> {
    const timer = this.#idleTimer("sent");
    const stream: Readable = call;
    // Destroying grpc-js's stream would not end the call: the status that is sent then does.
    const messages = stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
    try {
      let untilTurn = MESSAGES_PER_TURN;
      for await (const message of abortable(messages, this.signal)) {
        timer.pause();
        // Thousands of tiny ones may be there already.
        if (untilTurn-- === 0) {
          await nextTurn();
          untilTurn = MESSAGES_PER_TURN;
        }
        yield message;
        messageHandled(this.#stream);
        timer.refresh();
      }
    } catch (error) {
      // How a stream that was cut off fails is grpc-js's affair, and that it was is ours.
      this.signal.throwIfAborted();
      if (error instanceof NarborError) throw error;
      throw new NarborError("ERR_UNAVAILABLE", `The client's stream broke off: ${errorMessage(error)}`, { cause: error });
    } finally {
      timer.pause();
    }
    // To grpc-js a stream that was cut off ends first like any other, and is called cancelled some time later. One that was ended is
    // still open to our answer.
    await nextTurn();
    this.signal.throwIfAborted();
    if (this.#stream.closed || this.#stream.destroyed) throw new NarborError("ERR_UNAVAILABLE", "The client's stream was cut off");
    if (endsWithinMessage(call)) throw new NarborError("ERR_INVALID", "The client's stream ends within a message");
  }

  /**
   * Send a message; resolves when the connection has taken it, so that no more than one is ever waiting for a slow client. One that takes nothing
   * for too long is cut off: it would not take a status either.
   */
  async send(call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>, message: Uint8Array): Promise<void> {
    this.signal.throwIfAborted();
    const timer = this.#idleTimer("taken");
    const taken = this.#sends.add(message.length, (error) => this.#controller.abort(error));
    try {
      await untilAborted(new Promise<void>((resolve, reject) => call.write(asBuffer(message), (error: Error | null | undefined) => (error ? reject(error) : resolve()))), this.signal);
    } catch (error) {
      if (isNarborError(error, "ERR_TIMEOUT")) this.#stream.close(constants.NGHTTP2_CANCEL);
      throw error;
    } finally {
      taken();
      timer.pause();
    }
  }

  #idleTimer(what: string): { pause(): void; refresh(): void } {
    const expire = (): void => this.#controller.abort(new NarborError("ERR_TIMEOUT", `No byte was ${what} for ${this.#idleMilliseconds / 1000} s (--idle-timeout)`));
    let timer = setTimeout(expire, this.#idleMilliseconds);
    return {
      pause: () => clearTimeout(timer),
      refresh: () => {
        clearTimeout(timer);
        timer = setTimeout(expire, this.#idleMilliseconds);
      },
    };
  }
}

/** What a call is ended with. */
export function toRpcStatus(error: unknown): Pick<ServiceError, "code" | "details" | "metadata"> {
  const { status, message, code } = toRpcFailure(error);
  const metadata = new Metadata();
  if (code !== undefined) metadata.set(ERROR_CODE_TRAILER, code);
  // The same numbers, which grpc-js has as an enum of its own.
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment
  return { code: status, details: message, metadata };
}

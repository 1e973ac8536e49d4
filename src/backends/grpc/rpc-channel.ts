/** Calls to one gRPC server, from the client's side: grpc-js's callbacks turned into promises and AsyncIterables, and statuses into errors. */
import type { DescMessage, DescMethod, DescMethodClientStreaming, DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import type { ClientWritableStream } from "@grpc/grpc-js";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { asBuffer } from "../../bytes/as-buffer.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { deferred } from "../../concurrency/deferred.ts";
import { linkSignal } from "../../concurrency/linked-signal.ts";
import { untilAborted } from "../../concurrency/until-aborted.ts";
import { NarborError } from "../../errors.ts";
import type { Received, ToSend } from "../../proto/rpc-codec.ts";
import { rpcCodec } from "../../proto/rpc-codec.ts";
import type { GrpcAddress } from "./grpc-address.ts";
import { channelCredentials } from "./channel-credentials.ts";
import { OpenCall, isUnreachable } from "./open-call.ts";

/** A call that did not reach the server, or whose server went away, is tried again: so often, after so long, twice as long each time. */
const ATTEMPTS = 6;
const FIRST_PAUSE_MILLISECONDS = 100;
const LONGEST_PAUSE_MILLISECONDS = 2000;
/** Bytes that the server may send ahead of what a call has read. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Largest message that is taken; servers send their largest directory whole. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Which packages a server's services are in. */
export type ServiceFamily = "snix" | "tvix";

/** What a call may be told beside its signal. */
export interface RpcOptions extends CallOptions {
  /** @default "snix" */
  readonly family?: ServiceFamily;
  /** Whether a stream of answers is not asked for again, since the whole of it is by `retrying`. */
  readonly isTriedOnce?: boolean;
}

/** Connects when the first call is made, and again whenever it must. */
export class RpcChannel {
  readonly address: GrpcAddress;
  readonly #closed = new AbortController();
  #client: Promise<Client> | undefined;

  constructor(address: GrpcAddress) {
    this.address = address;
  }

  /** @throws the signal's reason; NarborError ERR_CLOSED */
  check(options: CallOptions | undefined): void {
    this.#closed.signal.throwIfAborted();
    options?.signal?.throwIfAborted();
  }

  /** One question, one answer. It is asked again when the server cannot be reached, so it must be one that may be asked twice. */
  async unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: ToSend<I>, options: RpcOptions = {}): Promise<Received<O>> {
    const message = asBuffer(rpcCodec(method.input).encode(request));
    return await this.retrying(options, async () => {
      using call = await this.#begin(method, options);
      const answer = new Promise<Buffer>((resolve, reject) => {
        const stub = call.client.makeUnaryRequest(call.path, identity, identity, message, new Metadata(), {}, (error, bytes) =>
          error === null ? resolve(bytes ?? Buffer.alloc(0)) : reject(error),
        );
        call.cancels(stub);
      });
      return call.read(method, await call.outcome(answer));
    });
  }

  /** One question, a stream of answers. Until the first of them it is asked again when the server cannot be reached. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: ToSend<I>,
    options: RpcOptions = {},
  ): AsyncGenerator<Received<O>, void, undefined> {
    const message = asBuffer(rpcCodec(method.input).encode(request));
    const begin = async (): Promise<{ readonly call: OpenCall; readonly answers: AsyncIterator<Buffer>; readonly first: IteratorResult<Buffer> }> => {
      const call = await this.#begin(method, options);
      try {
        const stub = call.client.makeServerStreamRequest(call.path, identity, identity, message, new Metadata());
        call.cancels(stub);
        const answers = stub.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
        return { call, answers, first: await call.outcome(answers.next()) };
      } catch (error) {
        call[Symbol.dispose]();
        throw error;
      }
    };
    const { call, answers, first } = await (options.isTriedOnce === true ? begin() : this.retrying(options, begin));
    try {
      for (let result = first; result.done !== true; result = await call.outcome(answers.next())) {
        // Whoever reads may take its time. A message without a byte is no progress: there may be any number of them.
        const left = call.pause();
        yield call.read(method, result.value);
        call.resume(result.value.length === 0 ? left : undefined);
      }
    } finally {
      // Does nothing to a call that has ended.
      call.stop(new NarborError("ERR_UNAVAILABLE", "The reader has stopped"));
      call[Symbol.dispose]();
    }
  }

  /**
   * A stream of messages, one answer when all have been sent. The source is read once and closed on every way out; if it fails, the call is
   * cancelled, and that error comes out. An array is sent again when the server cannot be reached; a stream is not, since it can be read but once.
   */
  async clientStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: AsyncIterable<ToSend<I>> | Iterable<ToSend<I>>,
    options: RpcOptions = {},
  ): Promise<Received<O>> {
    const attempt = async (): Promise<Received<O>> => await this.#sendAll(method, requests, options);
    return Array.isArray(requests) ? await this.retrying(options, attempt) : await attempt();
  }

  /** End what is under way with ERR_CLOSED. */
  async close(): Promise<void> {
    this.#closed.abort(new NarborError("ERR_CLOSED", "The store is closed"));
    const client = await this.#client?.catch(() => undefined);
    client?.close();
  }

  async #sendAll<I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    requests: AsyncIterable<ToSend<I>> | Iterable<ToSend<I>>,
    options: RpcOptions,
  ): Promise<Received<O>> {
    const { encode } = rpcCodec(method.input);
    using call = await this.#begin(method, options);
    let isAnswered = false;
    const { answer, stream } = startClientStream(call, () => {
      isAnswered = true;
    });
    call.cancels({ cancel: () => spoilAndCancel(stream) });
    let isSent = false;
    const send = async (): Promise<void> => {
      call.pause();
      for await (const request of abortable(requests, call.signal)) {
        call.resume();
        await untilAborted(new Promise<void>((resolve) => stream.write(asBuffer(encode(request)), () => resolve())), call.signal);
        call.pause();
        if (isAnswered) return;
      }
      isSent = true;
      call.resume();
      stream.end();
    };
    const sending = send();
    try {
      // Whichever comes first: the source fails, or the server answers, which before the end is most likely an error.
      const bytes = await call.outcome(Promise.race([sending.then(() => answer), answer]));
      if (!isSent) throw new NarborError("ERR_UNAVAILABLE", `${this.address.text}: ${method.name} was answered before all was sent`);
      return call.read(method, bytes);
    } catch (error) {
      call.stop(error);
      await sending.catch(() => undefined);
      throw error;
    }
  }

  async #begin(method: DescMethod, options: RpcOptions): Promise<OpenCall> {
    this.check(options);
    this.#client ??= this.#connect();
    const client = await this.#client.catch((error: unknown) => {
      this.#client = undefined;
      throw error;
    });
    this.check(options);
    return new OpenCall(client, pathOf(method, options.family ?? "snix"), this.address, this.#closed.signal, options.signal);
  }

  async #connect(): Promise<Client> {
    const { target, tls } = this.address;
    return new Client(target, tls === undefined ? credentials.createInsecure() : await channelCredentials(tls, this.address), {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": -1,
      "grpc-node.flow_control_window": WINDOW_BYTES,
      // It has its own idea of when to connect again, which begins at a second.
      "grpc.initial_reconnect_backoff_ms": FIRST_PAUSE_MILLISECONDS,
      "grpc.min_reconnect_backoff_ms": FIRST_PAUSE_MILLISECONDS,
      "grpc.max_reconnect_backoff_ms": LONGEST_PAUSE_MILLISECONDS,
      "grpc.keepalive_time_ms": 60_000,
      // On a slow line the answer comes behind all that windows let the server send. What is waited for has a deadline of its own.
      "grpc.keepalive_timeout_ms": 300_000,
      "grpc.enable_channelz": 0,
      // grpc-js would go through the proxy that variables name, to this machine too, and say nothing of it.
      "grpc.enable_http_proxy": 0,
      // What is tried again is decided here.
      "grpc.enable_retries": 0,
      "grpc.service_config_disable_resolution": 1,
    });
  }

  /** Do it again when the server cannot be reached, as often as calls are made again. */
  async retrying<T>(options: CallOptions | undefined, attempt: () => Promise<T>): Promise<T> {
    for (let attempts = 1; ; attempts++) {
      try {
        return await attempt();
      } catch (error) {
        if (attempts >= ATTEMPTS || !isUnreachable(error)) throw error;
        await this.#pause(attempts, options);
      }
    }
  }

  /** With jitter, so that many clients of a server that comes back do not come all at once. */
  async #pause(attempts: number, options: CallOptions | undefined): Promise<void> {
    using stop = linkSignal(options?.signal);
    const close = (): void => stop.abort(this.#closed.signal.reason);
    this.#closed.signal.addEventListener("abort", close, { once: true });
    const milliseconds = Math.min(LONGEST_PAUSE_MILLISECONDS, FIRST_PAUSE_MILLISECONDS * 2 ** (attempts - 1)) * (0.5 + Math.random() / 2);
    try {
      this.check(options);
      await untilAborted(new Promise((resolve) => setTimeout(resolve, milliseconds)), stop.signal);
    } finally {
      this.#closed.signal.removeEventListener("abort", close);
    }
  }
}

/** How long a call that is cut off may take to say so. */
const SPOILING_MILLISECONDS = 200;
/** No protobuf message begins like that. */
const NO_MESSAGE = Buffer.of(0x07);

/**
 * Node (20 to 26) ends a stream that is cancelled before it resets it, and a server that is quick takes what it has for the whole. So what is cut
 * off ends in something that no server can read. The call is cancelled when that is on its way: what still waits is lost then.
 */
function spoilAndCancel(stream: ClientWritableStream<Buffer>): void {
  const cancel = (): void => stream.cancel();
  if (stream.writableEnded || stream.destroyed) {
    cancel();
    return;
  }
  // A server that takes nothing would never get it.
  const timer = setTimeout(cancel, SPOILING_MILLISECONDS).unref();
  stream.write(NO_MESSAGE, () => {
    clearTimeout(timer);
    cancel();
  });
}

function startClientStream({ client, path }: OpenCall, onAnswer: () => void): { readonly answer: Promise<Buffer>; readonly stream: ClientWritableStream<Buffer> } {
  const { promise, resolve, reject } = deferred<Buffer>();
  // Whoever sends hears of it when it next looks.
  promise.catch(() => undefined);
  const stream = client.makeClientStreamRequest<Buffer, Buffer>(path, identity, identity, new Metadata(), {}, (error, bytes) => {
    onAnswer();
    if (error === null) resolve(bytes ?? Buffer.alloc(0));
    else reject(error);
  });
  return { answer: promise, stream };
}

function pathOf({ parent, name }: DescMethod, family: ServiceFamily): string {
  return `/${parent.typeName.replace(/^snix\./, `${family}.`)}/${name}`;
}

function identity(bytes: Buffer): Buffer {
  return bytes;
}

/** A call that is under way, from the client's side. */
import { setMaxListeners } from "node:events";
import type { DescMessage } from "@bufbuild/protobuf";
import type { Client, ServiceError } from "@grpc/grpc-js";
import { untilAborted } from "../../concurrency/until-aborted.ts";
import { NarborError, errorMessage } from "../../errors.ts";
import type { Received } from "../../proto/rpc-codec.ts";
import { rpcCodec } from "../../proto/rpc-codec.ts";
import { ERROR_CODE_TRAILER, RPC_STATUS, rpcError } from "../../proto/rpc-status.ts";
import type { GrpcAddress } from "./grpc-address.ts";
import { explainStatus, explainUnreachable } from "./unreachable.ts";

/** It is stopped by signals, by the channel's closing, and when nothing happens for too long. */
export class OpenCall implements Disposable {
  readonly client: Client;
  readonly path: string;
  readonly signal: AbortSignal;
  readonly #stop = new AbortController();
  readonly #address: GrpcAddress;
  readonly #parents: readonly AbortSignal[];
  readonly #follow = (event: Event): void => this.stop((event.target as AbortSignal).reason);
  #timer: NodeJS.Timeout | undefined;
  #deadline = 0;

  constructor(client: Client, path: string, address: GrpcAddress, closed: AbortSignal, signal: AbortSignal | undefined) {
    this.client = client;
    this.path = path;
    this.#address = address;
    this.signal = this.#stop.signal;
    this.#parents = signal === undefined ? [closed] : [closed, signal];
    for (const parent of this.#parents) {
      // Hundreds of calls may follow one signal; that is no leak.
      setMaxListeners(0, parent);
      parent.addEventListener("abort", this.#follow, { once: true });
    }
    this.resume();
  }

  stop(reason: unknown): void {
    if (!this.signal.aborted) this.#stop.abort(reason);
  }

  /** What `stub` began is cancelled when this call is stopped. */
  cancels(stub: { cancel(): void }): void {
    const cancel = (): void => {
      stub.cancel();
      // A call that is cancelled in the turn it begins is begun all the same by grpc-js (1.14.7), and never ends at the server.
      setImmediate(() => stub.cancel());
    };
    this.signal.addEventListener("abort", cancel, { once: true });
  }

  /** We wait for ourselves now. Returns how many milliseconds the server had left. */
  pause(): number {
    clearTimeout(this.#timer);
    return Math.max(0, this.#deadline - performance.now());
  }

  /** We wait for the server now. @param milliseconds how long; a whole new time unless given */
  resume(milliseconds = this.#address.timeoutMilliseconds): void {
    clearTimeout(this.#timer);
    const { text, timeoutMilliseconds } = this.#address;
    this.#deadline = performance.now() + milliseconds;
    this.#timer = setTimeout(
      () => this.stop(new NarborError("ERR_UNAVAILABLE", `${text} has neither sent nor taken anything for ${timeoutMilliseconds / 1000} s`)),
      milliseconds,
    );
  }

  /** What the server's answer comes to. @throws why the call was stopped; what the server said, as an error of ours */
  async outcome<T>(answer: Promise<T>): Promise<T> {
    try {
      return await untilAborted(answer, this.signal);
    } catch (error) {
      this.signal.throwIfAborted();
      if (isServiceError(error)) throw this.#toError(error);
      // grpc-js has no status for an answer that contradicts itself, and makes an error of nothing.
      if (error instanceof Error && error.message.startsWith("undefined undefined: ")) throw new NarborError("ERR_STORE", `${this.#address.text} answered in something that is not gRPC`, { cause: error });
      throw error;
    }
  }

  /** An answer's bytes as a message. @throws NarborError ERR_STORE: it is not the caller's fault */
  read<O extends DescMessage>(method: { readonly output: O; readonly name: string }, bytes: Uint8Array): Received<O> {
    try {
      return rpcCodec(method.output).decode(bytes);
    } catch (error) {
      throw new NarborError("ERR_STORE", `${this.#address.text} answered ${method.name} with something that is not a message: ${errorMessage(error)}`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    this.pause();
    for (const parent of this.#parents) parent.removeEventListener("abort", this.#follow);
  }

  #toError(error: ServiceError): NarborError {
    const [said] = error.metadata?.get(ERROR_CODE_TRAILER) ?? [];
    // A terminal is not the server's to write to.
    const status = statusOf(error);
    const details = (error.details === "" ? errorMessage(error) : error.details).replaceAll(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
    // The sentence is complete when it comes from one of ours; all others are told where it comes from.
    const message =
      status === RPC_STATUS.UNAVAILABLE && said === undefined
        ? `Cannot reach ${this.#address.text}: ${explainUnreachable(details, this.#address)}`
        : `${this.#address.text}: ${explainStatus(details)}`;
    return rpcError(status, said?.toString(), message, error);
  }
}

/** Only what the server's side failed with counts: a source's error is not tried again. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof NarborError && isServiceError(error.cause) && statusOf(error.cause) === RPC_STATUS.UNAVAILABLE;
}

/** What is between us and the server may reset a call. */
function statusOf({ code, details }: ServiceError): number {
  const status: number = code;
  return status === RPC_STATUS.INTERNAL && details.startsWith("Received RST_STREAM ") ? RPC_STATUS.UNAVAILABLE : status;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

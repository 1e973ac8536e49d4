/** One request and its answer: what handlers need of node:http, and nothing of it that can be used wrongly. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { nextTurn } from "../concurrency/next-turn.ts";
import { NarborError } from "../errors.ts";

/** Bytes of a body that are handled before others have their turn. */
const BYTES_PER_TURN = 64 * 1024;

/** The answer of a handler. A body that is a stream must come with its length where that is known; its pieces may change when the next is asked for. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  /** Headers that are known when the body has gone out; such a body has no Content-Length. */
  readonly trailers?: { readonly names: readonly string[]; readonly values: () => Promise<Readonly<Record<string, string>>> };
}

/** A request. */
export interface HttpRequest {
  readonly method: string;
  /** Decoded, without the leading slash. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  /** Fires when the client has gone. */
  readonly signal: AbortSignal;
  /** The body; read once. @throws NarborError ERR_TIMEOUT when nothing comes for too long, ERR_INVALID when it is cut off */
  readonly body: AsyncIterable<Uint8Array>;
}

/** A short text. */
export function textAnswer(status: number, text: string, headers: OutgoingHttpHeaders = {}): HttpAnswer {
  return { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers }, body: text };
}

/** The body of a request. An idle client is given up; a slow one is not. */
export async function* readBody(request: IncomingMessage, idleMilliseconds: number): AsyncGenerator<Uint8Array, void, undefined> {
  // By hand and not with `for await`: that destroys the socket when the reader stops early, and the answer could not be sent.
  const iterator = request.iterator({ destroyOnReturn: false });
  try {
    let untilTurn = BYTES_PER_TURN;
    for (;;) {
      const result = await nextWithin(iterator, idleMilliseconds);
      if (result.done === true) break;
      const bytes = result.value as Uint8Array;
      // The kernel may have megabytes for each of many clients.
      if (untilTurn <= 0) {
        await nextTurn();
        untilTurn = BYTES_PER_TURN;
      }
      untilTurn -= bytes.length;
      yield bytes;
    }
    if (!request.complete) throw cutOff();
  } catch (error) {
    throw error instanceof NarborError ? error : cutOff(error);
  } finally {
    // Not waited for: while nothing comes it does not answer.
    iterator.return?.().catch(() => undefined);
  }
}

function nextWithin(iterator: AsyncIterator<unknown>, milliseconds: number): Promise<IteratorResult<unknown>> {
  return new Promise((resolve, reject) => {
    const idle = (): void => reject(new NarborError("ERR_TIMEOUT", `Nothing came of the request's body for ${milliseconds / 1000} s`));
    // What is left of a body that was answered may never come, nor an end of it: no one waits for that any more.
    const timer = setTimeout(idle, milliseconds).unref();
    iterator
      .next()
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}

function cutOff(cause?: unknown): NarborError {
  return new NarborError("ERR_INVALID", "The request's body was cut off", { cause });
}

/** Write an answer, with backpressure. A body that fails after the headers went out breaks the connection: the client must not take it for whole. */
export async function writeAnswer(response: ServerResponse, answer: HttpAnswer, isHead: boolean, idleMilliseconds: number): Promise<void> {
  const { status, body, trailers } = answer;
  const headers = trailers === undefined ? (answer.headers ?? {}) : { ...answer.headers, trailer: trailers.names.join(", ") };
  if (body === undefined) {
    response.writeHead(status, headers).end();
    return;
  }
  if (typeof body === "string" || body instanceof Uint8Array) {
    response.writeHead(status, { "content-length": Buffer.byteLength(body), ...headers });
    response.end(isHead ? undefined : body);
    return;
  }
  response.writeHead(status, headers);
  if (isHead) {
    response.end();
    return;
  }
  try {
    for await (const chunk of body) {
      if (response.destroyed) return;
      await send(chunk, response, idleMilliseconds);
    }
    if (trailers !== undefined) response.addTrailers(await trailers.values());
    response.end();
  } catch (error) {
    response.destroy();
    throw error;
  }
}

/** Resolves when the client has taken it, so that no one looks at it any more, or has gone; one that takes nothing for too long is let go. */
function send(bytes: Uint8Array, response: ServerResponse, idleMilliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => response.destroy(), idleMilliseconds);
    const done = (): void => {
      clearTimeout(timer);
      response.off("close", done);
      resolve();
    };
    response.on("close", done);
    response.write(bytes, done);
  });
}

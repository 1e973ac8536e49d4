/** One request and its answer: what handlers need of node:http, and nothing of it that can be used wrongly. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";

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

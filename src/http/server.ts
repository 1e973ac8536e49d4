/** The HTTP server: node:http around an `App`. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { NarborError } from "../errors.ts";
import type { App } from "./app.ts";
import { textAnswer, writeAnswer } from "./exchange.ts";
import { RequestBody } from "./request-body.ts";
import { watchPreface } from "./connection-preface.ts";
import { toHttpError } from "./http-error.ts";

export interface HttpServerOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly app: App;
  /** Is given connections that speak HTTP/2; without it they are refused. */
  readonly onHttp2?: (connection: Socket) => void;
  /** Told of faults of ours: what was asked, and what went wrong. */
  readonly onFault?: (request: string, error: unknown) => void;
  /** A body that brings nothing for so long, or a reader that takes nothing, is given up. @default 60000 */
  readonly idleMilliseconds?: number;
}

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  /**
   * Take no more connections, let what is under way end, and then resolve. What has not ended after `graceMilliseconds` is cut off.
   */
  stop(graceMilliseconds: number): Promise<void>;
}

const DEFAULT_IDLE_MILLISECONDS = 60_000;
/** Nix keeps a connection for up to 90 s and must not be hung up on first. */
const KEEP_ALIVE_MILLISECONDS = 100_000;
/** How long a server that stops waits for a request whose head has not come. */
const HALF_A_HEAD_MILLISECONDS = 1000;
const NO_QUERY = new URLSearchParams();
/** How often clients are looked for that are in the middle of a request's head. */
const MAX_CHECKING_MILLISECONDS = 5_000;

/** @throws NarborError ERR_UNAVAILABLE when the address cannot be listened at */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const idleMilliseconds = options.idleMilliseconds ?? DEFAULT_IDLE_MILLISECONDS;
  let stopping = false;
  const refused = new Set<IncomingMessage>();
  /** How many requests are under way on each connection. For node:http one is also busy that has sent half of a request's head, and may never send the rest. */
  const underway = new Map<Socket, number>();
  const timeouts = { keepAliveTimeout: KEEP_ALIVE_MILLISECONDS, headersTimeout: idleMilliseconds, connectionsCheckingInterval: Math.min(idleMilliseconds, MAX_CHECKING_MILLISECONDS), requestTimeout: 0 };
  const server = createServer(timeouts, (request, response) => {
    const { socket } = request;
    underway.set(socket, (underway.get(socket) ?? 0) + 1);
    const client = new Client();
    const body = new RequestBody(request, idleMilliseconds);
    response.on("close", () => {
      if (!socket.destroyed) underway.set(socket, (underway.get(socket) ?? 1) - 1);
      if (!response.writableFinished) client.leave();
      // A client that was told to keep the connection need not be waited for. It is idle when node has been through with this one.
      if (stopping) setImmediate(() => server.closeIdleConnections());
    });
    if (stopping) response.setHeader("connection", "close");
    void answerRequest(request, response, body, client, options, idleMilliseconds).finally(() => finishRequest(request, response, body, refused, idleMilliseconds));
  });
  server.on("connection", (connection: Socket) => {
    underway.set(connection, 0);
    connection.on("close", () => underway.delete(connection));
  });
  const undecided = options.onHttp2 === undefined ? undefined : divertHttp2(server, options.onHttp2, idleMilliseconds);
  await listen(server, options.host, options.port);
  const { port } = server.address() as AddressInfo;
  return {
    host: options.host,
    port,
    stop: async (graceMilliseconds) => {
      stopping = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      for (const connection of undecided ?? []) connection.destroy();
      for (const request of refused) request.destroy();
      const timers = [
        setTimeout(() => {
          for (const [connection, requests] of underway) if (requests === 0) connection.destroy();
        }, HALF_A_HEAD_MILLISECONDS),
        setTimeout(() => server.closeAllConnections(), graceMilliseconds),
      ];
      await closed;
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/**
 * Hand connections that begin as HTTP/2 to someone else. The server's own listener, which is what makes a connection HTTP/1.1, gets the others.
 *
 * @returns connections that have said nothing yet
 */
function divertHttp2(server: Server, onHttp2: (connection: Socket) => void, idleMilliseconds: number): ReadonlySet<Socket> {
  const undecided = new Set<Socket>();
  const http1 = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (connection: Socket) => {
    undecided.add(connection);
    connection.on("close", () => undecided.delete(connection));
    watchPreface(connection, idleMilliseconds, (version) => {
      undecided.delete(connection);
      if (version === "http2") {
        // node:http lets a client that has ended its side go on reading. HTTP/2 has no such thing, and would never hear that one is gone.
        connection.allowHalfOpen = false;
        onHttp2(connection);
      } else for (const listener of http1) listener.call(server, connection);
    });
  });
  return undecided;
}

/** Whoever has asked for something. The signal is made when someone wants it: for most requests no one does, and it takes as long as all else that is made for one. */
class Client {
  #gone: AbortController | undefined;
  hasGone = false;

  /** Fires when the client has gone. */
  get signal(): AbortSignal {
    if (this.#gone === undefined) {
      this.#gone = new AbortController();
      if (this.hasGone) this.leave();
    }
    return this.#gone.signal;
  }

  leave(): void {
    this.hasGone = true;
    this.#gone?.abort(new NarborError("ERR_UNAVAILABLE", "The client has gone"));
  }
}

async function answerRequest(request: IncomingMessage, response: ServerResponse, body: RequestBody, client: Client, options: HttpServerOptions, idleMilliseconds: number): Promise<void> {
  const isHead = request.method === "HEAD";
  try {
    const url = parseTarget(request.url ?? "/");
    const answer = await options.app({
      method: request.method ?? "GET",
      path: url.path,
      query: url.query,
      headers: request.headers,
      get signal() {
        return client.signal;
      },
      body,
    });
    await writeAnswer(response, answer, isHead, idleMilliseconds);
  } catch (error) {
    const { status, message } = toHttpError(error);
    // A body that we break off is our fault, whatever broke it.
    if ((status >= 500 || response.headersSent) && !client.hasGone) options.onFault?.(`${request.method} ${request.url}`, error);
    // A client that went quiet in the middle of a body cannot be asked anything more on that connection.
    const headers = status === 408 ? { connection: "close" } : {};
    if (!response.headersSent && !response.destroyed) await writeAnswer(response, textAnswer(status, message, headers), isHead, idleMilliseconds);
  }
}

/**
 * What is left of a body that was refused is let go by node, so that the client gets to read the answer; one that goes on sending
 * for too long is cut off.
 *
 * @param refused holds it until then: who stops the server need not wait for it
 */
function finishRequest(request: IncomingMessage, response: ServerResponse, body: RequestBody, refused: Set<IncomingMessage>, idleMilliseconds: number): void {
  const { socket } = request;
  if (request.complete || request.destroyed || socket.destroyed) return;
  refused.add(request);
  const timer = setTimeout(() => request.destroy(), idleMilliseconds);
  const done = (): void => {
    refused.delete(request);
    clearTimeout(timer);
    socket.off("close", done);
  };
  request.on("end", done);
  request.on("close", done);
  // A request that was answered is not told when its connection closes.
  socket.on("close", done);
  if (response.writableEnded) body.drop();
}

function parseTarget(target: string): { readonly path: string; readonly query: URLSearchParams } {
  // A proxy's client names the whole URL; what is meant is the path.
  const local = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?]*/i, "");
  const queryStart = local.indexOf("?");
  const path = queryStart === -1 ? local : local.slice(0, queryStart);
  try {
    return { path: (path.includes("%") ? decodeURIComponent(path) : path).replace(/^\/+/, ""), query: queryStart === -1 ? NO_QUERY : new URLSearchParams(local.slice(queryStart + 1)) };
  } catch {
    throw new NarborError("ERR_INVALID", "Cannot read the URL: bad percent-encoding");
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const what = error.code === "EADDRINUSE" ? "the port is in use" : error.message;
      reject(new NarborError("ERR_UNAVAILABLE", `Cannot listen at ${host}:${port}: ${what}`, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
}

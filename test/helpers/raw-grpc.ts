/** gRPC spoken by hand over node:http2: neither our client and server nor grpc-js, to be held against both. */
import type { ClientHttp2Session, ClientHttp2Stream, Http2Server, IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { connect, createServer } from "node:http2";
import type { AddressInfo } from "node:net";

/** gRPC's statuses by the numbers that go over the wire. */
export const STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
} as const;

/** A message with its prefix: not compressed, four bytes of length. */
export function frameOf(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** The messages in a body, and what is left of one that is not whole. */
export function unframe(body: Buffer): { readonly messages: Buffer[]; readonly rest: Buffer } {
  const messages: Buffer[] = [];
  let rest = body;
  while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
    if (rest[0] !== 0) throw new Error("a message is compressed");
    const end = 5 + rest.readUInt32BE(1);
    messages.push(rest.subarray(5, end));
    rest = rest.subarray(end);
  }
  return { messages, rest };
}

/** How a call ended. */
export interface RawAnswer {
  readonly messages: Buffer[];
  /** From the trailers; -1 when there were none. */
  readonly status: number;
  /** `grpc-message` as it went over the wire. */
  readonly message: string;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  /** HTTP/2's code when the stream was reset. */
  readonly rstCode: number | undefined;
}

/** A call that is under way. */
export interface RawCall {
  readonly stream: ClientHttp2Stream;
  readonly answer: Promise<RawAnswer>;
  /** Send one message. */
  send(message: Uint8Array): void;
}

/** A connection to a gRPC server. */
export class RawGrpcClient implements AsyncDisposable {
  readonly session: ClientHttp2Session;

  constructor(port: number, options: Parameters<typeof connect>[1] = {}) {
    this.session = connect(`http://127.0.0.1:${port}`, options);
    this.session.on("error", () => undefined);
  }

  /** Begin a call; its messages are the caller's to send, and its end is to say. */
  begin(path: string, headers: OutgoingHttpHeaders = {}): RawCall {
    const stream = this.session.request({ ":method": "POST", ":path": path, te: "trailers", "content-type": "application/grpc+proto", ...headers });
    return { stream, answer: readAnswer(stream), send: (bytes) => void stream.write(frameOf(bytes)) };
  }

  /** A call of these messages, from beginning to end. */
  async call(path: string, messages: readonly Uint8Array[], headers: OutgoingHttpHeaders = {}): Promise<RawAnswer> {
    const { stream, answer } = this.begin(path, headers);
    stream.end(Buffer.concat(messages.map(frameOf)));
    return await answer;
  }

  /** The one message of a call that must go well. */
  async ask(path: string, ...messages: readonly Uint8Array[]): Promise<Buffer> {
    const answer = await this.call(path, messages);
    if (answer.status !== 0 || answer.messages.length !== 1) throw new Error(`${path}: status ${answer.status}, ${answer.messages.length} messages, ${answer.message}`);
    return answer.messages[0] as Buffer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.session.destroy();
  }
}

async function readAnswer(stream: ClientHttp2Stream): Promise<RawAnswer> {
  const body: Buffer[] = [];
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  stream.on("response", (found) => (headers = found));
  stream.on("trailers", (found: IncomingHttpHeaders) => (trailers = found));
  stream.on("data", (data: Buffer) => body.push(data));
  stream.on("error", () => undefined);
  // A server may have said all before the client has.
  await new Promise<void>((resolve) => stream.on("end", () => resolve()).on("close", () => resolve()));
  const { messages, rest } = unframe(Buffer.concat(body));
  // An answer that is nothing but a status has it in the headers.
  const ending = "grpc-status" in trailers ? trailers : headers;
  const status = "grpc-status" in ending ? Number(ending["grpc-status"]) : -1;
  if (status === 0 && rest.length > 0) throw new Error(`${rest.length} bytes are left of a message`);
  return { messages, status, message: String(ending["grpc-message"] ?? ""), headers, trailers: ending, rstCode: stream.rstCode === 0 ? undefined : stream.rstCode };
}

/** What a hand-made server was asked. */
export interface RawRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly messages: readonly Buffer[];
}

/** What it is to answer: messages and a status; or anything at all, done to the stream itself. */
export type RawReply = { readonly messages?: readonly Uint8Array[]; readonly status?: number; readonly message?: string } | ((stream: ServerHttp2Stream) => void);

export const UNIMPLEMENTED: RawReply = { status: STATUS.UNIMPLEMENTED, message: "unknown" };

/** A server that writes down what it is asked, and answers as it is told. */
export class RawGrpcServer implements AsyncDisposable {
  readonly requests: RawRequest[] = [];
  readonly port: number;
  readonly #server: Http2Server;
  readonly #sessions: ReadonlySet<{ destroy(): void }>;

  private constructor(server: Http2Server, requests: RawRequest[], sessions: ReadonlySet<{ destroy(): void }>) {
    this.#server = server;
    this.#sessions = sessions;
    this.requests = requests;
    this.port = (server.address() as AddressInfo).port;
  }

  /** @param reply called when a request has come in whole */
  static async open(reply: (request: RawRequest) => RawReply): Promise<RawGrpcServer> {
    const requests: RawRequest[] = [];
    const sessions = new Set<{ destroy(): void }>();
    const server = createServer({ settings: { initialWindowSize: 8 * 1024 * 1024 } });
    server.on("session", (session) => {
      sessions.add(session);
      session.on("close", () => sessions.delete(session));
      session.on("error", () => undefined);
    });
    server.on("stream", (stream, headers) => {
      const body: Buffer[] = [];
      stream.on("error", () => undefined);
      stream.on("data", (data: Buffer) => body.push(data));
      stream.on("end", () => {
        const request = { path: String(headers[":path"]), headers, messages: unframe(Buffer.concat(body)).messages };
        requests.push(request);
        sendReply(stream, reply(request));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new RawGrpcServer(server, requests, sessions);
  }

  get address(): string {
    return `grpc://127.0.0.1:${this.port}`;
  }

  /** Requests of a method, by the end of its path. */
  asked(method: string): readonly RawRequest[] {
    return this.requests.filter(({ path }) => path.endsWith(method));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) session.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function sendReply(stream: ServerHttp2Stream, reply: RawReply): void {
  if (stream.destroyed) return;
  if (typeof reply === "function") {
    reply(stream);
    return;
  }
  const { messages = [], status = 0, message = "" } = reply;
  const ending = { "grpc-status": String(status), ...(message !== "" && { "grpc-message": message }) };
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(ending));
  stream.end(Buffer.concat(messages.map(frameOf)));
}

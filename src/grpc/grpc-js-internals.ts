/**
 * The four things that grpc-js (1.14.7) has no way to ask for. All are reached through members that are not public, which is why its version
 * is an exact one, and why tests hold that windows are wide and that streams which are cut off are told from those that end.
 */
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Server, ServerCredentials } from "@grpc/grpc-js";

/** How much clients may send ahead of what is read, in bytes. */
export interface ReceiveWindows {
  readonly stream: number;
  readonly connection: number;
}

/** Set the windows of every connection to come; HTTP/2's own 64 KiB make an upload wait for a round trip every 64 KiB. */
export function widenWindows(server: Server, windows: ReceiveWindows): void {
  const maker = server as unknown as { createHttp2Server(credentials: ServerCredentials): Http2Server };
  const create = maker.createHttp2Server.bind(server);
  maker.createHttp2Server = (credentials) => {
    const http2Server = create(credentials);
    http2Server.on("session", (session: ServerHttp2Session) => {
      session.settings({ initialWindowSize: windows.stream });
      session.setLocalWindowSize(windows.connection);
    });
    return http2Server;
  };
}

/** The HTTP/2 stream of a call: it knows whether a client's stream was ended or cut off, which look the same to a handler at first. */
export function http2StreamOf(call: object): ServerHttp2Stream {
  const { stream } = (call as { readonly call: { readonly stream: ServerHttp2Stream } }).call;
  if (typeof stream.close !== "function") throw new TypeError("grpc-js has its streams elsewhere");
  return stream;
}

/** What gathers a call's messages, as far as it is used here. */
export interface Gathering {
  readonly stream: ServerHttp2Stream;
  readonly decoder: {
    /** Largest message, in bytes. */
    maxReadMessageLength: number;
    /** `READING_MESSAGE`, or that it is between or before messages. */
    readonly readState: number;
    /** Bytes of the message that is read. */
    readonly readMessageSize: number;
    /** What there is of it. */
    readPartialMessage: Buffer[];
    /** Takes some bytes and gives the messages, with 5 bytes before each, that are whole now. @throws Error for one that is too large */
    write: (data: Buffer) => Buffer[];
  };
}

/** A decoder's state when it knows how long a message is, and does not have all of it. */
export const READING_MESSAGE = 2;

/** What gathers the messages of a call that an interceptor is given. */
export function gatheringOf(call: object): Gathering {
  const { stream, decoder } = call as Gathering;
  const numbers = [decoder.maxReadMessageLength, decoder.readState, decoder.readMessageSize];
  if (typeof stream.close !== "function" || typeof decoder.write !== "function" || numbers.some((number) => typeof number !== "number") || !Array.isArray(decoder.readPartialMessage)) {
    throw new TypeError("grpc-js has its decoder elsewhere");
  }
  return { stream, decoder };
}

/** Whether a client's stream has ended within a message, of which grpc-js says nothing. */
export function endsWithinMessage(call: object): boolean {
  const { readState } = (call as { readonly call: { readonly decoder: { readonly readState: number } } }).call.decoder;
  if (typeof readState !== "number") throw new TypeError("grpc-js has its decoder elsewhere");
  return readState !== 0;
}

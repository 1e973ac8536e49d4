/** How those who bound what calls hold hear that a handler is done with a message: grpc-js only tells when the next one comes, which may be never. */
import type { ServerHttp2Stream } from "node:http2";

const listeners = new WeakMap<ServerHttp2Stream, () => void>();

/** @param listener called when the handler of the stream's call waits for its next message */
export function onMessageHandled(stream: ServerHttp2Stream, listener: () => void): void {
  listeners.set(stream, listener);
}

export function messageHandled(stream: ServerHttp2Stream): void {
  listeners.get(stream)?.();
}

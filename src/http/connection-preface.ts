/** One port for HTTP/1.1 and for HTTP/2 with prior knowledge: a connection's first bytes tell. */
import type { Socket } from "node:net";

/** How a client begins HTTP/2 (RFC 9113, section 3.4), as far as it must be seen: no method of HTTP/1.1 is called PRI. */
const PREFACE = Buffer.from("PRI ");

export type HttpVersion = "http1" | "http2";

/**
 * Wait for a connection's first bytes, tell what it speaks, and put them back. What is neither is for HTTP/1.1 to refuse.
 *
 * @param decide is called once, unless the connection closes before it has said enough
 */
export function watchPreface(socket: Socket, idleMilliseconds: number, decide: (version: HttpVersion) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const onTimeout = (): void => void socket.destroy();
  const onEnd = (): void => void socket.destroy();
  const onData = (bytes: Buffer): void => {
    seen = seen.length === 0 ? bytes : Buffer.concat([seen, bytes]);
    const length = Math.min(seen.length, PREFACE.length);
    const matches = seen.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (matches && seen.length < PREFACE.length) return;
    stop();
    socket.pause();
    socket.unshift(seen);
    decide(matches ? "http2" : "http1");
    // HTTP/2 has taken what was put back, and reads by itself.
    if (matches) return;
    socket.resume();
    // node:http of Node.js 20 pauses it while it is being resumed, for a body that no one reads yet, and then it reads all the same: all of the body, into memory.
    setImmediate(() => void (socket.isPaused() && socket.emit("pause")));
  };
  const stop = (): void => {
    socket.off("data", onData);
    socket.off("timeout", onTimeout);
    socket.off("end", onEnd);
    socket.off("error", onEnd);
    socket.setTimeout(0);
  };
  socket.on("data", onData);
  socket.on("timeout", onTimeout);
  socket.on("end", onEnd);
  socket.on("error", onEnd);
  socket.setTimeout(idleMilliseconds);
}

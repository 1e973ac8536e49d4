/** Bodies of requests, as handlers read them. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { HttpRequest } from "../../src/http/exchange.ts";
import { textAnswer } from "../../src/http/exchange.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { startHttpServer } from "../../src/http/server.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { deferred, eventually, within } from "../helpers/promises.ts";

const KIB = 1024;
const BODY = sampleBytes(3_000_000, 5);

/** A server that reads every body with `read` and answers with what that comes to. */
async function serveBodies(read: (body: HttpRequest["body"]) => Promise<string>, idleMilliseconds = 60_000): Promise<AsyncDisposable & { readonly port: number }> {
  const server: HttpServer = await startHttpServer({ host: "127.0.0.1", port: 0, idleMilliseconds, app: async ({ body }) => textAnswer(200, await read(body)) });
  return { port: server.port, [Symbol.asyncDispose]: async () => await server.stop(0) };
}

async function connectTo(port: number, length: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(`PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: ${length}\r\n\r\n`);
  return socket;
}

async function answerOf(socket: Socket): Promise<string> {
  let answer = "";
  for await (const bytes of socket) {
    answer += String(bytes);
    if (/\r\n\r\n[^]+/.test(answer)) break;
  }
  return answer;
}

test("a body comes whole, and each piece stays as it is until the next but one is asked for", async () => {
  const pieces: Buffer[] = [];
  const lengths: number[] = [];
  await using server = await serveBodies(async (body) => {
    let before: Uint8Array | undefined;
    for await (const piece of body) {
      if (before !== undefined) pieces.push(Buffer.from(before));
      before = piece;
      lengths.push(piece.length);
      // More comes meanwhile.
      await sleep(2);
    }
    if (before !== undefined) pieces.push(Buffer.from(before));
    return "read";
  });
  const socket = await connectTo(server.port, BODY.length);
  socket.write(BODY);
  expect(await within(answerOf(socket))).toContain("\r\n\r\nread");
  expectBytes(Buffer.concat(pieces), BODY);
  // What has come together is given together, up to a limit and what came last.
  expect(Math.max(...lengths)).toBeGreaterThan(128 * KIB);
  expect(Math.max(...lengths)).toBeLessThan(320 * KIB);
});

test("bodies that are read side by side come in small pieces", async () => {
  const lengths: number[] = [];
  const both = deferred();
  let begun = 0;
  await using server = await serveBodies(async (body) => {
    for await (const piece of body) {
      // From the second piece on, and while both are read: what came before has come alone.
      if (begun === 2) lengths.push(piece.length);
      else if (++begun === 2) both.resolve();
      await both.promise;
      await sleep(2);
    }
    return "read";
  });
  const sockets = [await connectTo(server.port, BODY.length), await connectTo(server.port, BODY.length)];
  for (const socket of sockets) socket.write(BODY.subarray(0, 1000));
  await both.promise;
  for (const socket of sockets) socket.write(BODY.subarray(1000));
  for (const answer of await Promise.all(sockets.map(answerOf))) expect(answer).toContain("\r\n\r\nread");
  const large = lengths.filter((length) => length > 128 * KIB);
  // The one that ends last is alone in the end.
  expect(large.length).toBeLessThan(lengths.length / 4);
});

test("a reader that takes longer for a piece than a client may be idle is no idle client", async () => {
  await using server = await serveBodies(async (body) => {
    let size = 0;
    for await (const piece of body) {
      size += piece.length;
      if (size < 200) await sleep(300);
    }
    return String(size);
  }, 100);
  const socket = await connectTo(server.port, 200);
  socket.write(BODY.subarray(0, 100));
  await sleep(250);
  socket.write(BODY.subarray(100, 200));
  expect(await within(answerOf(socket))).toContain("\r\n\r\n200");
});

test("a client that stops in the middle of a body is given up with 408, though it was quick before", async () => {
  await using server = await serveBodies(async (body) => {
    for await (const _piece of body);
    return "read";
  }, 100);
  const socket = await connectTo(server.port, 1000);
  for (let sent = 0; sent < 5; sent++) {
    socket.write(BODY.subarray(0, 100));
    await sleep(50);
  }
  expect(await within(answerOf(socket))).toMatch(/^HTTP\/1\.1 408 /);
});

test.for(["in the middle of a body", "before its body is read"] as const)("a client that leaves %s makes its reader fail at once", async (when) => {
  const asked = deferred();
  const failed = deferred<unknown>();
  await using server = await serveBodies(async (body) => {
    asked.resolve();
    if (when === "before its body is read") await sleep(100);
    try {
      for await (const _piece of body);
    } catch (error) {
      failed.resolve(error);
      throw error;
    }
    return "read";
  });
  const socket = await connectTo(server.port, 1000);
  socket.write(BODY.subarray(0, 100));
  await asked.promise;
  await sleep(20);
  socket.destroy();
  expect(await within(failed.promise)).toMatchObject({ code: "ERR_INVALID", message: "The request's body was cut off" });
});

test("a chunk for each byte is given on in small pieces, however many come at once", async () => {
  const lengths: number[] = [];
  await using server = await serveBodies(async (body) => {
    for await (const piece of body) {
      lengths.push(piece.length);
      // More comes meanwhile.
      if (lengths.length < 20) await sleep(2);
    }
    return "read";
  });
  const socket = connect(server.port, "127.0.0.1");
  socket.write(`PUT / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n${"1\r\nx\r\n".repeat(30_000)}0\r\n\r\n`);
  expect(await within(answerOf(socket))).toContain("\r\n\r\nread");
  expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(30_000);
  expect(Math.max(...lengths)).toBeLessThanOrEqual(64);
});

test("what is left of a body goes by when it was refused while its reader waited for more, and the next request is answered", async () => {
  let requests = 0;
  await using server = await serveBodies(async (body) => {
    if (++requests === 2) return "second";
    const pieces = body[Symbol.asyncIterator]();
    await pieces.next();
    // Reads ahead, and gives up meanwhile.
    pieces.next().catch(() => undefined);
    void pieces.return?.();
    return "refused";
  });
  const socket = await connectTo(server.port, BODY.length);
  let answers = "";
  socket.on("data", (bytes: Buffer) => void (answers += bytes.toString("latin1")));
  socket.write(BODY.subarray(0, 10));
  await within(eventually(() => answers.endsWith("refused")));
  socket.write(BODY.subarray(10));
  socket.write("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
  await within(eventually(() => answers.endsWith("second")));
  socket.destroy();
});

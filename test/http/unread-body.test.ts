/** A body that no one reads stays with its client: the kernel holds some megabytes of it, and we hold next to nothing. */
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { deferred } from "../../src/concurrency/deferred.ts";
import { textAnswer } from "../../src/http/exchange.ts";
import { startHttpServer } from "../../src/http/server.ts";
import { collect } from "../helpers/bytes.ts";

const BODY_BYTES = 64 * 1024 * 1024;
/** More than the kernel holds of a connection, on both sides. */
const KERNEL_BYTES = 24 * 1024 * 1024;
/** More than node:http takes before it stops reading. */
const BEGINS = "begins".repeat(10_000);
const HEAD = `PUT /nar HTTP/1.1\r\nhost: test\r\ncontent-length: ${BODY_BYTES}\r\n\r\n`;
const GET = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

describe.for([
  ["HTTP/1.1 alone", undefined],
  ["a port that speaks gRPC, too", () => undefined],
] as const)("with %s", ([, onHttp2]) => {
  test.for([
    ["the head and the body's beginning in one packet", [`${HEAD}${BEGINS}`]],
    ["the head in two packets", [HEAD.slice(0, 2), `${HEAD.slice(2)}${BEGINS}`]],
    ["the body behind the head", [HEAD, BEGINS]],
    ["the body behind another request", [GET, `${HEAD}${BEGINS}`]],
    ["the body in one packet with another request", [`${GET}${HEAD}${BEGINS}`]],
  ] as const)("a body that no one reads yet stays with its client: %s", async ([, packets]) => {
    const mayRead = deferred<void>();
    const asked = deferred<void>();
    const server = await startHttpServer({
      host: "127.0.0.1",
      port: 0,
      ...(onHttp2 && { onHttp2 }),
      app: async ({ method, body }) => {
        if (method === "GET") return textAnswer(200, "");
        asked.resolve();
        await mayRead.promise;
        return textAnswer(201, String((await collect(body)).length));
      },
    });
    try {
      const client = connect({ host: "127.0.0.1", port: server.port, noDelay: true });
      let answers = "";
      client.on("data", (bytes: Buffer) => void (answers += bytes.toString("latin1")));
      for (const packet of packets) {
        client.write(packet);
        await sleep(20);
      }
      client.write(Buffer.alloc(BODY_BYTES - BEGINS.length));
      await asked.promise;
      await sleep(300);
      expect(BODY_BYTES - client.writableLength).toBeLessThan(KERNEL_BYTES);
      mayRead.resolve();
      while (!answers.endsWith(String(BODY_BYTES))) await once(client, "data");
      expect(answers).toContain("HTTP/1.1 201 Created");
      client.destroy();
    } finally {
      mayRead.resolve();
      await server.stop(0);
    }
  });
});

test("a body that was answered before its end keeps no process from ending", async () => {
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    app: async ({ body }) => {
      const pieces = body[Symbol.asyncIterator]();
      await pieces.next();
      // As someone does who reads ahead, and then finds that it is not what it should be.
      pieces.next().catch(() => undefined);
      return await Promise.resolve(textAnswer(400, ""));
    },
  });
  const client = connect({ host: "127.0.0.1", port: server.port });
  client.write(`${HEAD}begins`);
  await once(client, "data");
  client.destroy();
  await server.stop(0);
  expect(timers()).toBe(before);
});

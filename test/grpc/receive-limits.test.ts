/** What a client may make a server hold with messages that are large, slow, or never whole. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { GrpcServerOptions } from "../../src/grpc/server.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { only } from "../helpers/castore-messages.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { within } from "../helpers/promises.ts";
import type { RawCall } from "../helpers/raw-grpc.ts";
import { RawGrpcClient, STATUS, frameOf } from "../helpers/raw-grpc.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const CASTORE = "/snix.castore.v1";
const CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
const LIMITS = [
  [`${CASTORE}.BlobService/Stat`, 64 * KIB],
  [`${CASTORE}.BlobService/Put`, 4 * MIB],
  [`${CASTORE}.DirectoryService/Get`, 64 * KIB],
  ["/tvix.castore.v1.DirectoryService/Put", 32 * MIB],
  ["/tvix.store.v1.PathInfoService/Put", 4 * MIB],
  [`${CAS}/FindMissingBlobs`, 4 * MIB],
  [`${CAS}/BatchUpdateBlobs`, 8 * MIB],
  ["/google.bytestream.ByteStream/Write", 4 * MIB],
  ["/grpc.health.v1.Health/Check", 64 * KIB],
] as const;

async function withServer(options: Partial<GrpcServerOptions>, work: (client: RawGrpcClient, port: number) => Promise<void>): Promise<void> {
  await using store = new MemoryStore();
  await using server = await serveGrpc(store, options);
  await using client = new RawGrpcClient(server.port);
  await work(client, server.port);
}

/** A call that has announced a message and sent the beginning of it. */
function announce(client: RawGrpcClient, path: string, size: number, sent: number): RawCall {
  const call = client.begin(path);
  call.stream.write(frameOf(Buffer.alloc(size, 0xff)).subarray(0, 5 + sent));
  return call;
}

test.for(LIMITS)("%s takes messages of up to %i bytes, and refuses a larger one when it is announced", async ([path, limit]) => {
  await withServer({}, async (client) => {
    const refused = await within(announce(client, path, limit + 1, 0).answer);
    expect(refused).toMatchObject({ status: STATUS.RESOURCE_EXHAUSTED, message: expect.stringContaining(String(limit)) as string });
    // No message of any method, but a whole one.
    expect((await within(client.call(path, [Buffer.alloc(limit, 0xff)]))).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

test("whoever has sent whole messages and goes quiet holds no room", async () => {
  await withServer({}, async (client) => {
    const calls = Array.from({ length: 40 }, () => {
      const call = client.begin(`${CASTORE}.BlobService/Put`);
      call.send(only(Buffer.alloc(4 * MIB - 100)));
      return call;
    });
    await within(client.call(`${CASTORE}.BlobService/Put`, [only(Buffer.alloc(3 * MIB))]), 5000);
    for (const call of calls) call.stream.close();
  });
});

test("messages that are not whole hold 128 MiB over all calls; others wait until there is room, and small requests do not", async () => {
  await withServer({}, async (client, port) => {
    // Node counts what waits to be sent, and begins no stream when that is much.
    await using other = new RawGrpcClient(port, { maxSessionMemory: 100 });
    const path = `${CASTORE}.DirectoryService/Put`;
    const holders = Array.from({ length: 4 }, () => announce(client, path, 32 * MIB, 100 * KIB));
    expect((await within(client.call(`${CASTORE}.BlobService/Stat`, [only(blake3(Buffer.from("none")))]))).status).toBe(STATUS.NOT_FOUND);

    const waiting = other.call(path, [Buffer.alloc(32 * MIB, 0xff)]);
    await expect(within(waiting, 500)).rejects.toThrow("Nothing happened");
    // Its messages are of one piece each.
    expectBytes(await within(client.ask(`${CASTORE}.BlobService/Put`, only("Hello "), only("World!"))), only(blake3(Buffer.from("Hello World!"))));
    expect((await within(other.call(`${CASTORE}.BlobService/Stat`, [only(blake3(Buffer.from("none")))]))).status).toBe(STATUS.NOT_FOUND);

    holders[0]?.stream.close();
    expect((await within(waiting)).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

test("no more than 64 calls wait for room; others are told to come back", async () => {
  await withServer({}, async (client) => {
    const path = `${CASTORE}.DirectoryService/Put`;
    const calls = Array.from({ length: 4 + 64 }, () => announce(client, path, 32 * MIB, 1));
    expect(await within(announce(client, path, 32 * MIB, 1).answer)).toMatchObject({ status: STATUS.UNAVAILABLE, message: expect.stringContaining("64%20wait") as string });
    for (const call of calls) call.stream.close();
    while ((await client.call(path, [Buffer.alloc(32 * MIB, 0xff)])).status !== STATUS.INVALID_ARGUMENT) await sleep(10);
  });
});

test("what a connection held, and what it waited for, is free when it is gone", async () => {
  await withServer({}, async (client, port) => {
    const other = new RawGrpcClient(port, { maxSessionMemory: 1000 });
    for (let index = 0; index < 60; index++) announce(other, `${CAS}/BatchUpdateBlobs`, 8 * MIB, MIB);
    // Those that wait have sent more than anyone has read.
    await sleep(500);
    other.session.destroy();
    expect((await within(client.call(`${CASTORE}.DirectoryService/Put`, [Buffer.alloc(32 * MIB, 0xff)]), 5000)).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

test("a message is right in whatever pieces it comes", async () => {
  await withServer({}, async (client) => {
    const bytes = sampleBytes(20_000);
    const body = frameOf(only(bytes));
    const call = client.begin(`${CASTORE}.BlobService/Put`);
    const sizes = [1, 2, 1, 1, 1, 300, 1, 5000, 1, body.length];
    for (let start = 0, index = 0; start < body.length; start += sizes[index++] ?? 0) {
      call.stream.write(body.subarray(start, start + (sizes[index] ?? 0)));
      await sleep(2);
    }
    call.stream.end();
    expectBytes((await within(call.answer)).messages[0], only(blake3(bytes)));
  });
});

test.for([
  ["with nothing sent", 0],
  ["with part of its message sent", 100],
] as const)("a request is given up when it is not whole after the idle time, %s", async ([, sent]) => {
  await withServer({ idleMilliseconds: 200 }, async (client) => {
    const call = sent === 0 ? client.begin(`${CASTORE}.BlobService/Stat`) : announce(client, `${CASTORE}.BlobService/Stat`, 1000, sent);
    expect(await within(call.answer)).toMatchObject({ status: STATUS.DEADLINE_EXCEEDED, message: expect.stringContaining("whole%20within%200.2%20s") as string });
  });
});

test("a request that goes on bringing 256 KiB within the idle time is taken, however long that is in all", async () => {
  await withServer({ idleMilliseconds: 400 }, async (client) => {
    const body = frameOf(Buffer.alloc(2 * MIB, 0xff));
    const call = client.begin(`${CAS}/BatchUpdateBlobs`);
    for (let start = 0; start < body.length; start += 256 * KIB) {
      call.stream.write(body.subarray(start, start + 256 * KIB));
      await sleep(100);
    }
    call.stream.end();
    expect((await within(call.answer)).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

test.for(["gzip", "deflate"])("a message that is compressed with %s is UNIMPLEMENTED, whatever it holds", async (encoding) => {
  await withServer({}, async (client) => {
    const call = client.begin(`${CASTORE}.BlobService/Put`, { "grpc-encoding": encoding });
    const body = frameOf(Buffer.from("junk"));
    body[0] = 1;
    call.stream.end(body);
    expect(await within(call.answer)).toMatchObject({ status: STATUS.UNIMPLEMENTED, message: expect.stringContaining("compressed") as string });
  });
});

test("a grpc-timeout that cannot be read is INVALID_ARGUMENT", async () => {
  await withServer({}, async (client) => {
    const answer = await within(client.call(`${CASTORE}.BlobService/Stat`, [only(blake3(Buffer.from("none")))], { "grpc-timeout": "soon" }));
    expect(answer.status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

/** What the server lets clients send ahead, as a client that shares nothing with ours sees it in HTTP/2's own frames. */
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { only } from "../helpers/castore-messages.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { eventually } from "../helpers/promises.ts";
import { RawGrpcClient, STATUS, frameOf } from "../helpers/raw-grpc.ts";
import { WatchedStore } from "../helpers/watched-store.ts";

const MIB = 1024 * 1024;
const STAT = "/snix.castore.v1.BlobService/Stat";
const PUT = "/snix.castore.v1.BlobService/Put";

/** A client that has seen the server's settings. */
async function openClient(port: number): Promise<RawGrpcClient> {
  const client = new RawGrpcClient(port);
  onTestFinished(async () => await client[Symbol.asyncDispose]());
  await once(client.session, "remoteSettings");
  // What changes the windows may come in frames of its own.
  await client.call(STAT, [only(new Uint8Array(32))]);
  return client;
}

describe("the gRPC server's HTTP/2", () => {
  test("lets a stream have 2 MiB ahead and a connection 16 MiB, with 256 streams at once", async () => {
    await using server = await serveGrpc(new MemoryStore());
    const { session } = await openClient(server.port);
    expect(session.remoteSettings).toMatchObject({ initialWindowSize: 2 * MIB, maxConcurrentStreams: 256 });
    await eventually(() => (session.state.remoteWindowSize ?? 0) > 15 * MIB);
    expect(session.state.remoteWindowSize).toBeLessThanOrEqual(16 * MIB);
  });

  test("takes 2 MiB of a Put() that its store does not read, and no more", async () => {
    const watched = new WatchedStore();
    watched.before = () => new Promise(() => undefined);
    await using server = await serveGrpc(watched.store);
    const client = await openClient(server.port);
    const call = client.begin(PUT);
    call.stream.write(frameOf(only(new Uint8Array(8 * MIB))));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const [socket] = server.connections;
    // A message is read on as long as it is not whole: of this one, 8 MiB at most; of the next, nothing but the window.
    expect(socket?.bytesRead).toBeLessThan(10.5 * MIB);
    for (let count = 0; count < 4; count++) call.stream.write(frameOf(only(new Uint8Array(4 * MIB))));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(socket?.bytesRead).toBeLessThan(14 * MIB);
    call.stream.close();
  });

  test("holds a client to its 256 streams: one more waits until another ends", async () => {
    const watched = new WatchedStore();
    await using server = await serveGrpc(watched.store);
    const client = await openClient(server.port);
    const held = Array.from({ length: 256 }, () => client.begin(PUT));
    for (const call of held) call.send(only("x"));
    await eventually(() => watched.writing === 256);
    let isAnswered = false;
    const waiting = client.call(STAT, [only(new Uint8Array(32))]).finally(() => (isAnswered = true));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isAnswered).toBe(false);
    held[0]?.stream.end();
    expect((await held[0]?.answer)?.status).toBe(STATUS.OK);
    expect((await waiting).status).toBe(STATUS.NOT_FOUND);
  });
});

/** One port for HTTP/1.1 and gRPC: what a connection is shows in its first bytes, however they come. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { RunningServer, ServerOptions } from "../../src/composition/start-server.ts";
import { startServer } from "../../src/composition/start-server.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { blobNamed, only } from "../helpers/castore-messages.ts";
import { CLIENT_BEGINS, callHeaders, data } from "../helpers/http2-frames.ts";
import { narInfoText, put, sha256Nix32 } from "../helpers/http-cache.ts";
import { expectCode, within } from "../helpers/promises.ts";
import { RawGrpcClient, STATUS, frameOf } from "../helpers/raw-grpc.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const STAT = "/snix.castore.v1.BlobService/Stat";

async function start(options: Partial<ServerOptions> = {}): Promise<{ readonly server: RunningServer; readonly port: number; readonly store: MemoryStore }> {
  const store = new MemoryStore();
  const server = await startServer({
    store,
    listen: { host: "127.0.0.1", port: 0 },
    allowAnonymousWrites: false,
    requireReferences: false,
    maxUploads: 16,
    maxNarBytes: 1e9,
    priority: 30,
    narCompression: "zstd",
    idleMilliseconds: 2000,
    version: "test",
    onFault: () => undefined,
    ...options,
  });
  onTestFinished(async () => await server.stop(0));
  return { server, port: Number(new URL(server.url).port), store };
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** Write pieces so that each is likely to come by itself. */
async function writeApart(socket: Socket, pieces: readonly Uint8Array[]): Promise<void> {
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

/** All that comes until the other side hangs up, or until `enough` is in it. */
async function answerOf(socket: Socket, enough?: string): Promise<string> {
  let text = "";
  await within(
    new Promise<void>((resolve) => {
      socket.on("data", (bytes: Buffer) => {
        text += bytes.toString("latin1");
        if (enough !== undefined && text.includes(enough)) resolve();
      });
      socket.on("close", () => resolve());
    }),
    5000,
  );
  return text;
}

describe("startServer()", () => {
  test("hangs up on a gRPC client that has hung up, and holds nothing for it", async () => {
    const { port } = await start({ idleMilliseconds: 60_000 });
    const socket = await open(port);
    await writeApart(socket, [CLIENT_BEGINS, callHeaders(1, "/snix.castore.v1.BlobService/Put"), data(1, frameOf(Buffer.alloc(1000)).subarray(0, 500))]);
    socket.end();
    await within(once(socket.resume(), "close"), 5000);

    const gone = new RawGrpcClient(port, { maxSessionMemory: 1000 });
    const path = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
    // Together they announce more than a server holds.
    for (let index = 0; index < 60; index++) gone.begin(path).stream.write(frameOf(Buffer.alloc(3_000_000, 0xff)).subarray(0, 1_500_000));
    await new Promise((resolve) => setTimeout(resolve, 500));
    gone.session.destroy();
    await using client = new RawGrpcClient(port, { maxSessionMemory: 1000 });
    expect((await within(client.call("/snix.castore.v1.DirectoryService/Put", [Buffer.alloc(32 * 1024 * 1024, 0xff)]), 5000)).status).toBe(STATUS.INVALID_ARGUMENT);
  });

  test("answers HTTP/1.1 whatever cuts its first bytes come in", async () => {
    const { port } = await start();
    const request = Buffer.from("GET /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const cuts = [...Array.from({ length: 8 }, (_, at) => [request.subarray(0, at + 1), request.subarray(at + 1)]), Array.from(request.subarray(0, 10), (byte) => Buffer.of(byte)).concat([request.subarray(10)])];
    await Promise.all(
      cuts.map(async (pieces) => {
        const socket = await open(port);
        const answer = answerOf(socket);
        await writeApart(socket, pieces);
        expect(await answer).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*StoreDir: \/nix\/store/);
      }),
    );
  });

  test("answers gRPC whatever cuts its first bytes come in", async () => {
    const { port } = await start();
    const { bytes } = blobNamed("helloworld");
    const request = Buffer.concat([CLIENT_BEGINS, callHeaders(1, "/snix.castore.v1.BlobService/Put"), data(1, frameOf(only(bytes)), true)]);
    const cuts = [...Array.from({ length: 30 }, (_, at) => [request.subarray(0, at + 1), request.subarray(at + 1)]), Array.from(request, (byte) => Buffer.of(byte)).slice(0, 60).concat([request.subarray(60)])];
    await Promise.all(
      cuts.map(async (pieces) => {
        const socket = await open(port);
        const answer = answerOf(socket, blobNamed("helloworld").digest.toString("latin1"));
        await writeApart(socket, pieces);
        expect(await answer).toContain(only(blobNamed("helloworld").digest).toString("latin1"));
      }),
    );
  });

  test("serves both to real clients at once, over one store", async () => {
    const { server, port } = await start();
    await using client = new GrpcStore(`grpc://127.0.0.1:${port}`);
    const bytes = sampleBytes(3_000_000);
    const [digest, info] = await Promise.all([client.blobs.put(sourceOf(bytes)), fetch(`${server.url}/nix-cache-info`)]);
    expect(info.status).toBe(200);
    expectBytes(await collect((await client.blobs.openRead(digest)) as AsyncIterable<Uint8Array>), bytes);
  });

  test("closes a connection that says nothing, or too little, after the idle time", async () => {
    const { port } = await start({ idleMilliseconds: 200 });
    for (const said of ["", "P", "PRI"]) {
      const socket = await open(port);
      const started = Date.now();
      const closed = answerOf(socket);
      if (said !== "") socket.write(said);
      expect(await closed).toBe("");
      expect(Date.now() - started).toBeLessThan(2000);
    }
  });

  test("lets go of a connection that ends before it has said enough", async () => {
    const { port } = await start();
    for (const said of ["", "PR"]) {
      const socket = await open(port);
      const closed = answerOf(socket);
      socket.end(said);
      expect(await closed).toBe("");
    }
  });

  test("takes what begins like HTTP/2 and goes on otherwise for HTTP/1.1", async () => {
    const { port } = await start();
    const socket = await open(port);
    const answer = answerOf(socket, "\r\n\r\n");
    await writeApart(socket, [Buffer.from("PR"), Buffer.from("OPFIND /nix-cache-info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")]);
    expect(await answer).toMatch(/^HTTP\/1\.1 4\d\d /);
  });

  test("answers pipelined requests in order, all of them in the first bytes", async () => {
    const { port } = await start();
    const socket = await open(port);
    const answer = answerOf(socket);
    const request = (path: string, more = ""): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
    socket.write(request("/nix-cache-info") + request(`/${"1".repeat(32)}.narinfo`) + request("/nix-cache-info", "Connection: close\r\n"));
    expect([...(await answer).matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => status)).toEqual(["200", "404", "200"]);
  });

  test("takes large uploads unharmed through the telling", async () => {
    const { server, store } = await start();
    const nar = referenceNar(directory({ large: file(sampleBytes(12_000_000)), small: file("small") }));
    const hash = sha256Nix32(nar);
    expect((await put(`${server.url}/nar/${hash}.nar`, nar)).status).toBe(201);
    const storePath = `/nix/store/${"0".repeat(32)}-large`;
    expect((await put(`${server.url}/${"0".repeat(32)}.narinfo`, narInfoText(nar, storePath))).status).toBe(201);
    expect((await store.pathInfos.get(new Uint8Array(20)))?.narSize).toBe(nar.length);
    const response = await fetch(`${server.url}/nar/${hash}.nar`);
    expectBytes(new Uint8Array(await response.arrayBuffer()), nar);
  });

  test("refuses a TLS client at once", async () => {
    const { port } = await start();
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
    const outcome = await within(new Promise<string>((resolve) => socket.on("error", () => resolve("refused")).on("secureConnect", () => resolve("connected"))), 2000);
    expect(outcome).toBe("refused");
  });

  test("refuses HTTP/1.1 at an address for gRPC alone, and serves gRPC at both", async () => {
    const { path } = await temporaryDirectory();
    const { server, port } = await start({ grpcListen: { path: `${path}/narbor.sock` } });
    expect(server.grpcAddress).toBe(`unix:${path}/narbor.sock`);
    await using byPort = new GrpcStore(`grpc://127.0.0.1:${port}`);
    await using bySocket = new GrpcStore(`grpc+unix:${path}/narbor.sock`);
    const digest = await bySocket.blobs.put(sourceOf(Buffer.from("Hello World!")));
    expect(await byPort.blobs.stat(digest)).toBeDefined();
    const socket = connect(`${path}/narbor.sock`);
    socket.on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await answerOf(socket)).not.toContain("200 OK");
  });

  test("refuses writes over gRPC where others can reach it, but takes them at a Unix socket", async () => {
    const { path } = await temporaryDirectory();
    const { port, server } = await start({ listen: { host: "0.0.0.0", port: 0 }, grpcListen: { path: `${path}/narbor.sock` } });
    expect(server.allowsWrites).toBe(false);
    await using byPort = new GrpcStore(`grpc://127.0.0.1:${port}`);
    await expectCode(byPort.blobs.put(sourceOf(Buffer.from("x"))), "ERR_FORBIDDEN", /--allow-anonymous-writes/);
    expect(await byPort.blobs.stat(toB3Digest(new Uint8Array(32)))).toBeUndefined();
    await using bySocket = new GrpcStore(`grpc+unix:${path}/narbor.sock`);
    expect(await bySocket.blobs.put(sourceOf(Buffer.from("x")))).toHaveLength(32);
  });

  test("stops with connections of both kinds open, idle and undecided ones too, and takes no more", async () => {
    const { server, port } = await start();
    await using raw = new RawGrpcClient(port);
    expect((await raw.call(STAT, [only(new Uint8Array(32))])).status).toBe(STATUS.NOT_FOUND);
    await fetch(`${server.url}/nix-cache-info`);
    await open(port);
    const half = await open(port);
    half.write("PR");
    const started = Date.now();
    await within(server.stop(5000), 4000);
    expect(Date.now() - started).toBeLessThan(4000);
    await expect(fetch(`${server.url}/nix-cache-info`)).rejects.toThrow();
  });

  test("stops without waiting for the rest of a body that it has refused", async () => {
    const { server, port } = await start({ idleMilliseconds: 60_000 });
    const socket = await open(port);
    socket.write("PUT /nar/x HTTP/1.1\r\nHost: narbor\r\nContent-Length: 100\r\n\r\nabc");
    expect(await answerOf(socket, "\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
    await within(server.stop(30_000), 3000);
  });

  test("stops without waiting for a request's head of which half has come, and waits for no more of it than the idle time", async () => {
    const { server, port } = await start({ idleMilliseconds: 300 });
    const first = await open(port);
    first.write("GET /nix-cache-info HTTP/1.1\r\n");
    expect(await within(answerOf(first, "\r\n\r\n"), 5000)).toMatch(/^HTTP\/1\.1 408 /);
    const second = await open(port);
    second.write("GET /nix-cache-info HTTP/1.1\r\nHost: narbor\r\n\r\nGET /nix-cache-info HTTP/1.1\r\n");
    expect(await answerOf(second, "\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
    await within(server.stop(30_000), 3000);
  });

  test("stops when the last request is answered, however late, though its client keeps the connection", async () => {
    const { server, port } = await start();
    const nar = referenceNar(file(sampleBytes(1000)));
    const socket = await open(port);
    socket.write(`PUT /nar/${sha256Nix32(nar)}.nar HTTP/1.1\r\nHost: narbor\r\nContent-Length: ${nar.length}\r\n\r\n`);
    socket.write(nar.subarray(0, 100));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const stopped = server.stop(30_000);
    // Later than the server looks for clients that have sent half of a head.
    await new Promise((resolve) => setTimeout(resolve, 1200));
    socket.write(nar.subarray(100));
    expect(await answerOf(socket, "\r\n\r\n")).toMatch(/^HTTP\/1\.1 201 /);
    await within(stopped, 2000);
  });

  test("stops without waiting for an HTTP/2 client that has no calls and does not hang up", async () => {
    const { server, port } = await start();
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    onTestFinished(() => void socket.destroy());
    socket.write(CLIENT_BEGINS);
    await once(socket, "data");
    await within(server.stop(30_000), 5000);
  });
});

/** What breaks off: servers, clients and what lies between them. It ends in a clear error or a right result, never in part of a tree. */
import { constants } from "node:http2";
import { connect } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { decodeDirectory, encodeEntry } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { NarborError } from "../../src/errors.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import type { ImportedNar } from "../../src/ingest/ingest-nar.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { planNar } from "../../src/render/render-nar.ts";
import { renderArchive } from "../../src/render/segments.ts";
import type { Store } from "../../src/store/store.ts";
import { chunked, collect, expectBytes, hexes, sampleBytes } from "../helpers/bytes.ts";
import { blobNamed, directoryVector, only } from "../helpers/castore-messages.ts";
import type { Cut } from "../helpers/fragile-server.ts";
import { CuttingProxy, FragileServer } from "../helpers/fragile-server.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { CLIENT_BEGINS, callHeaders, data, goAway, rstStream } from "../helpers/http2-frames.ts";
import { eventually, rejection, within } from "../helpers/promises.ts";
import { RawGrpcClient, STATUS, frameOf } from "../helpers/raw-grpc.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { TrackedSource, streamOf } from "../helpers/tracked-source.ts";
import { WatchedStore } from "../helpers/watched-store.ts";

const PUT = "/snix.castore.v1.BlobService/Put";
const READ = "/snix.castore.v1.BlobService/Read";
const STAT = "/snix.castore.v1.BlobService/Stat";
const PUT_DIRECTORIES = "/snix.castore.v1.DirectoryService/Put";
const HELLO = blobNamed("helloworld");

/** 8 MiB of small files in five batches. */
const SMALL_FILES = referenceNar(
  directory(
    Object.fromEntries(
      Array.from({ length: 10 }, (_, dir) => [`d${dir}`, directory(Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, file(sampleBytes(20_000, dir * 40 + index + 1))])))]),
    ),
  ),
);
const LARGE_FILE = referenceNar(directory({ large: file(sampleBytes(20_000_000)) }));

async function importInto(store: GrpcStore, source: AsyncIterable<Uint8Array>): Promise<ImportedNar> {
  const work = store.begin();
  const imported = await importNar(source, work);
  await work.nars.put(imported);
  await work.commit();
  return imported;
}

async function nodeOf(nar: Uint8Array): Promise<ImportedNar> {
  const { blobs, directories } = new MemoryStore();
  return await importNar(streamOf([nar]), { blobs, directories });
}

async function render(store: Pick<Store, "blobs" | "directories">, root: Node): Promise<Uint8Array> {
  return await collect(renderArchive(await planNar(root, store), store));
}

function openClient(address: string): GrpcStore {
  const store = new GrpcStore(address);
  onTestFinished(async () => await store[Symbol.asyncDispose]());
  return store;
}

describe("a server that is killed and comes back", () => {
  test.for(["findMissing", "putMany", "putClosure"])("does not keep an import of small files from going well, when it is killed in the middle of %s()", async (call) => {
    const watched = new WatchedStore();
    await using server = await FragileServer.open(watched.store);
    let kills = 0;
    let isDown = false;
    watched.before = async (name) => {
      if (name !== call || kills >= 2 || isDown) return;
      kills++;
      isDown = true;
      void server.kill().then(async () => {
        await new Promise((resolve) => setTimeout(resolve, 100));
        await server.start();
        isDown = false;
      });
      await new Promise((resolve) => setTimeout(resolve, 20));
    };
    const client = openClient(server.address);
    const { root, narSha256 } = await within(importInto(client, streamOf(chunked(SMALL_FILES, 100_000))), 20_000);
    expect(kills).toBe(2);
    expect(root).toEqual((await nodeOf(SMALL_FILES)).root);
    expectBytes(await render(watched.memory, root), SMALL_FILES);
    expect(hexes([encodeEntry((await client.nars.byNarHash(narSha256))?.root as Node)])).toEqual(hexes([encodeEntry(root)]));
  });

  test("does not keep a reader of small files from getting them all", async () => {
    const watched = new WatchedStore();
    const { blobs, directories } = watched.memory;
    const { root } = await importNar(streamOf([SMALL_FILES]), { blobs, directories });
    await using server = await FragileServer.open(watched.store);
    const client = openClient(server.address);
    await client.describe();
    await server.kill();
    setTimeout(() => void server.start(), 300);
    expectBytes(await within(render(client, root), 20_000), SMALL_FILES);
  });

  test("breaks off an import with a large file in flight, with an error that names it, and stores none of the file", async () => {
    const watched = new WatchedStore();
    await using server = await FragileServer.open(watched.store);
    const client = openClient(server.address);
    const source = new TrackedSource(chunked(LARGE_FILE, 100_000), "end", async (index) => {
      if (index === 100) {
        await server.kill();
        await server.start();
      }
    });
    const error = (await rejection(importInto(client, source))) as NarborError;
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
    expect(error.message).toContain(server.address);
    expect(source.closed).toBe(true);
    expect([...watched.storedBlobs, ...watched.storedRoots]).toEqual([]);
    await eventually(() => watched.writing === 0);
    // The same client goes on with the server that came back.
    const { root } = await importInto(client, streamOf([LARGE_FILE]));
    expectBytes(await render(client, root), LARGE_FILE);
  });

  test("gives the rest of a large file that is read when it has come back", async () => {
    const watched = new WatchedStore();
    const large = sampleBytes(20_000_000);
    const digest = await watched.memory.blobs.put(streamOf(chunked(large, 1_000_000)));
    await using server = await FragileServer.open(watched.store);
    const client = openClient(server.address);
    const pieces: Uint8Array[] = [];
    for await (const bytes of (await client.blobs.openRead(digest, { start: 1000 })) as AsyncIterable<Uint8Array>) {
      pieces.push(bytes);
      if (pieces.length !== 3 && pieces.length !== 12) continue;
      await server.kill();
      setTimeout(() => void server.start(), 100);
    }
    expectBytes(Buffer.concat(pieces), large.subarray(1000));
  });

  test("breaks off a large file that is read, with an error that names it", async () => {
    const watched = new WatchedStore();
    const large = sampleBytes(20_000_000);
    const digest = await watched.memory.blobs.put(streamOf(chunked(large, 1_000_000)));
    await using server = await FragileServer.open(watched.store);
    const client = openClient(server.address);
    const reading = (async () => {
      let first = true;
      for await (const _bytes of (await client.blobs.openRead(digest)) as AsyncIterable<Uint8Array>) {
        if (first) await server.kill();
        first = false;
      }
    })();
    const error = (await rejection(reading)) as NarborError;
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
    expect(error.message).toContain(server.address);
  });
});

describe("a connection that is cut", () => {
  const TREE = referenceNar(
    directory({
      bin: directory({ tool: file("#!/bin/sh\n", true), link: symlink("tool") }),
      lib: directory({ deep: directory({ er: directory({ file: file(sampleBytes(2000)) }) }), same: file("#!/bin/sh\n", true) }),
      readme: file("read me\n"),
    }),
  );
  const WITH_LARGE = referenceNar(directory({ a: directory({ small: file("small") }), large: file(sampleBytes(1_300_000)) }));

  /** What an import of this NAR stores when it goes well. */
  async function expectedOf(nar: Uint8Array): Promise<{ readonly root: Node; readonly blobs: ReadonlySet<string>; readonly directories: readonly Uint8Array[] }> {
    const messages: Uint8Array[] = [];
    const watched = new WatchedStore();
    const { root } = await importNar(streamOf([nar]), {
      blobs: watched.store.blobs,
      directories: {
        putClosure: async (list) => {
          for await (const message of list) messages.push(message);
          return toB3Digest(blake3(messages.at(-1) as Uint8Array));
        },
      },
    });
    return { root, blobs: watched.storedBlobs, directories: messages };
  }

  /** Import through a proxy that cuts some connections. Whether it went well. */
  async function importThrough(nar: Uint8Array, expected: Awaited<ReturnType<typeof expectedOf>>, cutOf: (connection: number) => Cut | undefined): Promise<boolean> {
    const watched = new WatchedStore();
    await using server = await serveGrpc(watched.store);
    await using proxy = await CuttingProxy.open(server.port, cutOf);
    await using client = new GrpcStore(proxy.address);
    let succeeded = false;
    try {
      const { root } = await within(importInto(client, streamOf(chunked(nar, 64 * 1024))), 20_000);
      succeeded = true;
      expect(root).toEqual(expected.root);
      expectBytes(await render(watched.memory, root), nar);
    } catch (error) {
      if (!(error instanceof NarborError)) throw error;
      if (error.code === "ERR_UNAVAILABLE") expect(error.message).toContain(proxy.address);
      else throw error;
    }
    await eventually(() => watched.writing === 0);
    // No part of a file was taken for a file, and no directory is there without all that it holds.
    for (const digest of watched.storedBlobs) expect(expected.blobs).toContain(digest);
    for (const message of expected.directories) {
      const stored = await watched.memory.directories.get(toB3Digest(blake3(message)));
      if (stored === undefined) continue;
      for (const { node } of decodeDirectory(stored)) await render(watched.memory, node);
    }
    return succeeded;
  }

  async function inParallel<T>(items: readonly T[], run: (item: T) => Promise<void>): Promise<void> {
    const rest = [...items];
    await Promise.all(
      Array.from({ length: 24 }, async () => {
        for (let item = rest.shift(); item !== undefined; item = rest.shift()) await run(item);
      }),
    );
  }

  test.for(["up", "down"] as const)("at any of the first bytes %s, or at any later one, is made good by a second connection", async (direction) => {
    const expected = await expectedOf(TREE);
    // Every byte of the connection's beginning, and then some.
    const positions = [...Array.from({ length: 110 }, (_, index) => index), ...Array.from({ length: 40 }, (_, index) => 110 + Math.floor(index * 75 * (1 + Math.random())))];
    await inParallel(positions, async (after) => {
      const how = after % 2 === 0 ? "reset" : "end";
      const succeeded = await importThrough(TREE, expected, (connection) => (connection === 0 ? { direction, after, how } : undefined));
      expect([direction, after, how, succeeded]).toEqual([direction, after, how, true]);
    });
  });

  test("with a large file in flight, wherever it is cut, gives the right tree or an error, and never part of either", async () => {
    const expected = await expectedOf(WITH_LARGE);
    const outcomes = new Set<boolean>();
    const positions = Array.from({ length: 60 }, (_, index) => Math.floor((index + Math.random()) * 25_000));
    await inParallel(positions, async (after) => {
      outcomes.add(await importThrough(WITH_LARGE, expected, (connection) => (connection === 0 ? { direction: "up", after, how: after % 2 === 0 ? "reset" : "end" } : undefined)));
    });
    expect(outcomes.has(false)).toBe(true);
  });

  test("every time at the same byte ends in an error after some attempts", async () => {
    const expected = await expectedOf(TREE);
    const outcomes: boolean[] = [];
    await inParallel([0, 1, 24, 60, 200, 500, 900], async (after) => {
      outcomes.push(await importThrough(TREE, expected, () => ({ direction: "up", after, how: "reset" })));
    });
    expect(outcomes).toEqual(outcomes.map(() => false));
  });
});

/** Bytes of buffers that are still held, after what is not was let go. */
function buffersInUse(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().arrayBuffers;
}

describe("a client that breaks off", () => {
  const endings: readonly (readonly [string, readonly Buffer[], "destroy" | "end" | "reset" | "keep"])[] = [
    ["resets its stream", [rstStream(1)], "keep"],
    ["resets its stream with NO_ERROR", [rstStream(1, 0)], "keep"],
    ["resets its stream and hangs up", [rstStream(1)], "end"],
    ["says GOAWAY and hangs up", [goAway()], "end"],
    ["hangs up", [], "end"],
    ["is gone", [], "destroy"],
    ["resets the connection", [], "reset"],
    ["sends what is no frame", [Buffer.alloc(30, 0xff)], "keep"],
  ];

  test.for(endings)("%s stores nothing of a Put() that had sent whole messages, however the bytes come", async ([, last, then]) => {
    const watched = new WatchedStore();
    // One that sends noise and stays is not heard any more, and given up when it is idle.
    await using server = await serveGrpc(watched.store, { idleMilliseconds: 500 });
    const begin = Buffer.concat([CLIENT_BEGINS, callHeaders(1, PUT)]);
    const blob = Buffer.concat([data(1, frameOf(only("Hello "))), data(1, frameOf(only("World!")))]);
    const ways = [
      [Buffer.concat([begin, blob, ...last])],
      [begin, Buffer.concat([blob, ...last])],
      [begin, blob, ...last],
      [begin, blob.subarray(0, -7), Buffer.concat([blob.subarray(-7), ...last])],
    ];
    for (const [index, pieces] of [...ways, ...ways, ...ways].entries()) {
      const socket = connect(server.port, "127.0.0.1");
      socket.on("error", () => undefined).resume();
      await new Promise((resolve) => socket.once("connect", resolve));
      for (const piece of pieces) {
        await new Promise((resolve) => socket.write(piece, resolve));
        await new Promise((resolve) => (index < ways.length ? setImmediate(resolve) : setTimeout(resolve, 4)));
      }
      if (then === "destroy") socket.destroy();
      else if (then === "end") socket.end();
      else if (then === "reset") socket.resetAndDestroy();
      else onTestFinished(() => void socket.destroy());
    }
    await eventually(() => watched.writing === 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([...watched.storedBlobs]).toEqual([]);
    expect(await watched.memory.blobs.stat(toB3Digest(HELLO.digest))).toBeUndefined();
  });

  test("stores nothing of a Put() of directories that had sent the whole of a closure", async () => {
    const watched = new WatchedStore();
    await using server = await serveGrpc(watched.store);
    const closure = ["WITH_KEEP", "COMPLICATED"].map((name) => directoryVector(name, "documented"));
    for (let round = 0; round < 12; round++) {
      const socket = connect(server.port, "127.0.0.1");
      socket.on("error", () => undefined).resume();
      const body = [CLIENT_BEGINS, callHeaders(1, PUT_DIRECTORIES), ...closure.map(({ bytes }) => data(1, frameOf(bytes)))];
      if (round % 2 === 0) body.push(rstStream(1));
      await new Promise((resolve) => socket.write(Buffer.concat(body), resolve));
      if (round % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      socket.destroy();
    }
    await eventually(() => watched.writing === 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([...watched.storedRoots]).toEqual([]);
    for (const { digest } of closure) expect(await watched.memory.directories.get(toB3Digest(digest))).toBeUndefined();
  });

  test("is told from one that has ended its stream, in the same bytes but for that", async () => {
    const watched = new WatchedStore();
    await using server = await serveGrpc(watched.store);
    const socket = connect(server.port, "127.0.0.1");
    socket.resume();
    onTestFinished(() => void socket.destroy());
    socket.write(Buffer.concat([CLIENT_BEGINS, callHeaders(1, PUT), data(1, frameOf(only("Hello "))), data(1, frameOf(only("World!")), true)]));
    await eventually(() => watched.storedBlobs.size === 1);
    expect([...watched.storedBlobs]).toEqual(hexes([HELLO.digest]));
  });

  test("does not cost more than its thousand streams: the server serves on, and neither holds nor stores anything of them", async () => {
    const watched = new WatchedStore();
    const blob = toSmallBlob(sampleBytes(3_000_000));
    await watched.memory.blobs.put(streamOf([blob.bytes]));
    await using server = await serveGrpc(watched.store);
    const before = buffersInUse();
    const clients = Array.from({ length: 4 }, () => new RawGrpcClient(server.port));
    const closure = directoryVector("WITH_KEEP", "documented");
    for (const client of clients) {
      for (let index = 0; index < 250; index++) {
        const call = client.begin(index % 3 === 0 ? READ : index % 3 === 1 ? PUT : PUT_DIRECTORIES);
        if (index % 3 === 0) call.stream.end(frameOf(only(blob.digest)));
        else call.send(index % 3 === 1 ? only(sampleBytes(5000, index)) : closure.bytes);
        call.stream.pause();
      }
    }
    await eventually(() => watched.writing > 600);
    for (const client of clients) client.session.destroy();
    await eventually(() => watched.writing === 0 && server.connections.size === 0);
    expect([watched.storedBlobs.size, watched.storedRoots.size]).toEqual([0, 0]);
    await using after = new RawGrpcClient(server.port);
    const many = await Promise.all(Array.from({ length: 200 }, async () => await after.call(STAT, [only(blob.digest)])));
    expect(new Set(many.map(({ status }) => status))).toEqual(new Set([STATUS.OK]));
    await eventually(() => buffersInUse() - before < 20 * 1024 * 1024);
  });

  test("is given up when it sends nothing for the idle time, and its Put() stores nothing", async () => {
    const watched = new WatchedStore();
    await using server = await serveGrpc(watched.store, { idleMilliseconds: 200 });
    await using client = new RawGrpcClient(server.port);
    const call = client.begin(PUT);
    call.send(only("Hello World!"));
    expect((await within(call.answer, 5000)).status).toBe(STATUS.DEADLINE_EXCEEDED);
    await eventually(() => watched.writing === 0);
    expect(watched.storedBlobs.size).toBe(0);
  });
});

describe("a client that reads slowly", () => {
  const PIECE = sampleBytes(256 * 1024);
  const PIECES = 800;

  /** A store whose one blob is 200 MB that are made as they are read. */
  function endlessStore(): { readonly store: Store; readonly made: () => number; readonly isClosed: () => boolean } {
    let made = 0;
    let closed = false;
    const memory = new MemoryStore();
    const openRead: BlobService["openRead"] = async () =>
      (async function* () {
        try {
          for (; made < PIECES; made++) yield PIECE;
        } finally {
          closed = true;
        }
      })();
    const blobs = new Proxy(memory.blobs, { get: (target, property) => (property === "openRead" ? openRead : Reflect.get(target, property)) });
    const store = new Proxy(memory as Store, { get: (target, property) => (property === "blobs" ? blobs : Reflect.get(target, property)) });
    return { store, made: () => made, isClosed: () => closed };
  }

  test("has no more than a few MiB made for it, and is cut off after the idle time", async () => {
    const { store, made, isClosed } = endlessStore();
    await using server = await serveGrpc(store, { idleMilliseconds: 400 });
    await using client = new RawGrpcClient(server.port);
    const stream = client.session.request({ ":method": "POST", ":path": READ, te: "trailers", "content-type": "application/grpc" });
    const closed = new Promise((resolve) => stream.on("error", () => undefined).on("close", resolve));
    stream.end(frameOf(only(new Uint8Array(32))));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(made() * PIECE.length).toBeLessThan(4 * 1024 * 1024);
    await eventually(isClosed);
    expect(made() * PIECE.length).toBeLessThan(4 * 1024 * 1024);
    stream.resume();
    await within(closed, 5000);
    expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
  });

  test("is not cut off as long as it goes on reading, even if all of it takes longer than the idle time", async () => {
    const { store } = endlessStore();
    await using server = await serveGrpc(store, { idleMilliseconds: 250 });
    await using client = new RawGrpcClient(server.port);
    const call = client.begin(READ);
    call.stream.end(frameOf(only(new Uint8Array(32))));
    let bytes = 0;
    let lastPause = 0;
    call.stream.on("data", (piece: Buffer) => {
      bytes += piece.length;
      if (bytes - lastPause < 20_000_000) return;
      lastPause = bytes;
      call.stream.pause();
      setTimeout(() => call.stream.resume(), 50);
    });
    expect((await call.answer).status).toBe(STATUS.OK);
    expect(bytes).toBeGreaterThanOrEqual(PIECES * PIECE.length);
  });
});

describe("a server that stops", () => {
  test("lets a stream that is under way end, refuses new ones, and takes no time when there is nothing", async () => {
    const watched = new WatchedStore();
    const server = await FragileServer.open(watched.store);
    onTestFinished(async () => await server.kill());
    await using client = new RawGrpcClient(server.port);
    await using idle = new RawGrpcClient(server.port);
    expect((await idle.call(STAT, [only(HELLO.digest)])).status).toBe(STATUS.NOT_FOUND);
    const call = client.begin(PUT);
    call.send(only("Hello "));
    await eventually(() => watched.writing === 1);
    const started = Date.now();
    const stopped = server.grpc.stop(10_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const each of [client, idle]) {
      const refused = (async () => (await each.call(STAT, [only(HELLO.digest)])).status)().catch(() => -1);
      expect(await within(refused, 3000)).not.toBe(STATUS.NOT_FOUND);
    }
    call.send(only("World!"));
    call.stream.end();
    const answer = await call.answer;
    expect(answer.status).toBe(STATUS.OK);
    expectBytes(answer.messages[0], only(HELLO.digest));
    await within(stopped, 3000);
    expect(Date.now() - started).toBeLessThan(5000);
    expect([...watched.storedBlobs]).toEqual(hexes([HELLO.digest]));
  });

  test("cuts off after the grace what has not ended by then, and stores nothing of it", async () => {
    const watched = new WatchedStore();
    const server = await FragileServer.open(watched.store);
    onTestFinished(async () => await server.kill());
    await using client = new RawGrpcClient(server.port);
    const call = client.begin(PUT);
    call.send(only("Hello World!"));
    await eventually(() => watched.writing === 1);
    const started = Date.now();
    await within(server.grpc.stop(200), 3000);
    expect(Date.now() - started).toBeGreaterThanOrEqual(190);
    expect((await within(call.answer, 3000)).status).not.toBe(STATUS.OK);
    await eventually(() => watched.writing === 0);
    expect(watched.storedBlobs.size).toBe(0);
  });

  test("may be stopped twice, and with no client at all", async () => {
    const server = await FragileServer.open(new MemoryStore());
    await within(Promise.all([server.grpc.stop(1000), server.grpc.stop(1000)]), 3000);
    await server.kill();
  });
});

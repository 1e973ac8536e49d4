/** What is sent to a server that stores blocks as they come: compressed, so that archives lie in frames, and nothing that it has. */
import { describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../../src/backends/grpc/grpc-store.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import type { Node } from "../../../src/castore/node.ts";
import { importNar } from "../../../src/ingest/ingest-nar.ts";
import { planFramedNar, renderFramedNar } from "../../../src/render/framed-nar.ts";
import { loadTree } from "../../../src/render/tree.ts";
import { chunked, collect, collectItems, expectBytes, sampleBytes, textBytes } from "../../helpers/bytes.ts";
import type { TestGrpcServer } from "../../helpers/grpc-store.ts";
import { serveGrpc } from "../../helpers/grpc-store.ts";
import { expectCode, rejection } from "../../helpers/promises.ts";
import { directory, file, referenceNar } from "../../helpers/reference-nar.ts";
import { lengthField, message, numberField } from "../../helpers/raw-protobuf.ts";
import type { Script } from "../../helpers/scripted-server.ts";
import { NARBOR, openScripted } from "../../helpers/scripted-server.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf, streamOf } from "../../helpers/tracked-source.ts";

interface Remote {
  readonly packs: PacksStore;
  readonly server: TestGrpcServer;
  readonly store: GrpcStore;
}

async function openRemote(): Promise<Remote> {
  const place = await temporaryDirectory();
  const packs = await PacksStore.open(place.path, { create: true });
  const server = await serveGrpc(packs);
  const store = new GrpcStore(server.address);
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await packs[Symbol.asyncDispose]();
    await place[Symbol.asyncDispose]();
  });
  return { packs, server, store };
}

/** Bytes that the server has received meanwhile. */
async function received({ server }: Remote, work: () => Promise<unknown>): Promise<number> {
  const total = (): number => [...server.connections].reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  const before = total();
  await work();
  return total() - before;
}

describe("a server that stores blocks as they come", () => {
  test("is sent small blobs compressed, and none that it has", async () => {
    const remote = await openRemote();
    const blobs = Array.from({ length: 300 }, (_, index) => toSmallBlob(textBytes(3000, index)));
    await remote.packs.blobs.putMany(blobs.slice(0, 100));
    await remote.store.describe();
    const bytes = await received(remote, () => remote.store.blobs.putMany([...blobs, ...blobs.slice(200)]));
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(350_000);
    expect((await collectItems(remote.packs.blobs.readMany(blobs))).map((found) => found.length)).toEqual(blobs.map(({ size }) => size));
    expect(await received(remote, () => remote.store.blobs.putMany(blobs))).toBeLessThan(50_000);
  });

  test.for([900_000, 6_000_000])("is sent of a blob of %i bytes that has changed a little the pieces that have changed", async (size) => {
    const remote = await openRemote();
    const bytes = sampleBytes(size);
    const changed = Buffer.from(bytes);
    changed.fill(7, size / 2, size / 2 + 100);
    const put = async (content: Uint8Array): Promise<void> =>
      size > 1_000_000 ? void (await remote.store.blobs.put(streamOf(chunked(content, 50_000)))) : await remote.store.blobs.putMany([toSmallBlob(content)]);
    expect(await received(remote, () => put(bytes))).toBeGreaterThan(size);
    expect(await received(remote, () => put(changed))).toBeLessThan(800_000);
    expect(await received(remote, () => put(changed))).toBeLessThan(10_000);
    for (const content of [bytes, changed]) expectBytes(await collect((await remote.packs.blobs.openRead(toSmallBlob(content).digest)) ?? sourceOf()), content);
  });

  test("has the NARs that were sent to it in frames", async () => {
    const { packs, store } = await openRemote();
    const tree = directory({ share: directory(Object.fromEntries(Array.from({ length: 900 }, (_, index) => [`file${index}`, file(textBytes(500 + ((index * 37) % 5000), index))]))) });
    const nar = referenceNar(tree);
    const { root } = await importNar(streamOf(chunked(nar, 65_536)), { blobs: store.blobs, directories: store.directories });
    const framed = await planFramedNar(await loadTree(root as Node, packs.directories), packs.frames, Infinity);
    if (framed === undefined) expect.unreachable("no frames");
    expectBytes(await collect(renderFramedNar(framed, "nar", packs)), nar);
    const between = framed.parts.reduce((sum, part) => sum + ("segments" in part ? part.rawLength : 0), 0);
    expect(between).toBeLessThan(nar.length / 20);
  });
});

const TAKES_BLOCKS: Script = {
  ...NARBOR,
  "narbor.store.v1.StoreService/GetInfo": { messages: [message(numberField(1, 1), lengthField(2, "9.9"), numberField(4, 2))] },
  "/FindMissingBlobs": (request) => ({ messages: [message(...[...request.messages].flatMap((bytes) => missingOf(bytes)))] }),
};

/** All that were asked for: the digests are in the same field of both messages. */
function missingOf(request: Uint8Array): readonly Buffer[] {
  return [Buffer.from(request)];
}

describe("a server that says that it stores blocks", () => {
  const blob = toSmallBlob(textBytes(500));

  test("and does not is an error that says so, and is asked anew what it is", async () => {
    let asked = 0;
    const { store } = await openScripted({
      ...TAKES_BLOCKS,
      "narbor.store.v1.StoreService/GetInfo": () => {
        asked++;
        return { messages: [message(numberField(1, 1), lengthField(2, "9.9"), numberField(4, 2))] };
      },
    });
    await expectCode(store.blobs.putMany([blob]), "ERR_UNSUPPORTED");
    await expectCode(store.blobs.put(sourceOf(blob.bytes)), "ERR_UNSUPPORTED");
    expect(asked).toBe(2);
  });

  test("and names what is missing in nonsense is named", async () => {
    const { store, server } = await openScripted({ ...TAKES_BLOCKS, "/FindMissingBlobs": { messages: [lengthField(2, message(lengthField(1, "nonsense")))] } });
    const error = await rejection(store.blobs.putMany([blob]));
    expect(error).toMatchObject({ code: "ERR_STORE", message: expect.stringContaining(server.address) as string });
  });

  test("and asks for more work than that is worth is sent blocks of level 19", async () => {
    const sent: number[] = [];
    const { store } = await openScripted({
      ...TAKES_BLOCKS,
      "narbor.store.v1.StoreService/GetInfo": { messages: [message(numberField(1, 1), numberField(4, 2_000_000))] },
      "/WriteBlocks": (request) => {
        sent.push(request.messages.length);
        return { messages: [Buffer.alloc(0)] };
      },
    });
    await store.blobs.putMany([blob]);
    await store.blobs.put(sourceOf(blob.bytes));
    expect(sent).toEqual([1, 1]);
  });
});

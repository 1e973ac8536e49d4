/** What is said of NARs over gRPC, and what HTTP makes of it: who has seen a NAR counts for more than who speaks of it. */
import { beforeEach, afterEach, expect, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import type { Node } from "../../src/castore/node.ts";
import { sha256 } from "../../src/hash/sha256.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { storePathHashPart } from "../../src/nix/store-path.ts";
import type { NarRecord } from "../../src/store/nar-index.ts";
import { expectBytes } from "../helpers/bytes.ts";
import { directoryOf, fileNode, symlinkNode } from "../helpers/castore.ts";
import type { TestGrpcServer } from "../helpers/grpc-store.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import type { HttpCache } from "../helpers/http-cache.ts";
import { openHttpCache, sha256Nix32 } from "../helpers/http-cache.ts";
import { pathInfoOf, storePathOf } from "../helpers/path-infos.ts";
import { expectCode } from "../helpers/promises.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const RIGHT = referenceNar(directory({ a: file("right") }));
const WRONG = referenceNar(directory({ a: file("wrong") }));

let cache: HttpCache;
let server: TestGrpcServer;
let client: GrpcStore;

beforeEach(async () => {
  cache = await openHttpCache();
  server = await serveGrpc(cache.store);
  client = new GrpcStore(server.address);
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await cache[Symbol.asyncDispose]();
});

/** Store a tree as a client of castore does, without a word of its NAR. */
async function treeOf(nar: Uint8Array): Promise<Node> {
  const { blobs, directories } = client;
  return (await importNar(sourceOf(nar), { blobs, directories, directorySizeProfile: "documented" })).root;
}

function recordOf(nar: Uint8Array, root: Node): NarRecord {
  return { narSha256: sha256(nar), narSize: nar.length, root };
}

async function upload(nar: Uint8Array): Promise<void> {
  const answer = await fetch(`${cache.url}/nar/${sha256Nix32(nar)}.nar`, { method: "PUT", body: nar });
  expect(answer.status).toBe(201);
}

async function narOf(nar: Uint8Array): Promise<Buffer> {
  const answer = await fetch(`${cache.url}/nar/${sha256Nix32(nar)}.nar`);
  expect(answer.status).toBe(200);
  return Buffer.from(await answer.arrayBuffer());
}

async function narInfoOf(name: string): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(`${cache.url}/${storePathHashPart(storePathOf(name).digest)}.narinfo`);
  return { status: answer.status, text: await answer.text() };
}

test("a NAR that is uploaded sets right what was said of it before", async () => {
  await client.nars.put(recordOf(RIGHT, await treeOf(WRONG)));
  await upload(RIGHT);
  expectBytes(await narOf(RIGHT), RIGHT);
  await upload(WRONG);
  expectBytes(await narOf(WRONG), WRONG);
});

test("what is known of a NAR, or of a tree, is not overruled by what is said and is wrong", async () => {
  await upload(RIGHT);
  const wrong = await treeOf(WRONG);
  await expectCode(client.nars.put(recordOf(RIGHT, wrong)), "ERR_MISMATCH", `it is said to be sha256:${sha256Nix32(RIGHT)}`);
  const known = await client.nars.byNarHash(sha256(RIGHT));
  await expectCode(client.nars.put({ ...recordOf(WRONG, wrong), root: known?.root ?? wrong }), "ERR_MISMATCH", `its tree gives sha256:${sha256Nix32(RIGHT)}`);
  await expectCode(client.nars.put({ ...recordOf(RIGHT, known?.root ?? wrong), narSize: 1 }), "ERR_MISMATCH");
  expectBytes(await narOf(RIGHT), RIGHT);
});

test("what is said of a NAR and is right overrules what was said and was wrong", async () => {
  const [right, wrong] = [await treeOf(RIGHT), await treeOf(WRONG)];
  await client.nars.put(recordOf(RIGHT, wrong));
  await client.nars.put(recordOf(RIGHT, right));
  expectBytes(await narOf(RIGHT), RIGHT);
});

test("one NAR may have two trees, whose directories count their sizes differently", async () => {
  await upload(RIGHT);
  const { blobs, directories } = client;
  const { root } = await importNar(sourceOf(RIGHT), { blobs, directories, directorySizeProfile: "doubled" });
  await client.nars.put(recordOf(RIGHT, root));
  for (const [name, tree] of [["documented", await treeOf(RIGHT)], ["doubled", root]] as const) {
    await client.pathInfos.put(pathInfoOf(name, { ...recordOf(RIGHT, tree), references: [] }));
    expect((await narInfoOf(name)).status).toBe(200);
  }
  expectBytes(await narOf(RIGHT), RIGHT);
});

test.for([
  ["another tree", async () => await treeOf(WRONG)],
  ["a tree that is not stored", async () => directoryOf({ a: fileNode("not stored") }).node],
  ["a symlink", async () => symlinkNode("a")],
] as const)("a path info that says a NAR's hash of %s is not served, though the NAR is known", async ([, root]) => {
  await upload(RIGHT);
  await client.pathInfos.put(pathInfoOf("lie", { ...recordOf(RIGHT, await root()), references: [] }));
  expect((await narInfoOf("lie")).status).toBe(404);
});

test("a path info of a tree that no one has spoken of is served when its NAR is what it says", async () => {
  const nar = referenceNar(symlink("a"));
  await client.pathInfos.put(pathInfoOf("honest", { ...recordOf(nar, symlinkNode("a")), references: [] }));
  const { status, text } = await narInfoOf("honest");
  expect(status).toBe(200);
  expect(text).toContain(`NarHash: sha256:${sha256Nix32(nar)}`);
  expectBytes(await narOf(nar), nar);
});

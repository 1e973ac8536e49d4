/** Images and exports over HTTP. */
import { createHash } from "node:crypto";
import { request } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { gunzipSync } from "node:zlib";
import { deferred } from "../../src/concurrency/deferred.ts";
import { findImages } from "../../src/image/image-catalog.ts";
import { importImages } from "../../src/image/import-images.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { toBase64Url } from "../../src/bytes/text-encoding.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { encodeEntry } from "../../src/castore/directory-proto.ts";
import { storePathHashPart } from "../../src/nix/store-path.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { expectBytes } from "../helpers/bytes.ts";
import type { HttpCache } from "../helpers/http-cache.ts";
import { openHttpCache } from "../helpers/http-cache.ts";
import { digestOf, dockerMembers, imageOf, tarOf } from "../helpers/image-archives.ts";
import { pathInfoOf, storePathOf } from "../helpers/path-infos.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const LAYER = tarOf([{ path: "bin/hello", bytes: Buffer.from("hello"), mode: 0o755 }]);
const HELLO = imageOf([LAYER]);
const ARCHIVE = tarOf(dockerMembers([HELLO]));
const NAR = referenceNar(directory({ a: file("some text") }));

let cache: HttpCache;

beforeEach(async () => {
  cache = await openHttpCache();
});

afterEach(async () => {
  await cache[Symbol.asyncDispose]();
});

async function put(body: Uint8Array, query = "", headers: Record<string, string> = {}): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(`${cache.url}/v1/images${query}`, { method: "PUT", body, headers });
  return { status: answer.status, text: await answer.text() };
}

/** A GET that takes trailers, which fetch() does not give out. */
async function getWithTrailers(path: string): Promise<{ readonly body: Buffer; readonly headers: NodeJS.Dict<string | string[]>; readonly trailers: NodeJS.Dict<string> }> {
  return await new Promise((resolve, reject) => {
    request(`${cache.url}${path}`, { headers: { te: "trailers" } }, (response) => {
      const body: Buffer[] = [];
      response.on("data", (data: Buffer) => body.push(data));
      response.on("end", () => resolve({ body: Buffer.concat(body), headers: response.headers, trailers: response.trailers }));
      response.on("error", reject);
    }).end();
  });
}

async function pathWithReference(): Promise<string> {
  const { store } = cache;
  const { root, narSha256, narSize } = await importNar(sourceOf(NAR), { blobs: store.blobs, directories: store.directories });
  await store.pathInfos.put(pathInfoOf("below", { root, narSha256, narSize, references: [] }));
  await store.pathInfos.put(pathInfoOf("above", { root, narSha256, narSize, references: [storePathOf("below")] }));
  return storePathHashPart(storePathOf("above").digest);
}

describe("PUT /v1/images", () => {
  test("takes an archive in and says what came", async () => {
    const { status, text } = await put(ARCHIVE);
    expect(status).toBe(201);
    expect(JSON.parse(text)).toMatchObject({ images: [{ name: "hello:latest", platforms: [{ platform: "linux/amd64", id: HELLO.id, layers: [{ diffId: digestOf(LAYER), size: LAYER.length }] }] }], layers: [{ diffId: digestOf(LAYER), sharedBytes: 0 }] });
    expect(await findImages("hello:latest", cache.store)).toBeDefined();
  });

  test("tells of progress to who asks for lines, and the result last", async () => {
    const { status, text } = await put(ARCHIVE, "?name=mine:1", { accept: "application/x-ndjson" });
    expect(status).toBe(200);
    const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line) as { type: string });
    expect(lines.at(-1)).toMatchObject({ type: "result", images: [{ name: "mine:1" }] });
  });

  test("takes in no more at once than it may, whoever is told of progress", async () => {
    await using narrow = await openHttpCache({ maxUploads: 1 });
    const { promise: mayGoOn, resolve: goOn } = deferred<void>();
    const send = (source: AsyncIterable<Uint8Array>, accept: string): Promise<Response> =>
      fetch(`${narrow.url}/v1/images`, { method: "PUT", headers: { accept }, body: ReadableStream.from(source) as never, duplex: "half" } as RequestInit);
    async function* slowly(): AsyncGenerator<Uint8Array, void, undefined> {
      yield ARCHIVE.subarray(0, 512);
      await mayGoOn;
      yield ARCHIVE.subarray(512);
    }
    const first = await send(slowly(), "application/x-ndjson");
    const second = await send(sourceOf(ARCHIVE), "application/x-ndjson");
    const linesOf = (text: string): { type: string; layerBytes?: number }[] => text.trimEnd().split("\n").map((line) => JSON.parse(line) as { type: string });
    const reader = second.body?.pipeThrough(new TextDecoderStream()).getReader();
    // It says that nothing has come, since nothing was looked at.
    expect(linesOf((await reader?.read())?.value ?? "")).toEqual([{ type: "progress", layerBytes: 0, layers: 0 }]);
    goOn();
    expect(linesOf(await first.text()).at(-1)).toMatchObject({ type: "result" });
    let rest = "";
    for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) rest += part.value;
    expect(linesOf(rest).at(-1)).toMatchObject({ type: "result" });
  });

  test("refuses a name that no image has before anything has come", async () => {
    expect(await put(ARCHIVE, "?name=a%20b")).toMatchObject({ status: 400, text: expect.stringContaining('"a b" is no name') as string });
  });

  test("refuses what is no image, and lists nothing", async () => {
    expect(await put(tarOf([]))).toMatchObject({ status: 400, text: expect.stringContaining("neither a manifest.json") as string });
    const { status, text } = await put(ARCHIVE.subarray(0, 700), "", { accept: "application/x-ndjson" });
    expect(status).toBe(200);
    expect(JSON.parse(text.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({ type: "error", status: 400 });
    expect(await (await fetch(`${cache.url}/v1/images`)).text()).toBe("");
  });

  test("is refused where uploads are", async () => {
    await using closed = await openHttpCache({ allowWrites: false });
    expect((await fetch(`${closed.url}/v1/images`, { method: "PUT", body: ARCHIVE })).status).toBe(403);
  });
});

test("GET /v1/images lists the others when one cannot be read", async () => {
  await put(ARCHIVE);
  const { digest, size } = toSmallBlob(Buffer.from("{}"));
  await cache.store.blobs.putMany([toSmallBlob(Buffer.from("{}"))]);
  await cache.store.documents.put({ name: "image/broken:1", digest, size });
  const lines = (await (await fetch(`${cache.url}/v1/images`)).text()).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([{ name: "broken:1", error: expect.stringContaining("Cannot read an image's record") as string }, expect.objectContaining({ name: "hello:latest" })]);
});

test("GET /v1/images lists them, one in a line", async () => {
  await put(ARCHIVE);
  await put(ARCHIVE, "?name=other:1");
  const lines = (await (await fetch(`${cache.url}/v1/images`)).text()).trimEnd().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { name: string }).name)).toEqual(["hello:latest", "other:1"]);
});

describe("GET /v1/export", () => {
  test("gives a store path as a NAR, with its length, or its digests behind it", async () => {
    const hash = await pathWithReference();
    const answer = await fetch(`${cache.url}/v1/export/path/${hash}`);
    expect(answer.headers.get("content-length")).toBe(String(NAR.length));
    expectBytes(new Uint8Array(await answer.arrayBuffer()), NAR);
    const { body, headers, trailers } = await getWithTrailers(`/v1/export/path/${hash}`);
    expectBytes(body, NAR);
    expect(headers["content-length"]).toBeUndefined();
    expect(trailers).toEqual({ "narbor-digest": digestOf(NAR), "narbor-uncompressed-digest": digestOf(NAR) });
  });

  test("gives a tree by its entry, compressed", async () => {
    const { root } = await importNar(sourceOf(NAR), { blobs: cache.store.blobs, directories: cache.store.directories });
    const { body, trailers } = await getWithTrailers(`/v1/export/entry/${toBase64Url(encodeEntry(root))}?compression=gzip&level=9`);
    expectBytes(gunzipSync(body), NAR);
    expect(trailers).toEqual({ "narbor-digest": `sha256:${createHash("sha256").update(body).digest("hex")}`, "narbor-uncompressed-digest": digestOf(NAR) });
  });

  test.for(["docker", "oci"])("gives a closure as a %s archive", async (format) => {
    const hash = await pathWithReference();
    const answer = await fetch(`${cache.url}/v1/export/path/${hash}?format=${format}&closure=1&name=both:1&platform=linux/riscv64`);
    const archive = Buffer.from(await answer.arrayBuffer());
    expect(answer.headers.get("content-length")).toBe(String(archive.length));
    await using other = new MemoryStore();
    const { images } = await importImages(sourceOf(archive), other);
    expect(images).toMatchObject([{ name: "both:1", images: [{ platform: "linux/riscv64", layers: [{}, {}] }] }]);
  });

  test("gives an image out again, whose manifest's digest follows", async () => {
    await put(ARCHIVE);
    const { body, trailers } = await getWithTrailers("/v1/export/image/hello:latest?format=oci&compression=zstd");
    await using other = new MemoryStore();
    const { images } = await importImages(sourceOf(body), other);
    expect(images).toMatchObject([{ name: "hello:latest", images: [{ id: HELLO.id }] }]);
    expect(trailers["narbor-manifest-digest"]).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test.for([
    ["path/00000000000000000000000000000000", 404],
    ["path/nonsense", 400],
    ["entry/AAAA", 400],
    ["image/nothing", 404],
    ["image/hello:latest?format=nar", 400],
    ["image/hello:latest?format=oci&compression=xz", 400],
    ["image/hello:latest?level=3", 400],
    ["image/hello:latest?format=zip", 400],
    ["image/hello?foret=oci", 400],
    ["image/hello?format=oci&format=docker", 400],
    ["image/hello:latest?max-layers=0", 400],
    ["image/hello:latest?platform=plan9/mips", 404],
    ["something/else", 404],
  ] as const)("answers /v1/export/%s with %i", async ([path, status]) => {
    await put(ARCHIVE);
    expect((await fetch(`${cache.url}/v1/export/${path}`)).status).toBe(status);
  });
});

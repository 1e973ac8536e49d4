/** NARs that are served in the frames in which they are stored. */
import type { IncomingMessage } from "node:http";
import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { toBase64Url } from "../../src/bytes/text-encoding.ts";
import { encodeEntry } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { sha256 } from "../../src/hash/sha256.ts";
import { NarborError } from "../../src/errors.ts";
import type { Store } from "../../src/store/store.ts";
import { decompress } from "../../src/compression/decompress.ts";
import { collect, expectBytes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import type { HttpCache, HttpCacheOptions } from "../helpers/http-cache.ts";
import { getBytes, narInfoText, openHttpCache, put, send, sha256Nix32 } from "../helpers/http-cache.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { streamOf } from "../helpers/tracked-source.ts";

const HASH = "0c5b8vw40dy178xlpddw65q9gf1h2186";
const NAR = referenceNar(directory(Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`file${index}`, file(textBytes(1000, index))]))));
const NAR_HASH = sha256Nix32(NAR);
const SMALL = referenceNar(directory({ small: file(textBytes(1000)) }));

async function openFilled(nar: Uint8Array, options?: HttpCacheOptions): Promise<HttpCache> {
  const temporary = await temporaryDirectory();
  onTestFinished(async () => await temporary[Symbol.asyncDispose]());
  const cache = await openFilledIn(temporary.path, nar, options);
  onTestFinished(async () => await cache[Symbol.asyncDispose]());
  return cache;
}

async function openFilledIn(path: string, nar: Uint8Array, options: HttpCacheOptions = {}): Promise<HttpCache> {
  const cache = await openHttpCache({ store: await PacksStore.open(path, { create: true }), ...options });
  await fill(cache, nar);
  return cache;
}

async function fill({ url }: HttpCache, nar: Uint8Array): Promise<void> {
  expect(await put(`${url}/nar/${sha256Nix32(nar)}.nar`, nar)).toMatchObject({ status: 201 });
  expect(await put(`${url}/${HASH}.narinfo`, narInfoText(nar, `/nix/store/${HASH}-hello`))).toMatchObject({ status: 201 });
}

async function narInfoOf({ url }: HttpCache): Promise<Record<string, string>> {
  const { status, text } = await send(`${url}/${HASH}.narinfo`);
  expect(status).toBe(200);
  return Object.fromEntries(text.trimEnd().split("\n").map((line) => line.split(": ", 2)));
}

async function decompressed(bytes: Uint8Array): Promise<Uint8Array> {
  return await collect(decompress(streamOf([bytes]), { codec: "zstd" }));
}

describe("a NAR that lies in frames", () => {
  test("is said to be zstd, of the size that it has, and its own hash is as it was", async () => {
    const cache = await openFilled(NAR);
    const narInfo = await narInfoOf(cache);
    expect(narInfo).toMatchObject({ URL: `nar/${NAR_HASH}.nar.zst`, Compression: "zstd", NarHash: `sha256:${NAR_HASH}`, NarSize: String(NAR.length) });
    const { status, bytes, headers } = await getBytes(`${cache.url}/${narInfo["URL"]}`);
    expect(status).toBe(200);
    expect(headers.get("content-length")).toBe(narInfo["FileSize"]);
    expect(String(bytes.length)).toBe(narInfo["FileSize"]);
    expect(`sha256:${sha256Nix32(bytes)}`).toBe(narInfo["FileHash"]);
    expect(bytes.length).toBeLessThan(NAR.length / 2);
    expectBytes(await decompressed(bytes), NAR);
    expect(await narInfoOf(cache)).toEqual(narInfo);
  });

  test("is served as it is, too, for who remembers that URL", async () => {
    const { url } = await openFilled(NAR);
    expectBytes((await getBytes(`${url}/nar/${NAR_HASH}.nar`)).bytes, NAR);
  });

  test("has HEAD, ranges and an ETag of its own", async () => {
    const { url } = await openFilled(NAR);
    const address = `${url}/nar/${NAR_HASH}.nar.zst`;
    const whole = await getBytes(address);
    const etag = whole.headers.get("etag") as string;
    expect(etag).not.toBe((await getBytes(`${url}/nar/${NAR_HASH}.nar`)).headers.get("etag"));
    const head = await send(address, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), head.text]).toEqual([200, String(whole.bytes.length), ""]);
    const part = await getBytes(address, { range: "bytes=100-2099" });
    expect([part.status, part.headers.get("content-range")]).toEqual([206, `bytes 100-2099/${whole.bytes.length}`]);
    expectBytes(part.bytes, whole.bytes.subarray(100, 2100));
    expect((await getBytes(address, { range: `bytes=${whole.bytes.length}-` })).status).toBe(416);
    expect((await getBytes(address, { range: "bytes=100-2099", "if-range": etag })).status).toBe(206);
    expect((await getBytes(address, { range: "bytes=100-2099", "if-range": '"another"' })).status).toBe(200);
    expect((await getBytes(address, { "if-none-match": etag })).status).toBe(304);
  });

  test("is served by hundreds of requests at once", async () => {
    const { url } = await openFilled(NAR);
    const address = `${url}/nar/${NAR_HASH}.nar.zst`;
    const [{ bytes }] = [await getBytes(address)];
    for (const answer of await Promise.all(Array.from({ length: 200 }, () => getBytes(address)))) expectBytes(answer.bytes, bytes);
  });

  test("is served as it is where the server is told to", async () => {
    const cache = await openFilled(NAR, { narCompression: "none" });
    expect(await narInfoOf(cache)).toMatchObject({ URL: `nar/${NAR_HASH}.nar`, Compression: "none", FileSize: String(NAR.length), FileHash: `sha256:${NAR_HASH}` });
    // Who remembers the other URL is served all the same.
    expectBytes(await decompressed((await getBytes(`${cache.url}/nar/${NAR_HASH}.nar.zst`)).bytes), NAR);
  });
});

test("what a NAR in frames is as a file is hashed once, and found by the next server", async () => {
  await using temporary = await temporaryDirectory();
  const first = await openFilledIn(temporary.path, NAR);
  const narInfo = await narInfoOf(first);
  await first[Symbol.asyncDispose]();
  await using second = await openHttpCache({ store: await PacksStore.open(temporary.path) });
  expect(await narInfoOf(second)).toEqual(narInfo);
  expect(await narInfoOf(second)).toEqual(narInfo);
  expect(await second.store.computed.stats()).toMatchObject([{ kind: "framed-nar", entries: 1, hits: 1, misses: 1 }]);
});

test("a narinfo is served also where nothing can be remembered", async () => {
  await using temporary = await temporaryDirectory();
  await using packs = await PacksStore.open(temporary.path, { create: true });
  const full = { get: async () => undefined, put: async () => Promise.reject(new NarborError("ERR_NO_SPACE", "the disk is full")) };
  const { blobs, directories, pathInfos, nars, documents, frames } = packs;
  const store = { blobs, directories, pathInfos, nars, documents, frames, computed: full as unknown as Store["computed"], begin: () => packs.begin(), directorySizeProfile: () => packs.directorySizeProfile(), [Symbol.asyncDispose]: async () => undefined };
  await using cache = await openHttpCache({ store });
  await fill(cache, NAR);
  expect(await narInfoOf(cache)).toMatchObject({ Compression: "zstd" });
});

test("a small NAR is served as it is, and so is every NAR of a store without frames", async () => {
  expect(await narInfoOf(await openFilled(SMALL))).toMatchObject({ URL: `nar/${sha256Nix32(SMALL)}.nar`, Compression: "none" });
  const cache = await openHttpCache();
  onTestFinished(async () => await cache[Symbol.asyncDispose]());
  await put(`${cache.url}/nar/${NAR_HASH}.nar`, NAR);
  await put(`${cache.url}/${HASH}.narinfo`, narInfoText(NAR, `/nix/store/${HASH}-hello`));
  expect(await narInfoOf(cache)).toMatchObject({ URL: `nar/${NAR_HASH}.nar`, Compression: "none" });
  // Who remembers that URL from elsewhere gets the NAR.
  expectBytes(await decompressed((await getBytes(`${cache.url}/nar/${NAR_HASH}.nar.zst`)).bytes), NAR);
});

test("a URL that lies about a NAR's size changes nothing for others", async () => {
  const names = Array.from({ length: 300 }, (_, index) => `file${index}`);
  const treeOf = (rename: (name: string, index: number) => string): Uint8Array => referenceNar(directory(Object.fromEntries(names.map((name, index) => [rename(name, index), file(textBytes(500, index))]))));
  const other = treeOf((name, index) => `${(index * 7) % 300}-${name}`);
  for (const [nar, compression] of [[NAR, "zstd"], [other, "none"]] as const) {
    const cache = await openFilled(treeOf((name) => name));
    await fill(cache, nar);
    const root = (await cache.store.nars.byNarHash(sha256(nar)))?.root as Node;
    for (const size of ["16384", "9999999999999999"]) expect((await send(`${cache.url}/nar/snix-castore/${toBase64Url(encodeEntry(root))}?narsize=${size}`)).status).toBe(404);
    expect(await narInfoOf(cache)).toMatchObject({ Compression: compression });
    expectBytes(await decompressed((await getBytes(`${cache.url}/nar/${sha256Nix32(nar)}.nar.zst`)).bytes), nar);
  }
});

test("a NAR that is not here is 404 as zstd, too", async () => {
  const { url } = await openFilled(NAR);
  expect((await send(`${url}/nar/${"0".repeat(52)}.nar.zst`)).status).toBe(404);
});

/** A client that takes what comes in gulps, with pauses. */
async function readSlowly(url: string): Promise<Uint8Array> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => get(url, resolve).on("error", reject));
  const pieces: Uint8Array[] = [];
  // Until the kernel takes no more.
  await sleep(500);
  for await (const piece of response) {
    pieces.push(piece as Uint8Array);
    if (pieces.length % 8 === 0) await sleep(5);
  }
  return Buffer.concat(pieces);
}

test("many readers that are slow get what they asked for, though the memory of what they were sent is used again", async () => {
  // Half of it cannot be compressed.
  const nar = referenceNar(directory(Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`file${index}`, file(index % 2 === 0 ? textBytes(300_000, index) : sampleBytes(300_000, index))]))));
  const { url } = await openFilled(nar);
  const hash = sha256Nix32(nar);
  const framed = (await getBytes(`${url}/nar/${hash}.nar.zst`)).bytes;
  await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const [suffix, expected] = index % 2 === 0 ? ["", nar] : [".zst", framed];
      expectBytes(await readSlowly(`${url}/nar/${hash}.nar${suffix}`), expected);
    }),
  );
});

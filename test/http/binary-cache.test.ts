import { createHash } from "node:crypto";
import { request } from "node:http";
import { connect } from "node:net";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { toBase64Url } from "../../src/bytes/text-encoding.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { encodeEntry } from "../../src/castore/directory-proto.ts";
import { compressZstdSync } from "../../src/compression/zstd.ts";
import { NarborError } from "../../src/errors.ts";
import type { Store } from "../../src/store/store.ts";
import { sampleBytes } from "../helpers/bytes.ts";
import type { HttpCache, HttpCacheOptions } from "../helpers/http-cache.ts";
import { getBytes, narInfoText, openHttpCache, put, send, sha256Nix32 } from "../helpers/http-cache.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

const HASH_A = "0c5b8vw40dy178xlpddw65q9gf1h2186";
const HASH_B = "1c5b8vw40dy178xlpddw65q9gf1h2186";
const PATH_A = `/nix/store/${HASH_A}-hello`;
const PATH_B = `/nix/store/${HASH_B}-other`;

const name = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const TREE: Tree = {
  type: "directory",
  entries: [
    [name("bin"), { type: "directory", entries: [[name("hello"), { type: "file", bytes: name("#!/bin/sh\n"), executable: true }]] }],
    [name("empty"), { type: "file", bytes: new Uint8Array(0) }],
    [name("large"), { type: "file", bytes: sampleBytes(1_300_000) }],
    [name("link"), { type: "symlink", target: name("bin/hello") }],
    [name("share"), { type: "file", bytes: sampleBytes(3000, 2) }],
  ],
};
const NAR = referenceNar(TREE);
const NAR_HASH = sha256Nix32(NAR);

async function open(options?: HttpCacheOptions): Promise<HttpCache> {
  const cache = await openHttpCache(options);
  onTestFinished(async () => await cache[Symbol.asyncDispose]());
  return cache;
}

/** A cache that has `NAR` and, as `PATH_A`, its narinfo. */
async function openFilled(options?: HttpCacheOptions): Promise<HttpCache> {
  const cache = await open(options);
  expect(await put(`${cache.url}/nar/${NAR_HASH}.nar`, NAR)).toMatchObject({ status: 201 });
  expect(await put(`${cache.url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A))).toMatchObject({ status: 201 });
  return cache;
}

describe("nix-cache-info", () => {
  test("GET says the store directory, mass queries and the priority", async () => {
    const { url } = await open({ priority: 35 });
    const answer = await send(`${url}/nix-cache-info`);
    expect(answer).toMatchObject({ status: 200, text: "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 35\n" });
    expect(answer.headers.get("content-type")).toBe("text/x-nix-cache-info");
  });

  test("PUT is 200 for our store directory, and 400 with a sentence for another", async () => {
    const { url } = await open();
    expect(await put(`${url}/nix-cache-info`, "StoreDir: /nix/store\n")).toMatchObject({ status: 200 });
    expect(await put(`${url}/nix-cache-info`, "StoreDir: /gnu/store\n")).toMatchObject({ status: 400, text: 'This cache is for the store /nix/store, not for "/gnu/store"\n' });
  });
});

describe("PUT nar/", () => {
  const codecs = [
    ["none", ".nar", NAR],
    ["gzip, which Nix gives no suffix", ".nar", gzipSync(NAR)],
    ["gzip of two members", ".nar", Buffer.concat([gzipSync(NAR.subarray(0, 5000)), gzipSync(NAR.subarray(5000))])],
    ["br", ".nar.br", brotliCompressSync(NAR)],
    ["br without its suffix", ".nar", brotliCompressSync(NAR)],
    ["zstd of two frames", ".nar.zst", Buffer.concat([compressZstdSync(NAR.subarray(0, 777), 1), compressZstdSync(NAR.subarray(777), 3)])],
    ["zstd under a wrong suffix", ".nar.xz", Buffer.from(compressZstdSync(NAR, 1))],
  ] as const;
  test.for(codecs)("takes %s, and the NAR is served uncompressed by its own hash", async ([, suffix, file]) => {
    const { url } = await open();
    const fileName = `nar/${sha256Nix32(file)}${suffix}`;
    expect(await send(`${url}/${fileName}`, { method: "HEAD" })).toMatchObject({ status: 404 });
    expect(await put(`${url}/${fileName}`, file)).toMatchObject({ status: 201 });
    expect(await send(`${url}/${fileName}`, { method: "HEAD" })).toMatchObject({ status: 200 });
    expect(await put(`${url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { URL: fileName, FileHash: `sha256:${sha256Nix32(file)}`, FileSize: String(file.length) }))).toMatchObject({ status: 201 });
    const { status, bytes } = await getBytes(`${url}/nar/${NAR_HASH}.nar`);
    expect(status).toBe(200);
    expect(Buffer.compare(bytes, NAR)).toBe(0);
  });

  test.for([
    ["a NAR cut short", NAR.subarray(0, 4000), /^Cannot parse NAR: input ends at byte 4000/],
    ["a byte after the NAR", Buffer.concat([NAR, Buffer.from([0])]), /^Cannot parse NAR: found data after the end at byte/],
    ["no NAR at all", Buffer.from("hello, world, this is no archive"), /neither a NAR nor a compression we know/],
    ["nothing", Buffer.alloc(0), /input is empty/],
    ["gzip cut short", gzipSync(NAR).subarray(0, 900), /^Cannot decompress gzip/],
    ["gzip followed by a byte", Buffer.concat([gzipSync(NAR), Buffer.from([1])]), /^Cannot decompress gzip/],
    ["zstd cut short", compressZstdSync(NAR, 1).subarray(0, 900), /^Cannot decompress zstd/],
    ["zstd of a NAR that is cut short", compressZstdSync(NAR.subarray(0, 4000), 1), /^Cannot parse NAR: input ends/],
  ] as const)("refuses %s with 400 and says what is wrong", async ([, file, message]) => {
    const { url, store, faults } = await open();
    const fileHash = createHash("sha256").update(file).digest();
    const answer = await put(`${url}/nar/${sha256Nix32(file)}.nar`, file);
    expect(answer.status).toBe(400);
    expect(answer.text).toMatch(message);
    expect(await store.nars.byFileHash(fileHash)).toBeUndefined();
    expect(faults).toEqual([]);
  });

  test("refuses lz4 with 415 and names what to use", async () => {
    const { url } = await open();
    const file = Buffer.concat([Buffer.from([0x04, 0x22, 0x4d, 0x18]), Buffer.alloc(100)]);
    const answer = await put(`${url}/nar/${sha256Nix32(file)}.nar.lz4`, file);
    expect(answer.status).toBe(415);
    expect(answer.text).toMatch(/zstd/);
  });

  test("refuses a file whose hash is not the one in its name", async () => {
    const { url, store } = await open();
    const answer = await put(`${url}/nar/${sha256Nix32(name("other"))}.nar`, NAR);
    expect(answer).toMatchObject({ status: 400 });
    expect(answer.text).toContain(`its file has SHA-256 ${NAR_HASH}`);
    expect(await store.nars.byNarHash(createHash("sha256").update(NAR).digest())).toBeUndefined();
  });

  test("refuses a name that is no hash", async () => {
    const { url } = await open();
    expect(await put(`${url}/nar/hello.nar`, NAR)).toMatchObject({ status: 400 });
    expect(await put(`${url}/nar/${"e".repeat(52)}.nar`, NAR)).toMatchObject({ status: 400 });
  });

  test("stores nothing of a body that ends before its Content-Length, and goes on serving", async () => {
    const { url, store, server } = await open();
    await new Promise<void>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () => {
        socket.write(`PUT /nar/${NAR_HASH}.nar HTTP/1.1\r\nHost: x\r\nContent-Length: ${NAR.length}\r\n\r\n`);
        socket.write(NAR.subarray(0, NAR.length - 1), () => socket.destroy());
      });
      socket.on("close", () => resolve());
    });
    expect(await send(`${url}/nar/${NAR_HASH}.nar`, { method: "HEAD" })).toMatchObject({ status: 404 });
    expect(await store.nars.byNarHash(createHash("sha256").update(NAR).digest())).toBeUndefined();
    expect(await send(`${url}/healthz`)).toMatchObject({ status: 200 });
  });

  test("refuses a NAR that becomes larger than is allowed, with 413, however small its file is", async () => {
    const { url } = await open({ maxNarBytes: 1_000_000 });
    const nar = referenceNar({ type: "file", bytes: new Uint8Array(2_000_000) });
    for (const file of [nar, compressZstdSync(nar, 1), gzipSync(nar)]) expect(await put(`${url}/nar/${sha256Nix32(file)}.nar`, new Uint8Array(file))).toMatchObject({ status: 413 });
  });

  test("takes more uploads at once than it works on, one after the other", async () => {
    const { url } = await open({ maxUploads: 2 });
    const nars = Array.from({ length: 12 }, (_, index) => referenceNar({ type: "file", bytes: sampleBytes(50_000, index) }));
    const answers = await Promise.all(nars.map((nar) => put(`${url}/nar/${sha256Nix32(nar)}.nar`, nar)));
    expect(answers.map(({ status }) => status)).toEqual(nars.map(() => 201));
  });

  test("takes the same upload twice, and twice at once", async () => {
    const { url } = await open();
    const upload = (): ReturnType<typeof put> => put(`${url}/nar/${NAR_HASH}.nar`, NAR);
    const answers = await Promise.all([upload(), upload(), upload()]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(await upload()).toMatchObject({ status: 201 });
  });

  test("gives up a body that brings nothing for too long with 408, and not one that is slow", async () => {
    const { server, url } = await open({ idleMilliseconds: 300 });
    const idle = await new Promise<string>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () => {
        socket.write(`PUT /nar/${NAR_HASH}.nar HTTP/1.1\r\nHost: x\r\nContent-Length: ${NAR.length}\r\n\r\n`);
        socket.write(NAR.subarray(0, 100));
      });
      let text = "";
      socket.on("data", (data) => (text += data.toString()));
      socket.on("close", () => resolve(text));
      socket.on("error", () => undefined);
    });
    expect(idle).toMatch(/^HTTP\/1\.1 408 /);
    expect(idle).toContain("Nothing came of the request's body for 0.3 s");

    const tiny = referenceNar({ type: "file", bytes: name("slow") });
    const status = await new Promise<number>((resolve, reject) => {
      const upload = request(`${url}/nar/${sha256Nix32(tiny)}.nar`, { method: "PUT", headers: { "content-length": tiny.length } }, (response) => resolve(response.statusCode ?? 0));
      upload.on("error", reject);
      let offset = 0;
      const timer = setInterval(() => {
        upload.write(tiny.subarray(offset, (offset += 16)));
        if (offset < tiny.length) return;
        clearInterval(timer);
        upload.end();
      }, 100);
    });
    expect(status).toBe(201);
  });

  test("lets the client read why a large upload was refused", async () => {
    const { url } = await open();
    const file = Buffer.alloc(20_000_000, "x");
    expect((await put(`${url}/nar/${sha256Nix32(file)}.nar`, file)).status).toBe(400);
    expect(await send(`${url}/healthz`)).toMatchObject({ status: 200 });
  });
});

describe("PUT narinfo", () => {
  test.for([
    ["another path's hash in the URL", narInfoText(NAR, PATH_B), 400, /it is of \/nix\/store\/1c5b/],
    ["a NarHash that is not the NAR's", narInfoText(NAR, PATH_A, { NarHash: `sha256:${sha256Nix32(name("x"))}` }), 400, /it says NarHash sha256:.*, the uploaded NAR has sha256:/],
    ["a NarSize that is not the NAR's", narInfoText(NAR, PATH_A, { NarSize: "7" }), 400, /it says NarSize 7, the uploaded NAR has/],
    ["no NAR of that name", narInfoText(NAR, PATH_A, { URL: `nar/${sha256Nix32(name("y"))}.nar.xz`, NarHash: `sha256:${sha256Nix32(name("y"))}` }), 400, /its NAR is not here\. Upload/],
    ["no final newline", narInfoText(NAR, PATH_A).trimEnd(), 400, /^Cannot parse narinfo/],
    ["no NarSize", narInfoText(NAR, PATH_A, { NarSize: undefined }), 400, /NarSize/],
    ["something that is no narinfo", "hello\n", 400, /^Cannot parse narinfo/],
    ["more than 2 MiB", narInfoText(NAR, PATH_A, { X: "x".repeat(2 * 1024 * 1024) }), 413, /more than 2097152 bytes/],
  ] as const)("refuses %s", async ([, text, status, message]) => {
    const { url, faults } = await open();
    await put(`${url}/nar/${NAR_HASH}.nar`, NAR);
    const answer = await put(`${url}/${HASH_A}.narinfo`, text);
    expect(answer.status).toBe(status);
    expect(answer.text).toMatch(message);
    expect(await send(`${url}/${HASH_A}.narinfo`)).toMatchObject({ status: 404 });
    expect(faults).toEqual([]);
  });

  test.for([
    ["gzip", gzipSync(narInfoText(NAR, PATH_A))],
    ["br", brotliCompressSync(narInfoText(NAR, PATH_A))],
    ["zstd", compressZstdSync(Buffer.from(narInfoText(NAR, PATH_A)), 3)],
  ] as const)("undoes Content-Encoding %s", async ([encoding, body]) => {
    const { url } = await open();
    await put(`${url}/nar/${NAR_HASH}.nar`, NAR);
    expect(await put(`${url}/${HASH_A}.narinfo`, new Uint8Array(body), { "content-encoding": encoding })).toMatchObject({ status: 201 });
    expect(await send(`${url}/${HASH_A}.narinfo`)).toMatchObject({ status: 200 });
  });

  test("bounds what Content-Encoding hides", async () => {
    const { url } = await open();
    const answer = await put(`${url}/${HASH_A}.narinfo`, gzipSync(Buffer.alloc(50_000_000)), { "content-encoding": "gzip" });
    expect(answer.status).toBe(413);
  });

  test("keeps the signatures that were there and adds the new ones", async () => {
    const { url } = await openFilled();
    const signature = (key: string, fill: number): string => `${key}:${Buffer.alloc(64, fill).toString("base64")}`;
    await put(`${url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { Sig: signature("one", 1) }));
    await Promise.all([2, 3, 4].map((fill) => put(`${url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { Sig: signature(`key${fill}`, fill) }))));
    const { text } = await send(`${url}/${HASH_A}.narinfo`);
    expect(text.match(/^Sig: (\w+):/gm)?.sort()).toEqual(["Sig: key2:", "Sig: key3:", "Sig: key4:", "Sig: one:"]);
  });

  test("accepts references that are not here, unless they are required", async () => {
    const withReference = narInfoText(NAR, PATH_A, { References: `${HASH_B}-other ${HASH_A}-hello` });
    const lax = await openFilled();
    expect(await put(`${lax.url}/${HASH_A}.narinfo`, withReference)).toMatchObject({ status: 201 });
    const strict = await open({ requireReferences: true });
    await put(`${strict.url}/nar/${NAR_HASH}.nar`, NAR);
    const answer = await put(`${strict.url}/${HASH_A}.narinfo`, withReference);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(`it refers to ${PATH_B}, which is not here`);
    expect(await put(`${strict.url}/${HASH_B}.narinfo`, narInfoText(NAR, PATH_B))).toMatchObject({ status: 201 });
    expect(await put(`${strict.url}/${HASH_A}.narinfo`, withReference)).toMatchObject({ status: 201 });
  });

  test("refuses a path of more than 10,000 references", async () => {
    const { url } = await open();
    await put(`${url}/nar/${NAR_HASH}.nar`, NAR);
    const references = Array.from({ length: 10_001 }, (_, index) => `${HASH_A.slice(0, 27)}${String(index).padStart(5, "0")}-x`).join(" ");
    const answer = await put(`${url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { References: references }));
    expect(answer).toMatchObject({ status: 413 });
  });

  test("takes two paths with the same NAR from one upload", async () => {
    const { url } = await openFilled();
    expect(await put(`${url}/${HASH_B}.narinfo`, narInfoText(NAR, PATH_B))).toMatchObject({ status: 201 });
    expect((await send(`${url}/${HASH_B}.narinfo`)).text).toContain(`StorePath: ${PATH_B}\nURL: nar/${NAR_HASH}.nar\n`);
  });

  test("finds the NAR after a restart", async () => {
    await using directory = await temporaryDirectory();
    const file = gzipSync(NAR);
    const fileName = `nar/${sha256Nix32(file)}.nar`;
    const first = await openHttpCache({ store: await PacksStore.open(directory.path, { create: true }) });
    expect(await put(`${first.url}/${fileName}`, file)).toMatchObject({ status: 201 });
    await first[Symbol.asyncDispose]();
    await using second = await openHttpCache({ store: await PacksStore.open(directory.path) });
    expect(await send(`${second.url}/${fileName}`, { method: "HEAD" })).toMatchObject({ status: 200 });
    expect(await put(`${second.url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { URL: fileName }))).toMatchObject({ status: 201 });
    expect(Buffer.compare((await getBytes(`${second.url}/nar/${NAR_HASH}.nar`)).bytes, NAR)).toBe(0);
  });
});

describe("GET narinfo and .ls", () => {
  test("rewrites URL, Compression, FileHash and FileSize, and leaves the rest", async () => {
    const file = gzipSync(NAR);
    const { url } = await open();
    await put(`${url}/nar/${sha256Nix32(file)}.nar`, file);
    const signature = `key:${Buffer.alloc(64, 9).toString("base64")}`;
    await put(`${url}/${HASH_A}.narinfo`, narInfoText(NAR, PATH_A, { URL: `nar/${sha256Nix32(file)}.nar`, Compression: "gzip", FileHash: `sha256:${sha256Nix32(file)}`, Deriver: `${HASH_B}-hello.drv`, Sig: signature }));
    const answer = await send(`${url}/${HASH_A}.narinfo`);
    expect(answer.text).toBe(
      `StorePath: ${PATH_A}\nURL: nar/${NAR_HASH}.nar\nCompression: none\nFileHash: sha256:${NAR_HASH}\nFileSize: ${NAR.length}\nNarHash: sha256:${NAR_HASH}\nNarSize: ${NAR.length}\nReferences: \nDeriver: ${HASH_B}-hello.drv\nSig: ${signature}\n`,
    );
    expect(answer.headers.get("content-type")).toBe("text/x-nix-narinfo");
    const head = await send(`${url}/${HASH_A}.narinfo`, { method: "HEAD" });
    expect(head).toMatchObject({ status: 200, text: "" });
    expect(head.headers.get("content-length")).toBe(String(answer.text.length));
  });

  test("is 404 for a path that is not here, and 400 for a hash that is none", async () => {
    const { url } = await open();
    expect(await send(`${url}/${HASH_A}.narinfo`)).toMatchObject({ status: 404 });
    expect((await send(`${url}/hello.narinfo`)).status).toBeGreaterThanOrEqual(400);
  });

  test("lists the tree with the offset of each file's contents in the NAR", async () => {
    const { url } = await openFilled();
    const listing = (await (await fetch(`${url}/${HASH_A}.ls`)).json()) as { version: number; root: Listing };
    expect(listing.version).toBe(1);
    const { entries = {} } = listing.root;
    expect(Object.keys(entries)).toEqual(["bin", "empty", "large", "link", "share"]);
    expect(entries["link"]).toEqual({ type: "symlink", target: "bin/hello" });
    expect(entries["bin"]?.entries?.["hello"]).toMatchObject({ type: "regular", size: 10, executable: true });
    for (const [file, bytes] of [["large", sampleBytes(1_300_000)], ["share", sampleBytes(3000, 2)]] as const) {
      const offset = entries[file]?.narOffset ?? 0;
      expect(Buffer.compare(NAR.subarray(offset, offset + bytes.length), bytes)).toBe(0);
    }
  });

  test("takes a listing from a client and goes on serving its own", async () => {
    const { url } = await openFilled();
    expect(await put(`${url}/${HASH_A}.ls`, '{"version":1,"root":{"type":"symlink","target":"x"}}')).toMatchObject({ status: 200 });
    expect((await send(`${url}/${HASH_A}.ls`)).text).toContain('"type":"directory"');
  });
});

/** The same store with some methods of its blob service replaced. */
function withBlobs(store: Store, methods: Partial<BlobService>): Store {
  const { blobs } = store;
  return {
    directorySizeProfile: (options) => store.directorySizeProfile(options),
    directories: store.directories,
    pathInfos: store.pathInfos,
    nars: store.nars,
    documents: store.documents,
    computed: store.computed,
    blobs: {
      findMissing: (digests, options) => blobs.findMissing(digests, options),
      stat: (digest, options) => blobs.stat(digest, options),
      putMany: (many, options) => blobs.putMany(many, options),
      put: (content, options) => blobs.put(content, options),
      openRead: (digest, options) => blobs.openRead(digest, options),
      readMany: (digests, options) => blobs.readMany(digests, options),
      ...methods,
    },
    begin: () => store.begin(),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

interface Listing {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Listing>>;
  readonly narOffset?: number;
}

describe("GET nar/", () => {
  test("says that ranges work, that it never changes, and how long it is", async () => {
    const { url } = await openFilled();
    for (const method of ["GET", "HEAD"]) {
      const { status, headers } = await send(`${url}/nar/${NAR_HASH}.nar`, { method });
      expect(status).toBe(200);
      expect(headers.get("content-length")).toBe(String(NAR.length));
      expect(headers.get("accept-ranges")).toBe("bytes");
      expect(headers.get("cache-control")).toContain("immutable");
      expect(headers.get("etag")).toBe(`"${NAR_HASH}"`);
      expect(headers.get("content-type")).toBe("application/x-nix-nar");
      expect(headers.get("content-encoding")).toBeNull();
    }
  });

  const size = NAR.length;
  test.for([
    ["bytes=0-0", 0, 1],
    ["bytes=0-", 0, size],
    ["bytes=100-199", 100, 200],
    [`bytes=${size - 1}-`, size - 1, size],
    ["bytes=-16", size - 16, size],
    [`bytes=-${size * 2}`, 0, size],
    [`bytes=700000-${size + 5}`, 700_000, size],
    ["bytes=400-1200000", 400, 1_200_001],
  ] as const)("answers %s with 206 and those bytes", async ([range, start, end]) => {
    const { url } = await openFilled();
    const { status, bytes, headers } = await getBytes(`${url}/nar/${NAR_HASH}.nar`, { range });
    expect(status).toBe(206);
    expect(headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${size}`);
    expect(Buffer.compare(bytes, NAR.subarray(start, end))).toBe(0);
  });

  test("gives every range of a small NAR, as cut from the whole", async () => {
    const { url } = await open();
    const nar = referenceNar({ type: "directory", entries: [[name("a"), { type: "file", bytes: name("abc") }], [name("b"), { type: "file", bytes: name("defghijkl") }]] });
    await put(`${url}/nar/${sha256Nix32(nar)}.nar`, nar);
    for (let start = 0; start < nar.length; start += 17) {
      for (let end = start + 1; end <= nar.length; end += 31) {
        const { bytes } = await getBytes(`${url}/nar/${sha256Nix32(nar)}.nar`, { range: `bytes=${start}-${end - 1}` });
        expect(Buffer.compare(bytes, nar.subarray(start, end))).toBe(0);
      }
    }
  });

  test.for(["bytes=1-0", "bytes=0-1,5-6", "items=0-1", "bytes=x-y", "bytes=-"])("gives the whole NAR for %s, which is not a range it serves", async (range) => {
    const { url } = await openFilled();
    expect((await getBytes(`${url}/nar/${NAR_HASH}.nar`, { range })).status).toBe(200);
  });

  test("answers a range behind the end with 416 and the size", async () => {
    const { url } = await openFilled();
    const { status, headers } = await getBytes(`${url}/nar/${NAR_HASH}.nar`, { range: `bytes=${size}-` });
    expect(status).toBe(416);
    expect(headers.get("content-range")).toBe(`bytes */${size}`);
  });

  test("answers If-None-Match with 304, and If-Range of another file with the whole", async () => {
    const { url } = await openFilled();
    expect((await getBytes(`${url}/nar/${NAR_HASH}.nar`, { "if-none-match": `"${NAR_HASH}"` })).status).toBe(304);
    expect((await getBytes(`${url}/nar/${NAR_HASH}.nar`, { range: "bytes=0-9", "if-range": '"other"' })).status).toBe(200);
    expect((await getBytes(`${url}/nar/${NAR_HASH}.nar`, { range: "bytes=0-9", "if-range": `"${NAR_HASH}"` })).status).toBe(206);
  });

  test.for(["snix", "tvix"])("serves a tree by its root node under nar/%s-castore/", async (prefix) => {
    const { url, store } = await openFilled();
    const record = await store.nars.byNarHash(createHash("sha256").update(NAR).digest());
    const entry = toBase64Url(encodeEntry(record?.root ?? expect.fail("the NAR is in the index")));
    const { status, bytes } = await getBytes(`${url}/nar/${prefix}-castore/${entry}?narsize=${NAR.length}`);
    expect(status).toBe(200);
    expect(Buffer.compare(bytes, NAR)).toBe(0);
    expect((await getBytes(`${url}/nar/${prefix}-castore/${entry}`)).status).toBe(400);
    expect((await getBytes(`${url}/nar/${prefix}-castore/${entry}?narsize=${NAR.length + 8}`)).status).toBe(404);
    expect((await getBytes(`${url}/nar/${prefix}-castore/!!!?narsize=8`)).status).toBe(400);
    expect((await getBytes(`${url}/nar/${prefix}-castore/CiQSI?narsize=8`)).status).toBe(400);
  });

  test("is an error before the first byte when a file of the tree is missing, never a short body", async () => {
    const { url, store, faults } = await openFilled();
    const broken = await open({ store: withBlobs(store, { findMissing: async (digests) => digests.slice(0, 1) }) });
    const { status } = await getBytes(`${broken.url}/nar/${NAR_HASH}.nar`);
    expect(status).toBe(500);
    expect(broken.faults).toHaveLength(1);
    expect((await getBytes(`${url}/nar/${NAR_HASH}.nar`)).status).toBe(200);
    expect(faults).toEqual([]);
  });

  test.for([
    ["a fault of ours", new Error("the disk is gone")],
    // What would be the caller's fault in an answer of its own is not once a body is under way.
    ["nonsense from a store behind this one", new NarborError("ERR_MISMATCH", "another blob")],
  ] as const)("breaks the connection, and tells of it, when a file cannot be read after the headers went out: %s", async ([, reason]) => {
    const { store } = await openFilled();
    async function* failing(): AsyncGenerator<Uint8Array, void, undefined> {
      yield new Uint8Array(1000);
      throw reason;
    }
    const broken = await open({ store: withBlobs(store, { openRead: async () => failing() }) });
    await expect(getBytes(`${broken.url}/nar/${NAR_HASH}.nar`)).rejects.toThrow(/terminated|fetch failed/);
    expect(broken.faults).toEqual([reason]);
  });
});

describe("documents", () => {
  const realisation = `realisations/sha256:${"a".repeat(64)}!out.doi`;
  test.for([
    ["log/0c5b8vw40dy178xlpddw65q9gf1h2186-hello.drv", "a build's log\n", "text/plain; charset=utf-8"],
    [realisation, '{"id":1}', "application/json"],
    [realisation.replace("!", "%21"), '{"id":2}', "application/json"],
    ["build-trace-v2/0c5b8vw40dy178xlpddw65q9gf1h2186-hello.drv/out.doi", '{"outPath":"x"}', "application/json"],
    [`debuginfo/${"0".repeat(40)}.debug`, '{"archive":"x"}', "application/json"],
  ] as const)("keeps %s", async ([path, text, type]) => {
    const { url } = await open();
    expect(await send(`${url}/${path}`)).toMatchObject({ status: 404 });
    expect(await put(`${url}/${path}`, "first")).toMatchObject({ status: 201 });
    expect(await put(`${url}/${path}`, gzipSync(text), { "content-encoding": "gzip", "content-type": "text/html" })).toMatchObject({ status: 201 });
    const answer = await send(`${url}/${path}`);
    expect(answer).toMatchObject({ status: 200, text });
    expect(answer.headers.get("content-type")).toBe(type);
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect((await send(`${url}/${path}`, { method: "HEAD" })).headers.get("content-length")).toBe(String(text.length));
  });

  test("refuses one that is too large", async () => {
    const { url } = await open();
    expect(await put(`${url}/${realisation}`, Buffer.alloc(1024 * 1024 + 1))).toMatchObject({ status: 413 });
  });

  test.for(["log/../../etc/passwd", "log/a/b", "log/", "realisations/x.doi", "debuginfo/xyz", "nix-cache-info/x", "../x"])("refuses to keep %s", async (path) => {
    const { url } = await open();
    const status = await new Promise<number>((resolve, reject) => {
      // fetch would tidy the path up.
      const upload = request({ host: "127.0.0.1", port: new URL(url).port, path: `/${path}`, method: "PUT" }, (response) => resolve(response.resume().statusCode ?? 0));
      upload.on("error", reject);
      upload.end("x");
    });
    expect(status).toBe(400);
  });
});

describe("the server", () => {
  test("has a page for people, a health check, and 404 and 405 for the rest", async () => {
    const { url } = await open();
    const page = await send(`${url}/`);
    expect(page.status).toBe(200);
    expect(page.text).toContain(`nix copy --to &#39;${url}&#39;`.replaceAll("&#39;", "'"));
    expect(await send(`${url}/healthz`)).toMatchObject({ status: 200, text: "ok\n" });
    expect(await send(`${url}/nope`)).toMatchObject({ status: 404 });
    expect(await send(`${url}/%ff`)).toMatchObject({ status: 400 });
    const wrongMethod = await send(`${url}/nix-cache-info`, { method: "DELETE" });
    expect(wrongMethod.status).toBe(405);
    expect(wrongMethod.headers.get("allow")).toBe("GET, HEAD, PUT");
  });

  test("escapes the Host header in its page", async () => {
    const { server } = await open();
    const text = await new Promise<string>((resolve, reject) => {
      const page = request({ host: "127.0.0.1", port: server.port, path: "/", headers: { host: "<script>alert(1)</script>" } }, (response) => {
        let body = "";
        response.on("data", (data: Buffer) => (body += data.toString()));
        response.on("end", () => resolve(body));
      });
      page.on("error", reject);
      page.end();
    });
    expect(text).not.toContain("<script>");
  });

  test("refuses uploads where they are not allowed, with a sentence that says what to do", async () => {
    const { url } = await open({ allowWrites: false });
    const answer = await put(`${url}/nar/${NAR_HASH}.nar`, NAR);
    expect(answer.status).toBe(403);
    expect(answer.text).toContain("--allow-anonymous-writes");
  });

  test("refuses uploads from a page in a browser", async () => {
    const { url } = await open();
    expect(await put(`${url}/nar/${NAR_HASH}.nar`, NAR, { origin: "http://evil.example" })).toMatchObject({ status: 403 });
  });

  test("answers Expect: 100-continue at once", async () => {
    const { url } = await open();
    const status = await new Promise<number>((resolve, reject) => {
      const upload = request(`${url}/nar/${NAR_HASH}.nar`, { method: "PUT", headers: { "content-length": NAR.length, expect: "100-continue" } }, (response) => resolve(response.statusCode ?? 0));
      upload.on("continue", () => upload.end(NAR));
      upload.on("error", reject);
    });
    expect(status).toBe(201);
  });

  test("stops after what is under way has ended", async () => {
    const cache = await open();
    const tiny = referenceNar({ type: "file", bytes: name("x") });
    let stopped: Promise<void> | undefined;
    const status = await new Promise<number>((resolve, reject) => {
      const upload = request(`${cache.url}/nar/${sha256Nix32(tiny)}.nar`, { method: "PUT", headers: { "content-length": tiny.length } }, (response) => resolve(response.resume().statusCode ?? 0));
      upload.on("error", reject);
      upload.write(tiny.subarray(0, 8), () => {
        stopped = cache.server.stop(10_000);
        setTimeout(() => upload.end(tiny.subarray(8)), 200);
      });
    });
    expect(status).toBe(201);
    await stopped;
    await expect(fetch(cache.url)).rejects.toThrow();
  });
});

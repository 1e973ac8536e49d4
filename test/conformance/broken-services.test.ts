/**
 * The suites themselves, tested: services that are each broken in one way, and the sentences of the contract that must find it.
 */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { FramedBytes } from "../../src/bytes/framed-bytes.ts";
import type { BlobBlock } from "../../src/castore/blob-block.ts";
import type { BlobService, SmallBlob } from "../../src/castore/blob-service.ts";
import type { WrittenBlock } from "../../src/castore/block-writer.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { NamedDirectory } from "../../src/castore/directory-order.ts";
import type { DirectoryService } from "../../src/castore/directory-service.ts";
import type { Node } from "../../src/castore/node.ts";
import { decompressZstdSync } from "../../src/compression/zstd.ts";
import { NarborError } from "../../src/errors.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import type { ComputedCache } from "../../src/store/computed-cache.ts";
import type { DocumentIndex } from "../../src/store/document-index.ts";
import type { NarIndex, NarRecord } from "../../src/store/nar-index.ts";
import type { PathInfoService } from "../../src/store/path-info-service.ts";
import type { Store, StoreServices } from "../../src/store/store.ts";
import { collect, collectItems } from "../helpers/bytes.ts";
import type { ChunkService } from "./content-chunks.ts";
import { CONTENT_CHUNKS_CASES } from "./content-chunks.ts";
import type { BlockService } from "./blob-blocks.ts";
import { BLOB_BLOCKS_CASES } from "./blob-blocks.ts";
import type { WriterService } from "./block-writer.ts";
import { BLOCK_WRITER_CASES } from "./block-writer.ts";
import { BLOB_SERVICE_CASES } from "./blob-service.ts";
import { openGrpc } from "../helpers/grpc-store.ts";
import { openPacks, pick } from "../helpers/open-stores.ts";
import { streamOf } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { failingCases } from "./conformance-case.ts";
import { DIRECTORY_SERVICE_CASES } from "./directory-service.ts";
import { COMPUTED_CACHE_CASES } from "./computed-cache.ts";
import { DOCUMENT_INDEX_CASES } from "./document-index.ts";
import { NAR_INDEX_CASES } from "./nar-index.ts";
import { PATH_INFO_SERVICE_CASES } from "./path-info-service.ts";
import { STORE_CASES } from "./store.ts";

/** What is broken, the methods that are, and the names of cases that must fail for it. */
type Broken<Service> = readonly [what: string, breakIt: (good: Service) => Partial<Service>, mustFail: readonly string[]];

const NOTHING_READABLE = "none of it becomes readable";

const BROKEN_BLOB_SERVICES: readonly Broken<BlobService>[] = [
  [
    "putMany() drops the last blob",
    (good) => ({ putMany: (blobs, options) => good.putMany(blobs.slice(0, -1), options) }),
    ["putMany() stores the first, the last and the empty blob of a list", "putMany() stores every one of many blobs"],
  ],
  [
    "put() gives another digest",
    (good) => ({ put: async (content, options) => toB3Digest((await good.put(content, options)).slice().reverse()) }),
    ["put() stores a blob of 1 bytes that reads back as it was"],
  ],
  [
    "put() stores only the first piece",
    (good) => ({ put: async (content, options) => await good.put(firstOf(content), options) }),
    ["put() gives the same digest when the content comes in halves", "put() reads its content once and to its end"],
  ],
  [
    "the empty blob is not stored",
    (good) => ({ putMany: (blobs, options) => good.putMany(blobs.filter(({ bytes }) => bytes.length > 0), options) }),
    ["putMany() stores a blob of 0 bytes that reads back as it was"],
  ],
  [
    "put() keeps pieces until it has all of them",
    (good) => ({ put: async (content, options) => await good.put(streamOf(await collectItems(content)), options) }),
    ["put() takes content that comes in memory which is used again for the next piece"],
  ],
  [
    "put() gives the digest that it is told, and stores nothing",
    (good) => ({ put: async (content, options) => (options?.digest === undefined ? await good.put(content, options) : (await collectItems(content), options.digest())) }),
    ["put() believes a digest that its caller has computed"],
  ],
  [
    "putMany() keeps blobs until someone reads",
    (good) => {
      const kept: SmallBlob[] = [];
      const flush = async (): Promise<void> => await good.putMany(kept.splice(0));
      return {
        putMany: async (blobs) => void kept.push(...blobs),
        openRead: async (digest, options) => (await flush(), await good.openRead(digest, options)),
        async *readMany(blobs, options) {
          await flush();
          yield* good.readMany(blobs, options);
        },
      };
    },
    ["putMany() is done with the blobs' memory when it resolves"],
  ],
  [
    "put() ends at an empty piece",
    (good) => ({ put: async (content, options) => await good.put(untilEmpty(content), options) }),
    ["put() gives the same digest when the content comes with empty pieces between"],
  ],
  [
    "a failing source stores what came before",
    (good) => ({ put: async (content, options) => await putAndRethrow(good, content, options) }),
    [`put() rejects with its content's own error after 307200 bytes, and ${NOTHING_READABLE}`],
  ],
  [
    "a failing source gives an error of the service's own",
    (good) => ({
      put: async (content, options) => {
        options?.signal?.throwIfAborted();
        return await good.put(content, options).catch(() => Promise.reject(new Error("Could not put the blob")));
      },
    }),
    [`put() rejects with its content's own error after 1 bytes, and ${NOTHING_READABLE}`, "put() stops reading its content when the signal fires between two pieces"],
  ],
  [
    "put() leaves its content open",
    (good) => ({ put: async (content, options) => await good.put(neverClosed(content), options) }),
    ["put() stops reading its content when the signal fires between two pieces"],
  ],
  [
    "put() does not look at its signal",
    (good) => ({ put: (content) => good.put(content) }),
    ["put() rejects with the reason of a signal that has fired", "put() does not read its content when the signal has fired before"],
  ],
  [
    "an aborted read is an AbortError of its own",
    (good) => ({
      openRead: async (digest, options) => {
        if (options?.signal?.aborted === true) throw new DOMException("This operation was aborted", "AbortError");
        return await good.openRead(digest, options);
      },
    }),
    ["openRead() rejects with the reason of a signal that has fired"],
  ],
  [
    "an aborted read looks like a missing blob",
    (good) => ({
      openRead: (digest, options) => good.openRead(digest, options).catch(() => undefined),
      stat: (digest, options) => good.stat(digest, options).catch(() => undefined),
    }),
    ["openRead() rejects with the reason of a signal that has fired", "stat() rejects with ERR_CLOSED after the service was closed"],
  ],
  [
    "openRead() ignores start",
    (good) => ({ openRead: (digest, { start: _start, ...options } = {}) => good.openRead(digest, options) }),
    ["openRead() gives any range of a large blob", "openRead() gives the rest of a blob from a start, and its beginning up to an end"],
  ],
  [
    "openRead() takes end for the last byte",
    (good) => ({ openRead: (digest, { end, ...options } = {}) => good.openRead(digest, { ...options, ...(end !== undefined && { end: end + 1 }) }) }),
    ["openRead() gives any range of a large blob", "openRead() of an empty range is empty"],
  ],
  [
    "openRead() refuses an end beyond the blob's end",
    (good) => ({
      openRead: async (digest, options) => {
        const whole = await good.openRead(digest, {});
        const size = whole === undefined ? 0 : (await collect(whole)).length;
        if ((options?.end ?? 0) > size) throw new NarborError("ERR_INVALID", "beyond the end");
        return await good.openRead(digest, options);
      },
    }),
    ["openRead() takes an end beyond the blob's end for its end"],
  ],
  [
    "readMany() gives blobs in the order of their digests",
    (good) => ({
      readMany: async function* (blobs, options) {
        const list = await collectItems(toAsync(blobs));
        yield* good.readMany(list.sort((a, b) => Buffer.compare(a.digest, b.digest)), options);
      },
    }),
    ["readMany() gives whole blobs in the order asked, as often as asked"],
  ],
  [
    "readMany() gives a blob that is asked for twice once",
    (good) => ({
      readMany: async function* (blobs, options) {
        const list = await collectItems(toAsync(blobs));
        yield* good.readMany(new Map(list.map((blob) => [String(blob.digest), blob])).values(), options);
      },
    }),
    ["readMany() gives whole blobs in the order asked, as often as asked"],
  ],
  [
    "readMany() leaves out what is missing",
    (good) => ({
      readMany: async function* (blobs, options) {
        for await (const blob of toAsync(blobs)) if ((await good.findMissing([blob.digest])).length === 0) yield* good.readMany([blob], options);
      },
    }),
    ["readMany() gives what stands before a missing blob, then rejects with ERR_NOT_FOUND"],
  ],
  [
    "readMany() looks for missing blobs before it gives the first",
    (good) => ({
      readMany: async function* (blobs, options) {
        const list = await collectItems(toAsync(blobs));
        if ((await good.findMissing(list.map(({ digest }) => digest))).length > 0) throw new NarborError("ERR_NOT_FOUND", "one of them is missing");
        yield* good.readMany(list, options);
      },
    }),
    ["readMany() gives what stands before a missing blob, then rejects with ERR_NOT_FOUND"],
  ],
  [
    "readMany() does not look at the size",
    (good) => ({
      readMany: async function* (blobs, options) {
        for await (const { digest } of toAsync(blobs)) {
          const stream = await good.openRead(digest, options);
          if (stream === undefined) throw new NarborError("ERR_NOT_FOUND", "it is not stored");
          yield await collect(stream);
        }
      },
    }),
    ["readMany() rejects with ERR_NOT_FOUND for a blob of another size than was asked for, in its turn"],
  ],
  [
    "readMany() takes a blob that is larger than was asked for",
    (good) => ({
      readMany: async function* (blobs, options) {
        for await (const { digest, size } of toAsync(blobs)) {
          const stream = await good.openRead(digest, options);
          const bytes = stream === undefined ? undefined : await collect(stream);
          if (bytes === undefined || bytes.length < size) throw new NarborError("ERR_NOT_FOUND", "it is not stored, or too small");
          yield bytes.subarray(0, size);
        }
      },
    }),
    ["readMany() rejects with ERR_NOT_FOUND for a blob of another size than was asked for, in its turn"],
  ],
  [
    "findMissing() gives duplicates",
    (good) => ({
      findMissing: async (digests, options) => {
        const missing = new Set((await good.findMissing(digests, options)).map(String));
        return digests.filter((digest) => missing.has(String(digest)));
      },
    }),
    ["findMissing() gives each digest once, where it was first asked for"],
  ],
  [
    "findMissing() gives them in another order",
    (good) => ({ findMissing: async (digests, options) => [...(await good.findMissing(digests, options))].reverse() }),
    ["findMissing() gives those that are not stored, in the order asked"],
  ],
  [
    "findMissing() gives those that are stored",
    (good) => ({
      findMissing: async (digests, options) => {
        const missing = new Set((await good.findMissing(digests, options)).map(String));
        return digests.filter((digest) => !missing.has(String(digest)));
      },
    }),
    ["findMissing() gives those that are not stored, in the order asked", "stat() and openRead() of an unknown digest are undefined"],
  ],
  [
    "stat() gives chunks in another order",
    (good) => ({
      stat: async (digest, options) => {
        const stat = await good.stat(digest, options);
        const bytes = await collect((await good.openRead(digest)) ?? toAsync([]));
        if (stat === undefined || bytes.length < 1_000_000) return stat;
        const halves = [toSmallBlob(bytes.subarray(600_000)), toSmallBlob(bytes.subarray(0, 600_000))];
        await good.putMany(halves);
        return { chunks: halves.map((half) => ({ digest: half.digest, size: half.bytes.length })) };
      },
    }),
    ["stat() gives chunks that are blobs themselves and together are the blob"],
  ],
];

const BROKEN_DIRECTORY_SERVICES: readonly Broken<DirectoryService>[] = [
  [
    "getClosure() gives children before their parents",
    (good) => ({
      getClosure: async (root, options) => {
        const closure = await good.getClosure(root, options);
        return closure === undefined ? undefined : toAsync((await collectItems(closure)).reverse());
      },
    }),
    ["getClosure() gives the root first, each directory once and after one that holds it"],
  ],
  [
    "getClosure() gives a shared directory every time it is held",
    (good) => ({
      getClosure: async (root, options) => {
        const closure = await good.getClosure(root, options);
        return closure === undefined ? undefined : twice(closure);
      },
    }),
    ["getClosure() gives the shared directory of a diamond once, and after a parent"],
  ],
  [
    "getClosure() gives the root only",
    (good) => ({
      getClosure: async (root, options) => {
        const bytes = await good.get(root, options);
        return bytes === undefined ? undefined : toAsync([{ digest: root, bytes }]);
      },
    }),
    ["getClosure() gives what hangs from a directory in the middle"],
  ],
  [
    "putClosure() makes directories readable before its end",
    (good) => ({
      putClosure: async (directories, options) => {
        let root: B3Digest | undefined;
        const soFar: Uint8Array[] = [];
        for await (const bytes of toAsync(directories)) {
          soFar.push(bytes);
          root = await good.putClosure(soFar, options).catch(() => undefined);
        }
        return root ?? (await good.putClosure(soFar, options));
      },
    }),
    ["putClosure() makes nothing readable before the stream's end", "putClosure() rejects with its stream's own error after 1 directories, and none becomes readable"],
  ],
  [
    "putClosure() counts what it holds already as sent",
    (good) => {
      const known: Uint8Array[] = [];
      return {
        putClosure: async (directories, options) => {
          const sent = await collectItems(toAsync(directories));
          for (const stored of known) {
            const root = await good.putClosure([stored, ...sent], options).catch(() => undefined);
            if (root !== undefined) return root;
          }
          known.push(...sent);
          return await good.putClosure(sent, options);
        },
      };
    },
    ["putClosure() refuses a child that is stored but was not sent"],
  ],
  [
    "putClosure() refuses a directory that is sent twice",
    (good) => ({
      putClosure: async (directories, options) => {
        const sent = await collectItems(toAsync(directories));
        if (new Set(sent.map(String)).size < sent.length) throw new NarborError("ERR_CASTORE_INVALID", "sent twice");
        return await good.putClosure(sent, options);
      },
    }),
    ["putClosure() tolerates a directory that is sent twice"],
  ],
  [
    "putClosure() of nothing is the empty directory",
    (good) => ({
      putClosure: async (directories, options) => {
        const sent = await collectItems(toAsync(directories));
        return await good.putClosure(sent.length === 0 ? [new Uint8Array(0)] : sent, options);
      },
    }),
    ["putClosure() refuses an empty stream, and stores none of it"],
  ],
  [
    "get() of an unknown directory is an error",
    (good) => ({
      get: async (digest, options) => {
        const bytes = await good.get(digest, options);
        if (bytes === undefined) throw new NarborError("ERR_NOT_FOUND", "there is none");
        return bytes;
      },
    }),
    ["get() and getClosure() of an unknown digest are undefined"],
  ],
  [
    "the empty directory is taken for a missing one",
    (good) => ({
      get: async (digest, options) => {
        const bytes = await good.get(digest, options);
        return bytes?.length === 0 ? undefined : bytes;
      },
    }),
    ["putClosure() stores the empty directory"],
  ],
];

const BROKEN_PATH_INFO_SERVICES: readonly Broken<PathInfoService>[] = [
  [
    "put() drops the signatures that are there",
    (good) => ({
      put: async (pathInfo, options) => {
        options?.signal?.throwIfAborted();
        await good.delete(pathInfo.storePath.digest, options);
        return await good.put(pathInfo, options);
      },
    }),
    ["put() keeps the signatures that are there for the same NAR, beside the new ones and each once"],
  ],
  [
    "put() reads, merges and writes, and another may write between",
    (good) => ({
      put: async (pathInfo, options) => {
        const earlier = await good.get(pathInfo.storePath.digest, options);
        await new Promise((resolve) => setTimeout(resolve, 5));
        const signatures = earlier?.narSha256 === pathInfo.narSha256 ? [...earlier.signatures, ...pathInfo.signatures] : pathInfo.signatures;
        await good.delete(pathInfo.storePath.digest, options);
        return await good.put({ ...pathInfo, signatures }, options);
      },
    }),
    ["put() keeps every signature when puts race"],
  ],
  [
    "put() keeps the signatures of another NAR",
    (good) => ({
      put: async (pathInfo, options) => {
        const earlier = await good.get(pathInfo.storePath.digest, options);
        return await good.put({ ...pathInfo, signatures: [...(earlier?.signatures ?? []), ...pathInfo.signatures] }, options);
      },
    }),
    ["put() with another NarHash replaces all, signatures too"],
  ],
  [
    "put() keeps what was there first",
    (good) => ({ put: async (pathInfo, options) => (await good.get(pathInfo.storePath.digest, options)) ?? (await good.put(pathInfo, options)) }),
    ["put() replaces what is not signed: root, deriver and content address"],
  ],
  [
    "put() gives back what was sent and not what is stored",
    (good) => ({
      put: async (pathInfo, options) => {
        await good.put(pathInfo, options);
        return pathInfo;
      },
    }),
    ["put() keeps the signatures that are there for the same NAR, beside the new ones and each once"],
  ],
  [
    "list() gives them in the order of their names",
    (good) => ({
      list: async function* (options) {
        const all = await collectItems(good.list(options));
        for (const info of all.sort((a, b) => (a.storePath.name < b.storePath.name ? -1 : 1))) {
          options?.signal?.throwIfAborted();
          yield info;
        }
      },
    }),
    ["list() gives every path info once, in the order of their digests"],
  ],
  ["delete() is always true", (good) => ({ delete: async (digest, options) => (await good.delete(digest, options)) || true }), ["delete() forgets a path and says whether there was one"]],
  ["delete() deletes nothing", (good) => ({ delete: async (digest, options) => (await good.get(digest, options)) !== undefined }), ["delete() forgets a path and says whether there was one"]],
];

const BROKEN_NAR_INDEXES: readonly Broken<NarIndex>[] = [
  [
    "put() forgets the file when the NAR is known",
    (good) => ({ put: async (nar, file, options) => await good.put(nar, (await good.byNarHash(nar.narSha256, options)) === undefined ? file : undefined, options) }),
    ["put() takes a file for a NAR that was put without one", "put() takes several files for one NAR"],
  ],
  [
    "put() of the same again is an error",
    (good) => ({
      put: async (nar, file, options) => {
        if ((await good.byNarHash(nar.narSha256, options)) !== undefined && file !== undefined) throw new NarborError("ERR_INVALID", "it is there");
        await good.put(nar, file, options);
      },
    }),
    ["put() of the same again is no error, one after the other or at once"],
  ],
  [
    "byRoot() goes by the digest only",
    (good) => {
      const byDigest = new Map<string, NarRecord>();
      const key = (root: Node): string => String(root.type === "symlink" ? root.target : root.digest);
      return {
        put: async (nar, file, options) => {
          await good.put(nar, file, options);
          byDigest.set(key(nar.root), nar);
        },
        byRoot: async (root) => byDigest.get(key(root)),
      };
    },
    ["byRoot() tells apart roots that differ in whether they are executable, in their kind, or in their size only"],
  ],
  [
    "byRoot() takes an executable file for one that is not",
    (good) => ({ byRoot: async (root, options) => await good.byRoot(root.type === "file" ? { ...root, executable: false } : root, options) }),
    ["byRoot() tells apart roots that differ in whether they are executable, in their kind, or in their size only"],
  ],
  ["byRoot() finds nothing", () => ({ byRoot: async () => undefined }), ["byRoot() gives the NAR of the tree that was put, and of no other one: a symlink (0)", "put() of another NAR for a tree counts from then on"]],
  [
    "put() keeps the first tree of a NAR",
    (good) => ({
      put: async (nar, file, options) => {
        const known = await good.byNarHash(nar.narSha256, options);
        await good.put(known ?? nar, file, options);
      },
    }),
    ["put() of another tree for a NAR counts from then on", "put() of another NarSize counts from then on"],
  ],
  [
    "put() keeps the first NAR of a tree",
    (good) => ({
      put: async (nar, file, options) => {
        const known = await good.byRoot(nar.root, options);
        await good.put(known ?? nar, file, options);
      },
    }),
    ["put() of another NAR for a tree counts from then on", "put() of another NarSize counts from then on"],
  ],
  [
    "put() keeps the first record of a file",
    (good) => ({
      put: async (nar, file, options) => {
        const known = file && (await good.byFileHash(file.fileSha256, options));
        await good.put(nar, known === undefined ? file : undefined, options);
      },
    }),
    ["put() of another NAR for a file, or of another size or compression of it, counts from then on"],
  ],
  ["byFileHash() looks for NarHashes too", (good) => ({ byFileHash: async (hash, options) => (await good.byFileHash(hash, options)) ?? ((await good.byNarHash(hash, options)) as never) }), ["byNarHash() and byFileHash() of what was never put are undefined"]],
];

const BROKEN_DOCUMENT_INDEXES: readonly Broken<DocumentIndex>[] = [
  ["put() keeps the first", (good) => ({ put: async (document, options) => ((await good.get(document.name, options)) === undefined ? await good.put(document, options) : undefined) }), ["put() of another document under the same name counts from then on"]],
  [
    "list() gives all, whatever their names begin with",
    (good) => ({ list: (_prefix, options) => good.list("", options) }),
    ["list() gives each document whose name begins so, in the order of their bytes"],
  ],
  [
    "list() gives them in the order of UTF-16",
    (good) => ({
      list: async function* (prefix, options) {
        const all = await collectItems(good.list(prefix, options));
        yield* all.sort((a, b) => (a.name < b.name ? -1 : 1));
      },
    }),
    ["list() gives each document whose name begins so, in the order of their bytes"],
  ],
  ["delete() is always true", (good) => ({ delete: async (name, options) => (await good.delete(name, options)) || true }), ["delete() forgets a document and says whether there was one; it may be put again"]],
  ["delete() deletes nothing", (good) => ({ delete: async (name, options) => (await good.get(name, options)) !== undefined }), ["delete() forgets a document and says whether there was one; it may be put again"]],
  ["names are compared without case", (good) => ({ get: (name, options) => good.get(name.toLowerCase(), options), put: (document, options) => good.put({ ...document, name: document.name.toLowerCase() }, options) }), ["get() of a document that was never put is undefined"]],
];

const BROKEN_BLOCK_SERVICES: readonly (readonly [what: string, change: (block: BlobBlock) => BlobBlock | undefined, mustFail: readonly string[]])[] = [
  ["leaves out a block", (block) => (block.parts.some(({ blob }) => blob === 3) ? undefined : block), ["readBlocks() gives every blob whole, many of them in a block"]],
  ["leaves out a piece", (block) => ({ ...block, parts: block.parts.filter(({ blob }) => blob !== 3) }), ["readBlocks() gives every blob whole, many of them in a block"]],
  ["says that pieces begin elsewhere", (block) => ({ ...block, parts: block.parts.map((part) => ({ ...part, offset: 0 })) }), ["readBlocks() gives every blob whole, many of them in a block"]],
  ["says another size", (block) => ({ ...block, size: block.size + 1 }), ["readBlocks() gives every blob whole, many of them in a block"]],
  ["takes pieces for beginnings", (block) => ({ ...block, parts: block.parts.map((part) => ({ ...part, blobOffset: 0 })) }), ["readBlocks() gives a blob of any size, which need not be known, with its pieces in order"]],
  ["gives more than was asked for", (block) => ({ ...block, codec: "stored", bytes: Buffer.alloc(block.size + 1_000_000), size: block.size + 1_000_000 }), ["readBlocks() gives what is asked for in any order and of any selection, and never more bytes than that has"]],
];

describe("blobBlocksConformance()", () => {
  test.for(BROKEN_BLOCK_SERVICES)("rejects a service that %s", async ([, change, mustFail]) => {
    const failing = await failingCases(named(BLOB_BLOCKS_CASES, mustFail), async () => {
      const { service, ...rest } = await pick(openPacks(), "blobs")();
      const good = service as BlockService;
      const broken = override<BlockService>(good, {
        readBlocks: async function* (wanted, options) {
          for await (const block of good.readBlocks(wanted, options)) {
            const changed = change(block);
            if (changed !== undefined) yield changed;
          }
        },
      });
      return { service: broken, close: () => rest.close(), [Symbol.asyncDispose]: () => rest[Symbol.asyncDispose]() };
    });
    expect(failing).toEqual([...mustFail]);
  });
});

const CHUNKS_CASE = "readChunks() gives every blob as it is cut everywhere, with no frames but those that compressing its chunks makes";
const BROKEN_CHUNK_SERVICES: readonly (readonly [what: string, change: (good: ChunkService, ...parameters: Parameters<ChunkService["readChunks"]>) => AsyncIterable<FramedBytes>, mustFail: readonly string[]])[] = [
  ["gives chunks as one", async function* (good, blob, level, options) {
    const chunks = await collectItems(good.readChunks(blob, level, options));
    if (chunks.length > 0) yield { bytes: Buffer.concat(chunks.map(({ bytes }) => bytes)), frame: undefined };
  }, [CHUNKS_CASE]],
  ["leaves out the last chunk", async function* (good, blob, level, options) {
    yield* (await collectItems(good.readChunks(blob, level, options))).slice(0, -1);
  }, [CHUNKS_CASE]],
  ["gives frames of another level", async function* (good, blob, _level, options) {
    yield* good.readChunks(blob, 1, options);
  }, [CHUNKS_CASE]],
  ["gives a chunk where there is none", async function* (good, blob, level, options) {
    if (blob.size === 0) yield { bytes: new Uint8Array(0), frame: undefined };
    yield* good.readChunks(blob, level, options);
  }, ["readChunks() gives nothing of a blob without bytes"]],
  ["gives a blob of another size", (good, blob, level, options) => good.readChunks({ ...blob, size: Math.max(blob.size, 2_000_000) }, level, options), ["readChunks() rejects with ERR_NOT_FOUND when a blob is not stored or is of another size"]],
];

describe("contentChunksConformance()", () => {
  test.for(BROKEN_CHUNK_SERVICES)("rejects a service that %s", async ([, change, mustFail]) => {
    const failing = await failingCases(named(CONTENT_CHUNKS_CASES, mustFail), async () => {
      const { service, ...rest } = await pick(openPacks(), "blobs")();
      const good = service as ChunkService;
      const broken = override<ChunkService>(good, { readChunks: (...parameters) => change(good, ...parameters) });
      return { service: broken, close: () => rest.close(), [Symbol.asyncDispose]: () => rest[Symbol.asyncDispose]() };
    });
    expect(failing).toEqual([...mustFail]);
  });
});

const BROKEN_BLOCK_WRITERS: readonly (readonly [what: string, change: (block: WrittenBlock) => WrittenBlock | undefined, mustFail: readonly string[]])[] = [
  ["leaves out blocks", (block) => (block.content?.codec === "stored" ? undefined : block), ["write() stores what is in blocks, compressed and not, and again what is there already"]],
  ["takes framing for blobs", (block) => ({ ...block, chunks: block.chunks.map(({ isFraming: _isFraming, ...chunk }) => chunk) }), ["write() does not make blobs of what stands between two in an archive"]],
  ["takes pieces for blobs", ({ piece: _piece, ...block }) => block, ["write() joins the pieces of blobs that were cut, also those that are there already"]],
  ["believes digests", believing, ["write() rejects what is not what its digest says, and stores nothing of that block"]],
];

/** The same block, its chunks named by what is in them. */
function believing(block: WrittenBlock): WrittenBlock {
  if (block.content === undefined || block.content.codec !== "zstd") return block;
  const content = decompressZstdSync(block.content.bytes, block.content.size);
  let end = 0;
  return { ...block, chunks: block.chunks.map((chunk) => ({ ...chunk, digest: toB3Digest(blake3(content.subarray(end, (end += chunk.length)))) })) };
}

describe("blockWriterConformance()", () => {
  test.for(BROKEN_BLOCK_WRITERS)("rejects a service that %s", async ([, change, mustFail]) => {
    const failing = await failingCases(named(BLOCK_WRITER_CASES, mustFail), async () => {
      const { service, ...rest } = await pick(openPacks(), "blobs")();
      const good = (service as WriterService).blockWriter;
      const broken = override<WriterService>(service as WriterService, {
        blockWriter: {
          compression: good.compression,
          write: async (blocks, options) =>
            await good.write(
              (async function* () {
                for await (const block of blocks) {
                  const changed = change(block);
                  if (changed !== undefined) yield changed;
                }
              })(),
              options,
            ),
        },
      });
      return { service: broken, close: () => rest.close(), [Symbol.asyncDispose]: () => rest[Symbol.asyncDispose]() };
    });
    expect(failing).toEqual([...mustFail]);
  });
});

const BROKEN_COMPUTED_CACHES: readonly Broken<ComputedCache>[] = [
  ["kinds are not told apart", (good) => ({ get: (key, options) => good.get({ ...key, kind: "x" }, options), put: (key, value, seconds, options) => good.put({ ...key, kind: "x" }, value, seconds, options) }), ["get() gives what was put under that kind and key, and nothing else"]],
  ["put() keeps the first", (good) => ({ put: async (key, value, seconds, options) => ((await good.get(key, options)) === undefined ? await good.put(key, value, seconds, options) : undefined) }), ["put() takes the place of what is there"]],
  ["get() gives nothing", () => ({ get: async () => undefined }), ["put() takes any bytes, none and as many as there may be"]],
  ["stats() counts nothing", (good) => ({ stats: async (options) => (await good.stats(options)).map((stats) => ({ ...stats, hits: 0, secondsSaved: 0 })) }), ["stats() counts what was found and what was not, and the time that was saved, by kind"]],
  ["clear() forgets nothing", (good) => ({ clear: async (options) => (await good.stats(options)).reduce((sum, { entries }) => sum + entries, 0) }), ["clear() forgets everything, and says how much that was"]],
];

const BROKEN_STORES: readonly Broken<Store>[] = [
  [
    "commit() resolves before anything is written",
    (good) => ({
      begin: () => {
        const later: (() => Promise<unknown>)[] = [];
        return {
          ...good.begin(),
          blobs: override(good.blobs, { putMany: async (blobs) => void later.push(() => good.blobs.putMany(blobs)) }),
          commit: async () => void setTimeout(() => later.forEach((write) => void write()), 50),
        };
      },
    }),
    ["begin() gives a work whose writes are readable when commit() resolves"],
  ],
  [
    "a work may be committed once",
    (good) => ({
      begin: () => {
        let committed = false;
        return {
          ...good.begin(),
          commit: async () => {
            if (committed) throw new NarborError("ERR_INVALID", "it was committed");
            committed = true;
          },
        };
      },
    }),
    ["commit() of nothing does nothing, and may be called again after more writes"],
  ],
];

/** A service that hangs is seen sooner here: many are opened at once. */
const GRPC_PATIENCE = 5000;

const OUR_CLIENT_IS_ASKED = "signals, errors of the source and its closing are the client's own affair: it never asks the service";
const READS_WHOLE = "a Read() has no range: the client reads the whole blob to verify it, and cuts the range out itself";

/** Faults that cannot be seen through gRPC, and why: the client asks otherwise, or does it by itself. */
const UNSEEN_THROUGH_GRPC: Readonly<Record<string, string>> = {
  "put() keeps pieces until it has all of them": "what comes over the wire has memory of its own",
  "put() gives the digest that it is told, and stores nothing": "a server is told none",
  "put() ends at an empty piece": "the client sends no empty messages",
  "a failing source stores what came before": "the client gathers 256 KiB at a time, so what came before is not what the service got; the stream is refused as broken off anyway",
  "a failing source gives an error of the service's own": OUR_CLIENT_IS_ASKED,
  "put() leaves its content open": OUR_CLIENT_IS_ASKED,
  "put() does not look at its signal": OUR_CLIENT_IS_ASKED,
  "an aborted read is an AbortError of its own": OUR_CLIENT_IS_ASKED,
  "an aborted read looks like a missing blob": OUR_CLIENT_IS_ASKED,
  "openRead() ignores start": READS_WHOLE,
  "openRead() takes end for the last byte": READS_WHOLE,
  "openRead() refuses an end beyond the blob's end": READS_WHOLE,
  "readMany() gives a blob that is asked for twice once": "the client asks for each once, and gives it as often as it was asked",
  "readMany() does not look at the size": "the client looks itself",
  "findMissing() gives duplicates": "the client takes the answer for a set",
  "findMissing() gives them in another order": "the client takes the answer for a set",
  "getClosure() gives a shared directory every time it is held": "the client leaves out what has come already, as stock servers may send it twice",
  "get() of an unknown directory is an error": "NOT_FOUND is what it is over the wire, too",
};

checkSuite("blobServiceConformance()", BLOB_SERVICE_CASES, "blobs", BROKEN_BLOB_SERVICES);
checkSuite("directoryServiceConformance()", DIRECTORY_SERVICE_CASES, "directories", BROKEN_DIRECTORY_SERVICES);
checkSuite("pathInfoServiceConformance()", PATH_INFO_SERVICE_CASES, "pathInfos", BROKEN_PATH_INFO_SERVICES);
checkSuite("narIndexConformance()", NAR_INDEX_CASES, "nars", BROKEN_NAR_INDEXES);
checkSuite("documentIndexConformance()", DOCUMENT_INDEX_CASES, "documents", BROKEN_DOCUMENT_INDEXES);
checkSuite("computedCacheConformance()", COMPUTED_CACHE_CASES, "computed", BROKEN_COMPUTED_CACHES);

test("UNSEEN_THROUGH_GRPC names faults that there are", () => {
  const all = [BROKEN_BLOB_SERVICES, BROKEN_DIRECTORY_SERVICES, BROKEN_PATH_INFO_SERVICES, BROKEN_NAR_INDEXES, BROKEN_DOCUMENT_INDEXES].flatMap((list) => list.map(([what]) => what));
  expect(all).toEqual(expect.arrayContaining(Object.keys(UNSEEN_THROUGH_GRPC)));
});

describe("storeConformance()", () => {
  test.for(BROKEN_STORES)("rejects a store when %s", async ([, breakIt, mustFail]) => {
    const failing = await failingCases(named(STORE_CASES, mustFail), async () => {
      const store = new MemoryStore();
      return opened(override<Store>(store, breakIt(store)), store);
    });
    expect(failing).toEqual(expect.arrayContaining([...mustFail]));
  });
});

function checkSuite<Name extends keyof StoreServices>(
  suite: string,
  cases: readonly ConformanceCase<StoreServices[Name]>[],
  name: Name,
  broken: readonly Broken<StoreServices[Name]>[],
): void {
  const openBroken = (breakIt: (good: StoreServices[Name]) => Partial<StoreServices[Name]>) => async () => {
    const store = new MemoryStore();
    return opened(override(store[name], breakIt(store[name])), store);
  };

  describe(suite, () => {
    test("accepts a service that is not broken, wrapped as the broken ones are", async () => {
      expect(await failingCases(cases, openBroken(() => ({})))).toEqual([]);
    });

    test("names no case twice", () => {
      const names = cases.map((item) => item.name);
      expect(names.filter((item, index) => names.indexOf(item) !== index)).toEqual([]);
    });

    test.for(broken)("rejects a service when %s", async ([, breakIt, mustFail]) => {
      const failing = await failingCases(named(cases, mustFail), openBroken(breakIt));
      expect(failing).toEqual(expect.arrayContaining([...mustFail]));
    });

    test("accepts a service that is not broken, through gRPC", async () => {
      expect(await failingCases(cases, openThroughGrpc(name, () => ({})))).toEqual([]);
    });

    test.for(broken.filter(([what]) => !(what in UNSEEN_THROUGH_GRPC)))("rejects a service through gRPC when %s", async ([, breakIt, mustFail]) => {
      const failing = await failingCases(named(cases, mustFail), openThroughGrpc(name, breakIt), GRPC_PATIENCE);
      expect(failing).toEqual(expect.arrayContaining([...mustFail]));
    });

    const unseen = broken.filter(([what]) => what in UNSEEN_THROUGH_GRPC);
    test.for(unseen)("has nothing to see through gRPC when %s", async ([, breakIt, mustFail]) => {
      expect(await failingCases(named(cases, mustFail), openThroughGrpc(name, breakIt), GRPC_PATIENCE)).toEqual([]);
    });
  });
}

/** The service, broken, in a store behind our server and seen by our client. */
function openThroughGrpc<Name extends keyof StoreServices>(name: Name, breakIt: (good: StoreServices[Name]) => Partial<StoreServices[Name]>): Open<StoreServices[Name]> {
  return pick(
    openGrpc(async () => {
      const memory = new MemoryStore();
      const broken = { [name]: override(memory[name], breakIt(memory[name])) } as Partial<Store>;
      return opened(override<Store>(memory, broken), memory);
    }),
    name,
  );
}

/** The cases of these names. */
function named<Service>(cases: readonly ConformanceCase<Service>[], names: readonly string[]): readonly ConformanceCase<Service>[] {
  return cases.filter(({ name }) => names.includes(name));
}

function opened<Service>(service: Service, store: Store): { service: Service; close(): Promise<void>; [Symbol.asyncDispose](): Promise<void> } {
  const close = async (): Promise<void> => await store[Symbol.asyncDispose]();
  return { service, close, [Symbol.asyncDispose]: close };
}

/** A service with some of its methods replaced. */
function override<Service extends object>(good: Service, methods: Partial<Service>): Service {
  return new Proxy(good, {
    get: (target, property) => {
      const value = (methods as Record<PropertyKey, unknown>)[property] ?? (target as Record<PropertyKey, unknown>)[property];
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

async function* toAsync<T>(items: AsyncIterable<T> | Iterable<T>): AsyncGenerator<T, void, undefined> {
  yield* items;
}

async function* twice(closure: AsyncIterable<NamedDirectory>): AsyncGenerator<NamedDirectory, void, undefined> {
  const all = await collectItems(closure);
  yield* all;
  yield* all.slice(-1);
}

async function* firstOf(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of content) {
    yield piece;
    return;
  }
}

async function* untilEmpty(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of content) {
    if (piece.length === 0) return;
    yield piece;
  }
}

function neverClosed(content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator]: () => {
      const iterator = content[Symbol.asyncIterator]();
      return { next: () => iterator.next() };
    },
  };
}

async function putAndRethrow(good: BlobService, content: AsyncIterable<Uint8Array>, options: Parameters<BlobService["put"]>[1]): Promise<B3Digest> {
  let failure: { readonly error: unknown } | undefined;
  async function* swallowing(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* content;
    } catch (error) {
      failure = { error };
    }
  }
  const digest = await good.put(swallowing(), options);
  if (failure !== undefined) throw failure.error;
  return digest;
}

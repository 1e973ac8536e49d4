/** Images that are made of closures, and what is remembered of them. */
import { mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { ImageArchiveOptions, ImageFormat, ImageSummary } from "../../src/image/image-archive.ts";
import { bytesOf } from "../../src/bytes/framed-bytes.ts";
import { describeImages, dockerArchive, imageArchiveSize, ociArchive } from "../../src/image/image-archive.ts";
import type { ImageSource } from "../../src/image/image-source.ts";
import { closureImage, layersOf } from "../../src/image/image-source.ts";
import { directoryMembers, tarMembers } from "../../src/image/archive-members.ts";
import { importImages, importMembers } from "../../src/image/import-images.ts";
import type { LayerDescriptor } from "../../src/image/layer-digests.ts";
import { writeLayout } from "../../src/image/layout-directory.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { formatStorePath } from "../../src/nix/store-path.ts";
import { renderArchive } from "../../src/render/segments.ts";
import { planTar } from "../../src/render/render-tar.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import type { ComputedCache } from "../../src/store/computed-cache.ts";
import type { Store, StoreServices } from "../../src/store/store.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { digestOf } from "../helpers/image-archives.ts";
import { pathInfoOf, storePathOf } from "../helpers/path-infos.ts";
import { expectCode } from "../helpers/promises.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import type { TemporaryDirectory } from "../helpers/temporary-directory.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const OPTIONS = { platform: "linux/arm64/v8", maxLayers: 3 };
const GZIP = { codec: "gzip", level: 6 } as const;
const PLAIN = { codec: "none", level: undefined } as const;

/** A path that refers to others by their names. */
async function pathOf(store: MemoryStore, name: string, references: readonly string[]): Promise<PathInfo> {
  const nar = referenceNar(directory({ bin: directory({ [name]: file(`#!/bin/sh\n# ${name}\n`, true) }), data: file(sampleBytes(100_000, name.length)), link: symlink(`bin/${name}`) }));
  const { root } = await importNar(sourceOf(nar), { blobs: store.blobs, directories: store.directories });
  return pathInfoOf(name, { root, references: references.map(storePathOf) });
}

/** glibc is needed by all, and by itself, bash by two. */
async function closureOf(store: MemoryStore): Promise<readonly PathInfo[]> {
  return await Promise.all([pathOf(store, "hello", ["bash", "data"]), pathOf(store, "bash", ["glibc"]), pathOf(store, "data", []), pathOf(store, "tool", ["bash"]), pathOf(store, "glibc", ["glibc"])]);
}

async function written(store: Store, image: ImageSource, format: ImageFormat, options: Partial<ImageArchiveOptions> = {}): Promise<{ readonly archive: Buffer; readonly summary: ImageSummary }> {
  const rendering = (format === "oci" ? ociArchive : dockerArchive)([image], store, { name: "hello:1", compression: PLAIN, isToBeVerified: () => false, ...options });
  const pieces: Uint8Array[] = [];
  let result = await rendering.next();
  for (; result.done !== true; result = await rendering.next()) pieces.push(bytesOf(result.value));
  return { archive: Buffer.concat(pieces), summary: result.value };
}

/** A store that tells what is read of it. */
function watched(store: MemoryStore): { readonly store: Store; readonly reads: () => number } {
  let reads = 0;
  const { blobs } = store;
  const counted: BlobService = {
    findMissing: (digests, options) => blobs.findMissing(digests, options),
    stat: (digest, options) => blobs.stat(digest, options),
    putMany: (many, options) => blobs.putMany(many, options),
    put: (content, options) => blobs.put(content, options),
    openRead: (digest, options) => {
      reads++;
      return blobs.openRead(digest, options);
    },
    readMany: (asked, options) => {
      reads++;
      return blobs.readMany(asked, options);
    },
  };
  return { store: withServices(store, { blobs: counted }), reads: () => reads };
}

/** The same store with some of its services replaced. */
function withServices(store: MemoryStore, services: Partial<StoreServices>): Store {
  const { blobs, directories, pathInfos, nars, documents, computed } = store;
  return {
    blobs,
    directories,
    pathInfos,
    nars,
    documents,
    computed,
    directorySizeProfile: (options) => store.directorySizeProfile(options),
    begin: () => store.begin(),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    ...services,
  };
}

function namesOf(layers: readonly (readonly PathInfo[])[]): string[][] {
  return layers.map((layer) => layer.map(({ storePath }) => storePath.name));
}

describe("layersOf()", () => {
  test("gives each path a layer of its own, those that most others need first", async () => {
    await using store = new MemoryStore();
    const layers = namesOf(layersOf(await closureOf(store), 100));
    expect(layers.every((layer) => layer.length === 1)).toBe(true);
    expect(layers.flat().slice(0, 3)).toEqual(["glibc", "bash", "data"]);
    expect(namesOf(layersOf((await closureOf(store)).toReversed(), 100))).toEqual(layers);
  });

  test("puts what is least needed into the last layer when there are too many", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    expect(namesOf(layersOf(closure, 3)).map((layer) => layer.length)).toEqual([1, 1, 3]);
    expect(namesOf(layersOf(closure, 3)).slice(0, 2)).toEqual([["glibc"], ["bash"]]);
    expect(namesOf(layersOf(closure, 1)).map((layer) => layer.length)).toEqual([5]);
  });
});

describe("closureImage()", () => {
  test.for([
    ["docker", PLAIN],
    ["oci", PLAIN],
    ["oci", GZIP],
  ] as const)("gives a %s archive whose digests are those of what is in it, and the same whatever is remembered: %o", async ([format, compression]) => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    const image = closureImage(closure, store, OPTIONS);
    const { archive, summary } = await written(store, image, format, { compression });
    if (compression === PLAIN) expect(archive.length).toBe(await imageArchiveSize([image], format, "hello:1"));
    const again = await written(store, closureImage(closure.toReversed(), store, OPTIONS), format, { compression });
    expectBytes(again.archive, archive);
    expect(again.summary).toEqual(summary);

    const { images } = await importImages(sourceOf(archive), store);
    const [platform] = summary.platforms;
    expect(images).toMatchObject([{ name: "hello:1", images: [{ id: platform?.id, platform: "linux/arm64/v8" }] }]);
    expect(images[0]?.images[0]?.layers.map(({ layer, file: { digest, size } }) => ({ diffId: layer.diffId, digest, size }))).toEqual(platform?.layers);
  });

  test("makes a layer of a path that is its tar archive, and shares directories with its NAR", async () => {
    await using store = new MemoryStore();
    const [hello] = (await closureOf(store)) as [PathInfo];
    const { images } = await importImages(sourceOf((await written(store, closureImage([hello], store, OPTIONS), "docker")).archive), store);
    const layer = images[0]?.images[0]?.layers[0]?.layer;
    const tar = await collect(renderArchive(await planTar([{ root: hello.root, path: formatStorePath(hello.storePath).slice(1) }], store), store));
    expect(layer?.diffId).toBe(digestOf(tar));
    expect(await store.directories.getClosure(layer?.root.digest as never)).toBeDefined();
  });

  test("says what is not stored any more", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    await using other = new MemoryStore();
    for (const [services, code] of [
      [{ directories: other.directories, blobs: other.blobs }, "ERR_NOT_FOUND"],
      [{ directories: store.directories, blobs: other.blobs }, "ERR_DATA_LOSS"],
    ] as const) {
      await expectCode(describeImages([closureImage(closure, services, OPTIONS)], other, { name: undefined, compression: PLAIN }), code);
      await expectCode(imageArchiveSize([closureImage(closure, services, OPTIONS)], "oci", undefined), code);
    }
  });
});

describe("describeImages()", () => {
  test("gives the digests of the archive without making it, and reads no file the second time", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    const { store: counted, reads } = watched(store);
    const options = { name: "hello:1", compression: GZIP, isToBeVerified: () => false };
    const first = await describeImages([closureImage(closure, counted, OPTIONS)], counted, options);
    const before = reads();
    expect(before).toBeGreaterThan(0);
    expect(await describeImages([closureImage(closure, counted, OPTIONS)], counted, options)).toEqual(first);
    expect(reads()).toBe(before);
    const { summary } = await written(store, closureImage(closure, store, OPTIONS), "oci", { compression: GZIP });
    expect(first).toMatchObject(summary);
    expect(await store.computed.stats()).toMatchObject([{ kind: "layer-diff-id", entries: 3 }, { kind: "layer-file", entries: 3 }]);
  });

  test("remembers by codec and level", async () => {
    await using store = new MemoryStore();
    const image = closureImage(await closureOf(store), store, OPTIONS);
    const digests = new Set<string | undefined>();
    for (const compression of [PLAIN, GZIP, { codec: "gzip", level: 1 }, { codec: "zstd", level: 3 }] as const) {
      digests.add((await describeImages([image], store, { name: undefined, compression })).manifestDigest);
    }
    expect(digests.size).toBe(4);
  });
});

describe("a wrong digest that was remembered", () => {
  /** Every remembered value of a kind replaced by another of the same length. */
  function spoil(store: MemoryStore, kind: string): Store {
    const { computed } = store;
    const spoiled: ComputedCache = {
      get: async (key, options) => {
        const value = await computed.get(key, options);
        return value && key.kind === kind ? Buffer.concat([sampleBytes(32), value.subarray(32)]) : value;
      },
      put: (key, value, seconds, options) => computed.put(key, value, seconds, options),
      stats: (options) => computed.stats(options),
      clear: (options) => computed.clear(options),
    };
    return withServices(store, { computed: spoiled });
  }

  test.for([
    ["layer-diff-id", "docker", PLAIN],
    ["layer-diff-id", "oci", PLAIN],
    ["layer-file", "oci", GZIP],
  ] as const)("(%s) is in no %s archive: %o", async ([kind, format, compression]) => {
    await using store = new MemoryStore();
    const image = closureImage(await closureOf(store), store, OPTIONS);
    const { archive } = await written(store, image, format, { compression });
    expectBytes((await written(spoil(store, kind), image, format, { compression })).archive, archive);
  });

  test("is an error that says so where it stands before its layer, and is corrected", async () => {
    await using store = new MemoryStore();
    // Not to be held in memory until its digest is known.
    const nar = referenceNar(file(Buffer.alloc(130 * 1024 * 1024)));
    const { root } = await importNar(sourceOf(nar), { blobs: store.blobs, directories: store.directories });
    const image = closureImage([pathInfoOf("large", { root, references: [] })], store, OPTIONS);
    const { summary } = await written(store, image, "oci");
    await expectCode(written(spoil(store, "layer-diff-id"), image, "oci"), "ERR_DATA_LOSS", "were remembered; that is corrected now");
    expect((await written(store, image, "oci")).summary).toEqual(summary);
  });

  test.for([
    ["layer-diff-id", PLAIN],
    ["layer-file", GZIP],
  ] as const)("(%s) is an error of describeImages() that says so when it is verified, and is corrected: %o", async ([kind, compression]) => {
    await using store = new MemoryStore();
    const image = closureImage(await closureOf(store), store, OPTIONS);
    const options = { name: undefined, compression };
    const right = await describeImages([image], store, options);
    await expectCode(describeImages([image], spoil(store, kind), { ...options, isToBeVerified: () => true }), "ERR_DATA_LOSS", "were remembered; that is corrected now");
    expect(await describeImages([image], store, { ...options, isToBeVerified: () => true })).toEqual(right);
  });

  test("with a size that no layer has is as good as none", async () => {
    await using store = new MemoryStore();
    const image = closureImage(await closureOf(store), store, OPTIONS);
    const options = { name: undefined, compression: GZIP, isToBeVerified: () => false };
    const right = await describeImages([image], store, options);
    const huge = withServices(store, {
      computed: Object.assign(Object.create(store.computed) as ComputedCache, {
        get: async (...args: Parameters<ComputedCache["get"]>) => {
          const value = await store.computed.get(...args);
          return value?.length === 40 ? Buffer.concat([value.subarray(0, 32), Buffer.alloc(8, 0x7f)]) : value;
        },
        put: async (...args: Parameters<ComputedCache["put"]>) => await store.computed.put(...args),
      }),
    });
    expect(await describeImages([image], huge, options)).toEqual(right);
  });
});

describe("writeLayout()", () => {
  let temporary: TemporaryDirectory;
  beforeAll(async () => (temporary = await temporaryDirectory()));
  afterAll(async () => await temporary[Symbol.asyncDispose]());

  const filesOf = async (directory: string): Promise<string[]> => (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name).sort();

  test.for([PLAIN, GZIP])("writes what the archive holds, and makes no layer again that is there: %o", async (compression) => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    const { store: counted, reads } = watched(store);
    const image = closureImage(closure, counted, OPTIONS);
    const directory = join(temporary.path, `again-${compression.codec}`);
    const options = { name: "hello:1", compression, isToBeVerified: () => false };
    const { archive, summary } = await written(store, image, "oci", { compression });
    const first = await writeLayout(directory, [image], counted, options);
    expect(first).toMatchObject({ ...summary, newLayers: 3, presentLayers: 0 });
    const members = new Map<string, Uint8Array>();
    for await (const member of tarMembers(sourceOf(archive))) if (member.type === "file") members.set(member.path, await collect(member.contents));
    for (const [path, bytes] of members) expectBytes(await readFile(join(directory, path)), bytes);
    expect(await filesOf(directory)).toHaveLength(members.size);

    const before = reads();
    expect(await writeLayout(directory, [image], counted, options)).toMatchObject({ ...summary, newLayers: 0, presentLayers: 3 });
    expect(reads()).toBe(before);
    expect(await filesOf(directory)).toHaveLength(members.size);
    // A layer that was cut short is no layer.
    const [{ layers }] = summary.platforms as unknown as [{ layers: readonly [LayerDescriptor] }];
    const [{ digest }] = layers;
    await truncate(join(directory, "blobs/sha256", digest.slice(7)), 100);
    expect(await writeLayout(directory, [image], counted, options)).toMatchObject({ newLayers: 1, presentLayers: 2 });
    expect(digestOf(await readFile(join(directory, "blobs/sha256", digest.slice(7))))).toBe(digest);
  });

  test("puts images beside each other, and one in the place of another of its name", async () => {
    await using store = new MemoryStore();
    const directory = join(temporary.path, "many");
    const put = async (name: string | undefined, platform: string): Promise<string | undefined> =>
      (await writeLayout(directory, [closureImage(await closureOf(store), store, { ...OPTIONS, platform })], store, { name, compression: PLAIN })).manifestDigest;
    const listed = async (): Promise<(string | undefined)[]> => (JSON.parse(await readFile(join(directory, "index.json"), "utf8")) as { manifests: { digest: string }[] }).manifests.map(({ digest }) => digest);
    const [one, two] = [await put("one:1", "linux/amd64"), await put("two:1", "linux/arm64")];
    expect(await listed()).toEqual([one, two]);
    const changed = await put("one:1", "linux/riscv64");
    expect(await listed()).toEqual([two, changed]);
    const nameless = await put(undefined, "linux/amd64");
    await put(undefined, "linux/amd64");
    expect(await listed()).toEqual([two, changed, nameless]);
    expect((await importMembers(directoryMembers(directory), store)).images.map(({ name }) => name).sort()).toEqual(["one:1", expect.stringMatching(/^sha256:/), "two:1"]);
  });

  test.for([
    ["holds something else", "notes.txt", "mine", "notes.txt"],
    ["has an index that is none", "index.json", "[]", "is no index"],
    ["has an index that is not JSON", "index.json", "{", "is not JSON"],
    ["has an index of gigabytes", "index.json", " ".repeat(17 * 1024 * 1024), "is too large"],
  ] as const)("leaves a directory alone that %s", async ([what, name, contents, message]) => {
    await using store = new MemoryStore();
    const directory = join(temporary.path, what);
    await mkdir(directory);
    await writeFile(join(directory, name), contents);
    const image = closureImage(await closureOf(store), store, OPTIONS);
    await expectCode(writeLayout(directory, [image], store, { name: "x:1", compression: PLAIN }), "ERR_INVALID", message);
    expect(await filesOf(directory)).toEqual([name]);
  });

  test("leaves no index and nothing half-written when it is stopped", async () => {
    await using store = new MemoryStore();
    const directory = join(temporary.path, "stopped");
    const controller = new AbortController();
    const image = closureImage(await closureOf(store), store, OPTIONS);
    const onRendered = (): void => controller.abort(new Error("enough"));
    await expect(writeLayout(directory, [image], store, { name: "x:1", compression: PLAIN, onRendered, signal: controller.signal })).rejects.toThrow(/enough|aborted/);
    expect(await filesOf(directory)).toEqual([]);
    expect(await writeLayout(directory, [image], store, { name: "x:1", compression: PLAIN })).toMatchObject({ newLayers: 3 });
  });
});

/** Images that are made of closures, and what is remembered of them. */
import { describe, expect, test } from "vitest";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { ImageArchiveOptions, ImageFormat, ImageSummary } from "../../src/image/image-archive.ts";
import { describeImages, dockerArchive, imageArchiveSize, ociArchive } from "../../src/image/image-archive.ts";
import type { ImageSource } from "../../src/image/image-source.ts";
import { closureImage, layersOf } from "../../src/image/image-source.ts";
import { importImages } from "../../src/image/import-images.ts";
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
  for (; result.done !== true; result = await rendering.next()) pieces.push(result.value);
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
    const image = await closureImage(closure, store, OPTIONS);
    const { archive, summary } = await written(store, image, format, { compression });
    if (compression === PLAIN) expect(archive.length).toBe(imageArchiveSize([image], format, "hello:1"));
    const again = await written(store, await closureImage(closure.toReversed(), store, OPTIONS), format, { compression });
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
    const { images } = await importImages(sourceOf((await written(store, await closureImage([hello], store, OPTIONS), "docker")).archive), store);
    const layer = images[0]?.images[0]?.layers[0]?.layer;
    const tar = await collect(renderArchive(await planTar([{ root: hello.root, path: formatStorePath(hello.storePath).slice(1) }], store), store));
    expect(layer?.diffId).toBe(digestOf(tar));
    expect(await store.directories.getClosure(layer?.root.digest as never)).toBeDefined();
  });

  test("says what is not stored any more", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    await using other = new MemoryStore();
    await expectCode(closureImage(closure, other, OPTIONS), "ERR_NOT_FOUND");
    await expectCode(closureImage(closure, { directories: store.directories, blobs: other.blobs }, OPTIONS), "ERR_DATA_LOSS");
  });
});

describe("describeImages()", () => {
  test("gives the digests of the archive without making it, and reads no file the second time", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    const { store: counted, reads } = watched(store);
    const options = { name: "hello:1", compression: GZIP, isToBeVerified: () => false };
    const first = await describeImages([await closureImage(closure, counted, OPTIONS)], counted, options);
    const before = reads();
    expect(before).toBeGreaterThan(0);
    expect(await describeImages([await closureImage(closure, counted, OPTIONS)], counted, options)).toEqual(first);
    expect(reads()).toBe(before);
    const { summary } = await written(store, await closureImage(closure, store, OPTIONS), "oci", { compression: GZIP });
    expect(first).toMatchObject(summary);
    expect(await store.computed.stats()).toMatchObject([{ kind: "layer-diff-id", entries: 3 }, { kind: "layer-file", entries: 3 }]);
  });

  test("remembers by codec and level", async () => {
    await using store = new MemoryStore();
    const image = await closureImage(await closureOf(store), store, OPTIONS);
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
  ] as const)("(%s) is an error that says so when the %s archive is verified, and is corrected: %o", async ([kind, format, compression]) => {
    await using store = new MemoryStore();
    const image = await closureImage(await closureOf(store), store, OPTIONS);
    const { archive } = await written(store, image, format, { compression });
    await expectCode(written(spoil(store, kind), image, format, { compression, isToBeVerified: () => true }), "ERR_DATA_LOSS", "was remembered; that is corrected now");
    expectBytes((await written(store, image, format, { compression, isToBeVerified: () => true })).archive, archive);
  });

  test("is corrected by describeImages() when it is verified", async () => {
    await using store = new MemoryStore();
    const image = await closureImage(await closureOf(store), store, OPTIONS);
    const options = { name: undefined, compression: GZIP };
    const right = await describeImages([image], store, options);
    expect(await describeImages([image], spoil(store, "layer-file"), { ...options, isToBeVerified: () => true })).toEqual(right);
  });
});

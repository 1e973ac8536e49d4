import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { ClosureImageOptions } from "../../src/image/closure-image.ts";
import { layersOf, planClosureImage } from "../../src/image/closure-image.ts";
import { findImages } from "../../src/image/image-catalog.ts";
import { importImages } from "../../src/image/import-images.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { planTar } from "../../src/render/render-tar.ts";
import { renderArchive } from "../../src/render/segments.ts";
import { formatStorePath } from "../../src/nix/store-path.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import { collect, expectBytes } from "../helpers/bytes.ts";
import { digestOf } from "../helpers/image-archives.ts";
import { pathInfoOf, storePathOf } from "../helpers/path-infos.ts";
import { expectCode } from "../helpers/promises.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const OPTIONS: ClosureImageOptions = { format: "docker", name: "hello:1", platform: "linux/arm64/v8", maxLayers: 100 };

/** A path of one file, which refers to others by their names. */
async function pathOf(store: MemoryStore, name: string, references: readonly string[]): Promise<PathInfo> {
  const nar = referenceNar(directory({ bin: directory({ [name]: file(`#!/bin/sh\n# ${name}\n`, true) }), "read me": file("text"), link: symlink(`bin/${name}`) }));
  const { root } = await importNar(sourceOf(nar), { blobs: store.blobs, directories: store.directories });
  return pathInfoOf(name, { root, references: references.map(storePathOf) });
}

/** glibc is needed by all, and by itself, bash by two. */
async function closureOf(store: MemoryStore): Promise<readonly PathInfo[]> {
  return await Promise.all([pathOf(store, "hello", ["bash", "data"]), pathOf(store, "bash", ["glibc"]), pathOf(store, "data", []), pathOf(store, "tool", ["bash"]), pathOf(store, "glibc", ["glibc"])]);
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

describe("planClosureImage()", () => {
  test.for(["docker", "oci"] as const)("gives a %s archive of the size that was said, whose digests are those of what is in it, and the same every time", async (format) => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    const image = await planClosureImage(closure, store, { ...OPTIONS, format, maxLayers: 3 });
    const rendering = image.render(store);
    const pieces: Uint8Array[] = [];
    let result = await rendering.next();
    for (; result.done !== true; result = await rendering.next()) pieces.push(result.value);
    const archive = Buffer.concat(pieces);
    expect(archive.length).toBe(image.size);
    expectBytes(await collect((await planClosureImage(closure.toReversed(), store, { ...OPTIONS, format, maxLayers: 3 })).render(store)), archive);

    const { images } = await importImages(sourceOf(archive), store);
    expect(images).toMatchObject([{ name: "hello:1", images: [{ id: result.value.id, platform: "linux/arm64/v8" }] }]);
    expect(images[0]?.images[0]?.layers.map(({ layer }) => layer.diffId)).toEqual(result.value.layers.map(({ diffId }) => diffId));
    expect((await findImages("hello:1", store))?.images).toHaveLength(1);
  });

  test("shares directories and blobs with the NARs of its paths", async () => {
    await using store = new MemoryStore();
    const [hello] = await closureOf(store);
    const image = await planClosureImage([hello as PathInfo], store, OPTIONS);
    const { images } = await importImages(image.render(store), store);
    const layer = images[0]?.images[0]?.layers[0]?.layer;
    const nar = await collect(renderArchive(await planTar([{ root: (hello as PathInfo).root, path: formatStorePath((hello as PathInfo).storePath).slice(1) }], store), store));
    expect(layer?.diffId).toBe(digestOf(nar));
    expect(await store.directories.getClosure(layer?.root.digest as never)).toBeDefined();
  });

  test("says what is not stored any more", async () => {
    await using store = new MemoryStore();
    const closure = await closureOf(store);
    await using other = new MemoryStore();
    await expectCode(planClosureImage(closure, other, OPTIONS), "ERR_NOT_FOUND");
    await expectCode(planClosureImage(closure, { directories: store.directories, blobs: other.blobs }, OPTIONS), "ERR_DATA_LOSS");
  });
});

/** Images in and out again, over archives made here; test/interop/images.test.ts has those of real tools. */
import { brotliCompressSync, gzipSync } from "node:zlib";
import { expect, test, describe } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { compress } from "../../src/compression/compress.ts";
import { findImages, listImageNames } from "../../src/image/image-catalog.ts";
import type { NamedImages } from "../../src/image/image-record.ts";
import { importImages } from "../../src/image/import-images.ts";
import type { ImageFormat } from "../../src/image/image-archive.ts";
import { bytesOf } from "../../src/bytes/framed-bytes.ts";
import { mapItems } from "../../src/concurrency/map-items.ts";
import { dockerArchive, imageArchiveSize, ociArchive } from "../../src/image/image-archive.ts";
import { importedImage } from "../../src/image/image-source.ts";
import type { LayerCompression } from "../../src/image/layer-digests.ts";
import { planRecipe } from "../../src/render/render-recipe.ts";
import { renderArchive } from "../../src/render/segments.ts";
import type { Store } from "../../src/store/store.ts";
import { collect, collectItems, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import type { TarMember, TestImage } from "../helpers/image-archives.ts";
import { digestOf, dockerMembers, imageOf, ociMembers, tarOf } from "../helpers/image-archives.ts";
import { openPacks } from "../helpers/open-stores.ts";
import { expectCode, within } from "../helpers/promises.ts";
import { base256, END, GNU, gnuRanges, tarEntry } from "../helpers/reference-tar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const LARGE = sampleBytes(2_500_000);
const BASE = tarOf([
  { path: "./", directory: true },
  { path: "./bin/", directory: true },
  { path: "./bin/hello", bytes: Buffer.from("#!/bin/sh\necho hello\n"), mode: 0o755 },
  { path: "./bin/hi", hardlink: "./bin/hello" },
  { path: "./bin/sh", symlink: "/bin/bash" },
  { path: "./usr/lib/large.so", bytes: LARGE },
  { path: "./empty", bytes: Buffer.alloc(0) },
]);
const TOP = tarOf([
  { path: "bin/.wh.hi", bytes: Buffer.alloc(0) },
  { path: "etc/motd", bytes: Buffer.from("welcome") },
  { path: "etc/motd", bytes: Buffer.from("welcome back") },
]);
const HELLO = imageOf([BASE, TOP]);

async function importMembersOf(store: Store, members: readonly TarMember[], name?: string): Promise<readonly NamedImages[]> {
  return (await importImages(sourceOf(tarOf(members)), store, { name })).images;
}

const PLAIN: LayerCompression = { codec: "none", level: undefined };

async function exported(store: Store, { name, images }: NamedImages, format: ImageFormat, compression = PLAIN): Promise<Buffer> {
  const sources = await Promise.all(images.map(async (image) => await importedImage(image, store)));
  const bytes = await collect(mapItems((format === "oci" ? ociArchive : dockerArchive)(sources, store, { name, compression }), bytesOf));
  if (compression === PLAIN) expect(bytes.length).toBe(await imageArchiveSize(sources, format, name));
  return Buffer.from(bytes);
}

/** A layout whose largest blob is another. */
function changeBlob(members: readonly TarMember[], change: (bytes: Buffer) => Buffer): TarMember[] {
  return members.map((member) => ("bytes" in member && member.bytes.length > 1_000_000 ? { ...member, bytes: change(Buffer.from(member.bytes)) } : member));
}

/** That an image is listed under a name, and every layer comes out as it went in. */
async function expectImage(store: Store, name: string, image: TestImage): Promise<void> {
  const found = await findImages(name, store);
  const [record] = found?.images.filter(({ id }) => id === image.id) ?? [];
  expect(record?.layers.map(({ layer }) => layer.diffId)).toEqual(image.layers.map(digestOf));
  for (const [index, { layer }] of record?.layers.entries() ?? []) {
    expectBytes(await collect(renderArchive(await planRecipe(layer.recipe, layer.size, store.blobs), store)), image.layers[index] as Buffer);
  }
}

describe("importImages()", () => {
  const ORDERS = [
    ["manifest first", (members: TarMember[]) => members.toReversed()],
    ["manifest last", (members: TarMember[]) => members],
    ["manifest in between", (members: TarMember[]) => [...members.slice(1), ...members.slice(0, 1)]],
  ] as const;

  test.for(ORDERS)("takes a docker-archive with its %s", async ([, change]) => {
    await using store = new MemoryStore();
    expect((await importMembersOf(store, dockerMembers([HELLO], change))).map(({ name }) => name)).toEqual(["hello:latest"]);
    await expectImage(store, "hello:latest", HELLO);
  });

  test.for(["symlink", "hardlink"] as const)("takes layers that are a %s to another one", async (kind) => {
    await using store = new MemoryStore();
    const image = imageOf([BASE, TOP, BASE]);
    const members = dockerMembers([image], ([first, second, third, ...rest]) => {
      const target = first?.path ?? "";
      return [{ path: third?.path ?? "", ...(kind === "symlink" ? { symlink: `../${target}` } : { hardlink: target }) } as TarMember, first as TarMember, second as TarMember, ...rest];
    });
    await importMembersOf(store, members);
    await expectImage(store, "hello:latest", image);
  });

  test.for(["gzip", "zstd", "xz", "bzip2"] as const)("takes an archive that is compressed with %s", async (codec) => {
    await using store = new MemoryStore();
    await importImages(compress(sourceOf(tarOf(dockerMembers([HELLO]))), codec), store);
    await expectImage(store, "hello:latest", HELLO);
  });

  test.for([
    ["plain layers", {}],
    ["gzip layers", { compression: "gzip" }],
    ["an index within the index", { nested: true }],
  ] as const)("takes an OCI layout in a tar archive, with %s", async ([, options]) => {
    await using store = new MemoryStore();
    expect((await importMembersOf(store, ociMembers([HELLO], options))).map(({ name }) => name)).toEqual(["hello:latest"]);
    await expectImage(store, "hello:latest", HELLO);
  });

  test("takes what is a docker-archive and an OCI layout at once, as docker 25 writes it, once", async () => {
    await using store = new MemoryStore();
    const oci = ociMembers([HELLO]);
    const manifest = [{ Config: `blobs/sha256/${HELLO.id.slice(7)}`, RepoTags: ["hello:both"], Layers: HELLO.layers.map((layer) => `blobs/sha256/${digestOf(layer).slice(7)}`) }];
    expect((await importMembersOf(store, [...oci, { path: "manifest.json", bytes: Buffer.from(JSON.stringify(manifest)) }])).map(({ name }) => name)).toEqual(["hello:both"]);
    await expectImage(store, "hello:both", HELLO);
  });

  test("takes several images with several names, and one without a name by its ID", async () => {
    await using store = new MemoryStore();
    const other = imageOf([TOP], { names: ["docker.io/library/other:1", "registry.example/other:2"] });
    const nameless = imageOf([], { names: [] });
    await importMembersOf(store, dockerMembers([HELLO, other, nameless]));
    expect(await collectItems(listImageNames(store))).toEqual(["hello:latest", "other:1", "registry.example/other:2", nameless.id]);
    await expectImage(store, "other:1", other);
    await expectImage(store, nameless.id, nameless);
  });

  test("takes several platforms under one name, and passes over what buildkit attests", async () => {
    await using store = new MemoryStore();
    const arm = imageOf([TOP], { architecture: "arm64", variant: "v8" });
    const attestation = imageOf([], { architecture: "unknown" });
    const members = ociMembers([HELLO, arm, { ...attestation, config: Buffer.from(attestation.config.toString().replace('"linux"', '"unknown"')) }], { nested: true });
    const [named] = await importMembersOf(store, members);
    expect(named?.images.map(({ platform }) => platform)).toEqual(["linux/amd64", "linux/arm64/v8"]);
  });

  test("names an image as it is told", async () => {
    await using store = new MemoryStore();
    await importMembersOf(store, ociMembers([HELLO]), "mine:1");
    expect(await collectItems(listImageNames(store))).toEqual(["mine:1"]);
    await expectCode(importMembersOf(store, dockerMembers([HELLO, imageOf([TOP])]), "mine:2"), "ERR_INVALID", "2 images of the same platform");
  });

  test("takes an image under every name that a manifest has for it, in as many entries as there are", async () => {
    await using store = new MemoryStore();
    const again = { ...HELLO, names: ["hello:again"] };
    await importMembersOf(store, dockerMembers([HELLO, again]));
    expect(await collectItems(listImageNames(store))).toEqual(["hello:again", "hello:latest"]);
    await using other = new MemoryStore();
    await importMembersOf(other, ociMembers([HELLO, again]));
    expect(await collectItems(listImageNames(other))).toEqual(["hello:again", "hello:latest"]);
  });

  test("takes a configuration that is no small blob", async () => {
    await using store = await openPacks()();
    const image = imageOf([TOP], { names: ["large:1"] });
    const config = Buffer.from(JSON.stringify({ ...(JSON.parse(image.config.toString()) as object), history: [{ comment: "c".repeat(3_000_000) }] }));
    const large = { ...image, config, id: digestOf(config) };
    await importMembersOf(store.service, dockerMembers([large]));
    await expectImage(store.service, "large:1", large);
    const named = (await findImages("large:1", store.service)) as NamedImages;
    const { images } = await importImages(sourceOf(await exported(store.service, named, "oci")), store.service, { name: "again:1" });
    expect(images[0]?.images[0]?.id).toBe(large.id);
  });

  test("takes an image whose record is no small blob", async () => {
    await using store = await openPacks()();
    const layer = tarOf([{ path: "a", bytes: Buffer.from("a") }]);
    const platforms = Array.from({ length: 3 }, (_, index) => imageOf(Array.from({ length: 1_000 }, () => layer), { architecture: `a${index}` }));
    await importMembersOf(store.service, ociMembers(platforms, { nested: true }));
    expect((await findImages("hello:latest", store.service))?.images.map(({ layers }) => layers.length)).toEqual([1_000, 1_000, 1_000]);
  });

  test("takes what is there already, and only hashes layers that are named by a digest that is known", async () => {
    await using store = await openPacks()();
    const members = ociMembers([HELLO], { compression: "gzip" });
    const first = await importImages(sourceOf(tarOf(members)), store.service);
    const second = await importImages(sourceOf(tarOf(members)), store.service);
    const newBytes = (result: typeof first): number => [...result.layers.values()].reduce((sum, { tally }) => sum + tally.newBytes, 0);
    expect(newBytes(first)).toBeGreaterThan(LARGE.length);
    expect(newBytes(second)).toBe(0);
    await expectImage(store.service, "hello:latest", HELLO);
  });

  test("takes an OCI layout again whose index.json comes behind many small layers that are known", async () => {
    await using store = new MemoryStore();
    // More than is kept in memory for manifests, in all.
    const image = imageOf(Array.from({ length: 10 }, (_, index) => tarOf([{ path: `layer-${index}`, bytes: sampleBytes(7_500_000, index) }])));
    const [first, ...rest] = ociMembers([image]);
    const members = [first as TarMember, ...rest.filter(({ path }) => path !== "index.json"), ...rest.filter(({ path }) => path === "index.json")];
    await importMembersOf(store, members);
    await importMembersOf(store, members);
    await expectImage(store, "hello:latest", image);
  });

  test("takes a layer of before 1988, which no magic tells, and calls what is no tar archive that", async () => {
    await using store = new MemoryStore();
    const old = Buffer.from(TOP);
    const [header] = [old.subarray(0, 512)];
    header.fill(0, 257);
    header.fill(0x20, 148, 156);
    header.write(`${header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    const image = imageOf([old]);
    await importMembersOf(store, dockerMembers([image]));
    await expectImage(store, "hello:latest", image);
    header.write("x", 0);
    await expectCode(importMembersOf(store, dockerMembers([imageOf([old])])), "ERR_IMAGE_INVALID", "layer 1 of 1");
  });

  test.for([
    ["more names than anyone reads", imageOf([TOP], { names: Array.from({ length: 1001 }, (_, index) => `hello:${index}`) }), "ERR_IMAGE_INVALID", "RepoTags"],
    ["more layers than can be noted down", imageOf(Array.from({ length: 1025 }, () => TOP)), "ERR_IMAGE_INVALID", "Layers"],
  ] as const)("refuses an image with %s", async ([, image, code, message]) => {
    await using store = new MemoryStore();
    await expectCode(importMembersOf(store, dockerMembers([image], (members) => [...new Map(members.map((member) => [member.path, member])).values()])), code, message);
  });

  test("refuses a name with more platforms and layers than can be read again", async () => {
    await using store = new MemoryStore();
    const platforms = Array.from({ length: 40 }, (_, index) => imageOf(Array.from({ length: 600 }, () => TOP), { architecture: `arch${index}` }));
    await expectCode(importMembersOf(store, ociMembers(platforms)), "ERR_LIMIT", "bytes to note down");
    expect(await collectItems(listImageNames(store))).toEqual([]);
  });

  test("takes an image without layers, as Go writes it", async () => {
    await using store = new MemoryStore();
    const config = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}');
    const manifest = [{ Config: "c.json", RepoTags: ["scratch:1"], Layers: null }];
    await importMembersOf(store, [{ path: "c.json", bytes: config }, { path: "manifest.json", bytes: Buffer.from(JSON.stringify(manifest)) }]);
    expect((await findImages("scratch:1", store))?.images.map(({ layers }) => layers)).toEqual([[]]);
    const [named] = (await importMembersOf(store, dockerMembers([imageOf([], { names: ["scratch:2"] })]))) as [NamedImages];
    for (const format of ["docker", "oci"] as const) expect(await exported(store, named, format)).not.toHaveLength(0);
  });

  test("counts for a layer what is the layer's", async () => {
    await using store = new MemoryStore();
    await importMembersOf(store, dockerMembers([HELLO]));
    const other = imageOf([BASE, TOP], { names: ["other:1"], architecture: "arm64" });
    const { layers } = await importImages(sourceOf(tarOf(dockerMembers([other]))), store);
    expect([...layers.values()].map(({ tally }) => tally.newBytes)).toEqual([0, 0]);
  });

  const changeLayer = (members: TarMember[]): TarMember[] => members.map((member, index) => (index === 1 ? { path: member.path, bytes: tarOf([{ path: "evil", bytes: Buffer.from("evil") }]) } : member));
  test.for<readonly [string, TarMember[], string, string | RegExp]>([
    ["a layer is another than its configuration says", dockerMembers([HELLO], changeLayer), "ERR_MISMATCH", /^Cannot take the image "hello:latest": layer 2 of 2 \(".*layer.tar"\) has diffID sha256:[0-9a-f]{64}, its configuration says sha256:/],
    ["a layer is missing", dockerMembers([HELLO], (members) => members.slice(1)), "ERR_IMAGE_INVALID", /layer.tar" is not in the archive/],
    ["a layer is no tar archive", dockerMembers([HELLO], ([first, ...rest]) => [{ path: first?.path ?? "", bytes: Buffer.from("no tar") }, ...rest]), "ERR_IMAGE_INVALID", /layer 1 of 2 .* is no tar archive/],
    ["a layer is cut off", dockerMembers([imageOf([BASE.subarray(0, 600)])]), "ERR_IMAGE_INVALID", /layer 1 of 1/],
    ["a layer is cut off within a large file", dockerMembers([imageOf([BASE.subarray(0, 1_500_000)])]), "ERR_IMAGE_INVALID", /layer 1 of 1 .*: Cannot parse tar: input ends within/],
    ["a layer of a layout is cut off", ociMembers([imageOf([BASE.subarray(0, 1_500_000)])]), "ERR_IMAGE_INVALID", /its layer 1 of 1 sha256:\w+: Cannot parse tar: input ends within/],
    ["a compressed layer is damaged behind its end", changeBlob(ociMembers([HELLO], { compression: "gzip" }), (bytes) => Buffer.concat([bytes, Buffer.from("more")])), "ERR_MISMATCH", /its layer 1 of 2 sha256:\w+ has SHA-256/],
    ["a compressed layer is damaged within a large file", changeBlob(ociMembers([HELLO], { compression: "gzip" }), (bytes) => Buffer.concat([bytes.subarray(0, 1_000_000), Buffer.alloc(1_000), bytes.subarray(1_001_000)])), "ERR_MISMATCH", /its layer 1 of 2 sha256:\w+ has SHA-256/],
    ["a name would do something to a terminal", dockerMembers([{ ...HELLO, names: ["hello:1", "\u001b[2Jhello"] }]), "ERR_IMAGE_INVALID", /"\\u001b\[2Jhello" is no name for an image/],
    ["a name is an image's ID", dockerMembers([{ ...HELLO, names: [`sha256:${"0".repeat(64)}`] }]), "ERR_IMAGE_INVALID", "is no name for an image"],
    ["a configuration has fewer layers", dockerMembers([imageOf([BASE, TOP], { diffIds: [digestOf(BASE)] })]), "ERR_MISMATCH", "its manifest has 2 layers, its configuration 1"],
    ["a configuration is not what its name says", dockerMembers([HELLO], (members) => members.map((member) => (/^[0-9a-f]{64}\.json$/.test(member.path) ? { path: member.path, bytes: Buffer.concat([HELLO.config, Buffer.from(" ")]) } : member))), "ERR_MISMATCH", "its configuration has SHA-256"],
    ["a manifest is no JSON", [{ path: "manifest.json", bytes: Buffer.from("{") }], "ERR_IMAGE_INVALID", '"manifest.json" is not JSON'],
    ["a manifest is something else", [{ path: "manifest.json", bytes: Buffer.from("[{}]") }], "ERR_IMAGE_INVALID", "0.Config"],
    ["there is no manifest", [{ path: "a", bytes: Buffer.from("a") }], "ERR_IMAGE_INVALID", "neither a manifest.json (docker save) nor an index.json"],
    ["links go round", [{ path: "manifest.json", symlink: "manifest.json" }], "ERR_IMAGE_INVALID", "is a link to a link"],
    ["a blob of a layout is changed", ociMembers([HELLO]).map((member) => (member.path === `blobs/sha256/${digestOf(TOP).slice(7)}` ? { path: member.path, bytes: tarOf([]) } : member)), "ERR_MISMATCH", /its layer 2 of 2 sha256:\w+ has SHA-256/],
    ["a layer leads out of the image", dockerMembers([imageOf([tarOf([{ path: "../../etc/passwd", bytes: Buffer.from("root") }])])]), "ERR_IMAGE_INVALID", '"../../etc/passwd" leads out of the archive'],
    ["a file's name is too long", dockerMembers([imageOf([tarOf([{ path: "a".repeat(256), bytes: Buffer.from("x") }])])]), "ERR_IMAGE_INVALID", "no file may have as its name"],
  ])("refuses an archive when %s, and lists nothing", async ([, members, code, message]) => {
    await using store = new MemoryStore();
    await expectCode(importMembersOf(store, members), code as never, message);
    expect(await collectItems(listImageNames(store))).toEqual([]);
  });

  test("does not believe a layer's name when that digest is known", async () => {
    await using store = new MemoryStore();
    await importMembersOf(store, ociMembers([HELLO]));
    const path = `blobs/sha256/${digestOf(TOP).slice(7)}`;
    const changed = ociMembers([HELLO]).map((member) => (member.path === path ? { path, bytes: tarOf([{ path: "evil", bytes: Buffer.from("evil") }]) } : member));
    await expectCode(importMembersOf(store, changed, "changed:1"), "ERR_MISMATCH");
    expect(await collectItems(listImageNames(store))).toEqual(["hello:latest"]);
  });

  test("refuses an archive that is cut off anywhere, and what is no archive", async () => {
    const archive = tarOf(dockerMembers([imageOf([TOP])]));
    // Behind the last file nothing is missed.
    for (let length = 0; length < archive.length - 2048; length += 97) {
      await using store = new MemoryStore();
      await expect(importImages(sourceOf(archive.subarray(0, length)), store)).rejects.toMatchObject({ name: "NarborError" });
      expect(await collectItems(listImageNames(store))).toEqual([]);
    }
    await using store = new MemoryStore();
    await expect(importImages(sourceOf(gzipSync(archive).subarray(0, -5)), store)).rejects.toMatchObject({ code: "ERR_COMPRESSION_INVALID" });
    await expect(importImages(sourceOf(brotliCompressSync(archive)), store)).rejects.toMatchObject({ name: "NarborError" });
  });

  test("says that it is the archive that is damaged, and not the layer that is read from it", async () => {
    await using store = new MemoryStore();
    const archive = tarOf(dockerMembers([HELLO]));
    const compressed = gzipSync(archive);
    await expectCode(importImages(sourceOf(compressed.subarray(0, 1_000_000)), store), "ERR_COMPRESSION_INVALID", /^Cannot decompress gzip: input ends early/);
    await expectCode(importImages(sourceOf(archive.subarray(0, 1_000_000)), store), "ERR_TAR_INVALID", /^Cannot parse tar: input ends within .*layer.tar/);
  });

  test("refuses a layer by the digest that it has, however little of it could be read", async () => {
    await using store = new MemoryStore();
    const members = changeBlob(ociMembers([HELLO], { compression: "gzip" }), (bytes) => Buffer.concat([bytes.subarray(0, 700_000), Buffer.alloc(1_000_000, "x")]));
    const [changed] = members.filter((member) => "bytes" in member && member.bytes.length > 1_000_000);
    if (changed === undefined || !("bytes" in changed)) expect.unreachable();
    await expectCode(importMembersOf(store, members), "ERR_MISMATCH", `has SHA-256 ${digestOf(changed.bytes)}`);
  });

  test("refuses more bytes than it is allowed to take, inflated or within a layer", async () => {
    await using store = new MemoryStore();
    const archive = tarOf(ociMembers([imageOf([tarOf([{ path: "zeros", bytes: Buffer.alloc(3_000_000) }])])], { compression: "gzip" }));
    await expectCode(importImages(sourceOf(archive), store, { maxBytes: 1_000_000 }), "ERR_LIMIT");
    await expectCode(importImages(sourceOf(gzipSync(tarOf(dockerMembers([HELLO])))), store, { maxBytes: 1_000_000 }), "ERR_LIMIT");
  });

  const holesOf = (size: bigint): Buffer => Buffer.concat([tarEntry({ name: "holes", type: "S", magic: GNU, realSize: base256(size, 12), sparse: gnuRanges([[0, 0]]) }), END]);

  test("refuses what would become far more than it is", async () => {
    await using store = new MemoryStore();
    await expectCode(importMembersOf(store, dockerMembers([imageOf([holesOf(900n * 1024n ** 3n)])])), "ERR_LIMIT", "would become more than 17179869184 bytes");
    expect(await collectItems(listImageNames(store))).toEqual([]);
  });

  test("rejects with the signal's reason in the middle of a hole, where nothing is waited for", async () => {
    await using store = await openPacks()();
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("enough")), 100);
    const archive = tarOf(dockerMembers([imageOf([holesOf(15n * 1024n ** 3n)])]));
    await expect(within(importImages(sourceOf(archive), store.service, { signal: controller.signal }), 5000)).rejects.toThrow("enough");
  });

  test("rejects with the signal's reason, and lists nothing", async () => {
    await using store = new MemoryStore();
    const reason = new Error("enough");
    const controller = new AbortController();
    async function* source(): AsyncGenerator<Uint8Array, void, undefined> {
      yield tarOf(dockerMembers([HELLO])).subarray(0, 5000);
      controller.abort(reason);
      await new Promise(() => undefined);
    }
    await expect(importImages(source(), store, { signal: controller.signal })).rejects.toBe(reason);
    expect(await collectItems(listImageNames(store))).toEqual([]);
  });
});

describe("dockerArchive() and ociArchive()", () => {
  test.for([
    ["docker", PLAIN],
    ["oci", PLAIN],
    ["oci", { codec: "gzip", level: 6 }],
    ["oci", { codec: "zstd", level: 3 }],
  ] as const)("give a %s archive that can be taken in again, the same every time: %o", async ([format, compression]) => {
    await using store = new MemoryStore();
    const [named] = await importMembersOf(store, dockerMembers([imageOf([BASE, TOP, BASE])]));
    const archive = await exported(store, named as NamedImages, format, compression);
    expectBytes(await exported(store, named as NamedImages, format, compression), archive);
    await store.computed.clear();
    expectBytes(await exported(store, named as NamedImages, format, compression), archive);
    await using other = new MemoryStore();
    await importImages(sourceOf(archive), other);
    expect(await findImages("hello:latest", other)).toMatchObject({ images: [{ id: named?.images[0]?.id }] });
    await expectImage(other, "hello:latest", imageOf([BASE, TOP, BASE]));
  });

  test.for([
    ["hello:1", ["hello:1"]],
    ["hello", ["hello:latest"]],
    ["Hello", null],
  ] as const)("give docker a name that it takes: %s as %j", async ([name, tags]) => {
    await using store = new MemoryStore();
    const [named] = await importMembersOf(store, dockerMembers([HELLO]), name);
    const archive = await exported(store, named as NamedImages, "docker");
    const start = archive.indexOf("manifest.json") + 512;
    const { RepoTags } = (JSON.parse(archive.subarray(start, archive.indexOf(0, start)).toString()) as [{ RepoTags: unknown }])[0];
    expect(RepoTags).toEqual(tags);
  });

  test("give all platforms in an OCI layout, and refuses several for docker", async () => {
    await using store = new MemoryStore();
    const arm = imageOf([TOP], { architecture: "arm64" });
    const [named] = await importMembersOf(store, ociMembers([HELLO, arm], { nested: true }));
    await expectCode(exported(store, named as NamedImages, "docker"), "ERR_INVALID", "linux/amd64, linux/arm64");
    await using other = new MemoryStore();
    await importImages(sourceOf(await exported(store, named as NamedImages, "oci")), other);
    for (const image of [HELLO, arm]) await expectImage(other, "hello:latest", image);
  });
});

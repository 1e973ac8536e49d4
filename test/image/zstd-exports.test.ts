/** Exports that are compressed with zstd: of frames that are there already where there are some, and of the same bytes wherever they are made. */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { NamedImages } from "../../src/image/image-record.ts";
import type { ExportOptions } from "../../src/image/plan-export.ts";
import { planExport, planImageExport } from "../../src/image/plan-export.ts";
import { importImages } from "../../src/image/import-images.ts";
import { ENCODER_VERSION } from "../../src/compression/compress.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import type { Store } from "../../src/store/store.ts";
import { collect, expectBytes, hexes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openGrpc } from "../helpers/grpc-store.ts";
import { openMemory, openPacks } from "../helpers/open-stores.ts";
import { pathInfoOf } from "../helpers/path-infos.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import { decompressed } from "../compression/helpers.ts";

/** Of every size that is read or cut in another way, the same content twice, and holes for those who look for chunks. */
const NAR = referenceNar(
  directory({
    a: file("small\n"),
    b: file(textBytes(131_071, 1)),
    c: file(textBytes(131_072, 2)),
    d: file(sampleBytes(131_073, 3)),
    e: directory({ f: file(textBytes(600_000, 4)), g: file(textBytes(600_000, 4)), h: file("") }),
    i: file(textBytes(3_000_000, 5)),
    j: file(sampleBytes(1_048_577, 6)),
    k: file(new Uint8Array(1_500_000)),
    l: file(textBytes(2_000, 7)),
  }),
);

const STORES = [
  ["memory", openMemory],
  ["packs", openPacks()],
  ["packs of level 3", openPacks({ compression: 3 })],
  ["packs without compression", openPacks({ compression: "none" })],
  ["packs, which a client has filled and reads", openGrpc(openPacks())],
] as const;

async function exported(store: Store, options: ExportOptions): Promise<Uint8Array> {
  const { root } = await importNar(sourceOf(NAR), { blobs: store.blobs, directories: store.directories });
  const path = pathInfoOf("hello", { root });
  await store.pathInfos.put(path);
  const plan = await planExport(root, path, options, store);
  const bytes = await collect(plan.render());
  expect((await plan.written()).writtenBytes).toBe(bytes.length);
  return bytes;
}

describe.for(["nar", "tar", "docker", "oci"] as const)("an export as %s, compressed with zstd", (format) => {
  test.for([undefined, 1, 3] as const)("is of the same bytes from every store at level %s", async (level) => {
    const options = { format, compression: "zstd", level } as const;
    const expected = await exported(new MemoryStore(), options);
    for (const [, open] of STORES) {
      await using opened = await open();
      expectBytes(await exported(opened.service, options), expected);
    }
  });
});

test("a NAR and a tar archive that were compressed with zstd are what they are without", async () => {
  for (const format of ["nar", "tar"] as const) {
    await using opened = await openPacks()();
    const plain = await exported(opened.service, { format, compression: "none" });
    expectBytes(await decompressed([await exported(opened.service, { format, compression: "zstd" })], { codec: "zstd" }), plain);
  }
  expectBytes(await exported(new MemoryStore(), { format: "nar", compression: "none" }), NAR);
});

test("an export is of level 1 unless it is told otherwise, as contents are stored", async () => {
  const store = new MemoryStore();
  expectBytes(await exported(store, { format: "tar", compression: "zstd" }), await exported(store, { format: "tar", compression: "zstd", level: 1 }));
});

test("an image that was exported with zstd, and comes into another store, is exported as it was: its layers are cut alike", async () => {
  await using first = await openPacks()();
  const options = { format: "oci", compression: "zstd", name: "hello:1" } as const;
  const archive = await exported(first.service, options);
  for (const [, open] of STORES) {
    await using opened = await open();
    const { images } = await importImages(sourceOf(archive), opened.service);
    const plan = await planImageExport(images[0] as NamedImages, options, opened.service);
    expectBytes(await collect(plan.render()), archive);
  }
});

test("an archive is of the bytes that ENCODER_VERSION stands for: with others, its first number is to be increased", async () => {
  const archive = await exported(new MemoryStore(), { format: "tar", compression: "zstd" });
  expect([ENCODER_VERSION.split(" ")[0], ...hexes([blake3(archive)])]).toEqual(["3", "0321d82fd62f2f882438b7e9cef1e7806eef205aa67f155a789174f246d54dad"]);
});

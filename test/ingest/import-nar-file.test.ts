import { expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { compress } from "../../src/compression/compress.ts";
import { sha256 } from "../../src/hash/sha256.ts";
import { importNarFile } from "../../src/ingest/import-nar-file.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { chunked, collect, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openPacks } from "../helpers/open-stores.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { reusingMemory, streamOf } from "../helpers/tracked-source.ts";

const SMALL = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`f${String(index).padStart(3, "0")}`, file(textBytes(index * 7, index))]));
const NAR = referenceNar(
  directory({ large: file(sampleBytes(2_300_000, 1)), link: symlink("large"), middle: file(textBytes(700_000, 2)), small: directory(SMALL), zz: file(textBytes(1_500_000, 3), true) }),
);

test.for(["none", "gzip", "zstd", "xz", "bzip2"] as const)("importNarFile() takes a file of compression %s in memory that is used again", async (codec) => {
  await using memory = new MemoryStore();
  await using packs = await openPacks()();
  const expected = await importNar(streamOf([NAR]), { blobs: memory.blobs, directories: memory.directories });
  const whole = codec === "none" ? NAR : await collect(compress(streamOf(chunked(NAR, 100_000)), codec));
  for (const length of [999, 70_001, 1024 * 1024]) {
    for (const { blobs, directories } of [memory, packs.service]) {
      const { nar, file: found } = await importNarFile(reusingMemory(chunked(whole, length), 2), { blobs, directories });
      expect(nar).toEqual(expected);
      expect(found).toEqual({ fileSha256: sha256(whole), fileSize: whole.length, codec });
    }
  }
});

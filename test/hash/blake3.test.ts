import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { blake3, blake3Backend, createBlake3 } from "../../src/hash/blake3.ts";
import { sha256, Sha256Tap } from "../../src/hash/sha256.ts";
import { chunked, collect, expectBytes, hexes, sampleBytes } from "../helpers/bytes.ts";
import { streamOf } from "../helpers/tracked-source.ts";

/** Around the length from which the native library is asked, and BLAKE3's own chunks and trees of them. */
const SIZES = [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 16_384, 100_000, 1_000_000];

/** https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json: input is bytes 0..250 over and over. */
const OFFICIAL: readonly (readonly [size: number, digest: string])[] = [
  [0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"],
  [1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"],
  [1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"],
  [1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"],
  [102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"],
];

describe("blake3", () => {
  test.for(OFFICIAL)("blake3() and createBlake3() of the official vector of %s bytes", ([size, digest]) => {
    const bytes = Uint8Array.from({ length: size }, (_, index) => index % 251);
    expect(hexes([blake3(bytes)])).toEqual([digest]);
    const hasher = createBlake3();
    for (const piece of chunked(bytes, 100)) hasher.update(piece);
    expect(hexes([hasher.digest()])).toEqual([digest]);
  });

  test.for(SIZES)("createBlake3() agrees with blake3() on %s bytes in every cut", (size) => {
    const bytes = sampleBytes(size);
    const expected = blake3(bytes);
    for (const pieces of [[bytes], chunked(bytes, 1000), [new Uint8Array(0), ...chunked(bytes, 4_097), new Uint8Array(0)]]) {
      const hasher = createBlake3();
      for (const piece of pieces) hasher.update(piece);
      expectBytes(hasher.digest(), expected);
    }
  });

  test("createBlake3() hashers do not get in each other's way, discarded ones included", () => {
    const [a, b, c] = [createBlake3(), createBlake3(), createBlake3()];
    const bytes = sampleBytes(10_000);
    a.update(bytes.subarray(0, 5_000));
    b.update(bytes.subarray(5_000));
    c.update(bytes);
    c.discard();
    c.discard();
    const d = createBlake3();
    a.update(bytes.subarray(5_000));
    d.update(bytes);
    expectBytes(a.digest(), blake3(bytes));
    expectBytes(d.digest(), blake3(bytes));
    expectBytes(b.digest(), blake3(bytes.subarray(5_000)));
    b.discard();
  });

  test("a finished hasher is refused", () => {
    const hasher = createBlake3();
    hasher.digest();
    expect(() => hasher.update(new Uint8Array(1))).toThrow();
    expect(() => hasher.digest()).toThrow();
  });

  test("blake3() gives memory that the next call does not change", () => {
    for (const size of [10, 10_000]) {
      const first = blake3(sampleBytes(size, 1));
      const copy = first.slice();
      blake3(sampleBytes(size, 2));
      expectBytes(first, copy);
      expect(first.byteOffset).toBe(0);
      expect(first.buffer.byteLength).toBe(32);
    }
  });

  test("blake3() is the native library here, and WebAssembly gives the same digests", () => {
    expect(blake3Backend).toBe("native");
    const script = `
      import { blake3, blake3Backend, createBlake3 } from ${JSON.stringify(new URL("../../src/hash/blake3.ts", import.meta.url).href)};
      import { sampleBytes } from ${JSON.stringify(new URL("../helpers/sample-bytes.ts", import.meta.url).href)};
      const whole = ${JSON.stringify(SIZES)}.map((size) => Buffer.from(blake3(sampleBytes(size))).toString("hex"));
      const streamed = ${JSON.stringify(SIZES)}.map((size) => {
        const bytes = sampleBytes(size);
        const hasher = createBlake3();
        for (let offset = 0; offset < size; offset += 1000) hasher.update(bytes.subarray(offset, offset + 1000));
        return Buffer.from(hasher.digest()).toString("hex");
      });
      console.log(JSON.stringify({ backend: blake3Backend, whole, streamed }));
    `;
    const output = execFileSync(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      env: { ...process.env, NARBOR_BLAKE3: "wasm" },
      encoding: "utf8",
    });
    const expected = hexes(SIZES.map((size) => blake3(sampleBytes(size))));
    expect(JSON.parse(output)).toEqual({ backend: "wasm", whole: expected, streamed: expected });
  });
});

describe("sha256", () => {
  test("sha256() of nothing and of abc", () => {
    expect(hexes([sha256(new Uint8Array(0)), sha256(Buffer.from("abc"))])).toEqual([
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ]);
  });

  test("Sha256Tap hands on what passes, counts and hashes it", async () => {
    const bytes = sampleBytes(10_000);
    const tap = new Sha256Tap();
    expectBytes(await collect(tap.through(streamOf(chunked(bytes, 999)))), bytes);
    expect(tap.size).toBe(10_000);
    expectBytes(tap.digest(), sha256(bytes));
  });
});

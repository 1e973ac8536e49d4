import { describe, expect, test } from "vitest";

import {
  CODECS,
  detectCodec,
  parseCompression,
  parseContentEncoding,
} from "../../src/compression/codec.ts";
import { COMPRESSED_CODECS, smallCompressed } from "./helpers.ts";

const UNSUPPORTED = expect.objectContaining({ code: "ERR_COMPRESSION_UNSUPPORTED", message: expect.stringContaining("use xz or zstd") });

describe("parseCompression()", () => {
  test.for(CODECS)("reads %s", (codec) => {
    expect(parseCompression(codec)).toBe(codec);
  });

  test.for(["lz4", "lzip", "lzma", "lzop", "lrzip", "grzip", "compress"])("says what to use in place of %s", (name) => {
    expect(() => parseCompression(name)).toThrow(UNSUPPORTED);
    expect(() => parseCompression(name)).toThrow(/is not supported/);
  });

  test.for(["", "XZ", "zip", "constructor"])("does not know %j", (name) => {
    expect(() => parseCompression(name)).toThrow(/is not known, use xz or zstd/);
  });
});

describe("parseContentEncoding()", () => {
  test.for([
    [undefined, "none"],
    ["", "none"],
    ["identity", "none"],
    ["gzip", "gzip"],
    ["x-gzip", "gzip"],
    [" BR ", "br"],
    ["zstd", "zstd"],
    ["xz", "xz"],
  ] as const)("reads %j as %s", ([value, codec]) => {
    expect(parseContentEncoding(value)).toBe(codec);
  });

  test.for(["deflate", "compress", "gzip, br"])("rejects %j", (value) => {
    expect(() => parseContentEncoding(value)).toThrow(UNSUPPORTED);
  });
});

describe("detectCodec()", () => {
  test.for(COMPRESSED_CODECS.filter((codec) => codec !== "br"))("tells %s by its first bytes", (codec) => {
    expect(detectCodec(smallCompressed(codec))).toBe(codec);
  });

  test("tells a NAR", () => {
    expect(detectCodec(Buffer.from("\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0"))).toBe("none");
  });

  test.for([0x50, 0x55, 0x5f])("tells zstd by a skippable frame of magic %d", (first) => {
    expect(detectCodec(Uint8Array.of(first, 0x2a, 0x4d, 0x18, 0, 0, 0, 0))).toBe("zstd");
  });

  test.for([
    ["lz4", "04224d18"],
    ["lzip", "4c5a495001"],
    ["lzma", "5d00008000ffffffff"],
    ["lzop", "894c5a4f000d0a1a0a"],
    ["lrzip", "4c525a49"],
    ["compress", "1f9d90"],
  ] as const)("rejects %s and says what to use", ([, magic]) => {
    expect(() => detectCodec(Buffer.from(magic, "hex"))).toThrow(UNSUPPORTED);
  });

  test.for(["", "0d", "BZh0", "BZhX", "hello"])("leaves %j for brotli", (text) => {
    expect(detectCodec(Buffer.from(text))).toBeUndefined();
  });

  test("leaves brotli for brotli", () => {
    expect(detectCodec(smallCompressed("br"))).toBeUndefined();
  });
});

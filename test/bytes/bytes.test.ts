import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../src/bytes/byte-writer.ts";
import { collectBytes, concatBytes } from "../../src/bytes/collect.ts";
import { compareBytes, equalBytes } from "../../src/bytes/compare-bytes.ts";
import { fromBase64, fromBase64Url, fromHex, quoteBytes, toBase64, toBase64Url, toHex } from "../../src/bytes/text-encoding.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { expectCode } from "../helpers/promises.ts";
import { TrackedSource } from "../helpers/tracked-source.ts";

const anyBytes = fc.uint8Array({ maxLength: 100 });

describe("text encodings", () => {
  test.for([
    ["base16", toHex, fromHex, "hex"],
    ["base64", toBase64, fromBase64, "base64"],
    ["base64url", toBase64Url, fromBase64Url, "base64url"],
  ] as const)("%s gives back any bytes, also from the middle of a buffer", ([, encode, decode, name]) => {
    fc.assert(
      fc.property(anyBytes, fc.nat({ max: 20 }), (bytes, start) => {
        const part = bytes.subarray(start);
        expect(encode(part)).toBe(Buffer.from(part).toString(name));
        expectBytes(decode(encode(part)), part);
      }),
    );
  });

  test.for(["0", "abc", "0g", "0x00", " 00", "00\n", "ü0"])("fromHex() of %j is undefined", (text) => expect(fromHex(text)).toBeUndefined());
  test("fromHex() reads either case", () => expect(fromHex("aAFf")).toEqual(Uint8Array.of(0xaa, 0xff)));

  test.for(["A", "AA", "AAA", "AA=", "A===", "====", "AA==AA==", "AA-_", "AAA=\n", " AAA", "AA AA=="])("fromBase64() of %j is undefined", (text) => {
    expect(fromBase64(text)).toBeUndefined();
  });
  test.for(["A", "AAAAA", "AA+/", "A A", "AA===", "A=A", "AA\n"])("fromBase64Url() of %j is undefined", (text) => {
    expect(fromBase64Url(text)).toBeUndefined();
  });
  test("fromBase64Url() reads text with padding and without", () => {
    for (const text of ["_-8", "_-8="]) expect(fromBase64Url(text)).toEqual(Uint8Array.of(0xff, 0xef));
  });
});

describe("compareBytes", () => {
  test("compareBytes() is the order of Buffer.compare", () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (a, b) => {
        expect(Math.sign(compareBytes(a, b))).toBe(Buffer.compare(a, b));
      }),
    );
  });

  test("compareBytes() is not the order of JavaScript's strings", () => {
    const [a, b] = ["\u{1f600}", "\u{ff5e}"];
    expect(a < b).toBe(true);
    expect(compareBytes(Buffer.from(a), Buffer.from(b))).toBeGreaterThan(0);
  });

  test("equalBytes() is for the same bytes only", () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (a, b) => {
        expect(equalBytes(a, b)).toBe(Buffer.compare(a, b) === 0);
      }),
    );
    expect(equalBytes(sampleBytes(10), sampleBytes(10))).toBe(true);
    expect(equalBytes(sampleBytes(10), sampleBytes(9))).toBe(false);
  });
});

describe("collecting", () => {
  test("concatBytes() joins, and does not copy a single array", () => {
    fc.assert(fc.property(fc.array(anyBytes, { maxLength: 5 }), (list) => expectBytes(concatBytes(list), Buffer.concat(list))));
    const only = sampleBytes(10);
    expect(concatBytes([only])).toBe(only);
  });

  test("collectBytes() takes as many bytes as its limit and refuses one more, closing its source", async () => {
    const pieces = [sampleBytes(5, 1), sampleBytes(5, 2), sampleBytes(5, 3)];
    expectBytes(await collectBytes(new TrackedSource(pieces), 15, "it"), Buffer.concat(pieces));
    const source = new TrackedSource(pieces);
    await expectCode(collectBytes(source, 9, "it"), "ERR_LIMIT", "Cannot read it: more than 9 bytes");
    expect(source).toMatchObject({ taken: 2, returned: true });
  });
});

describe("ByteWriter", () => {
  test("ByteWriter grows from any capacity and keeps what was written", () => {
    fc.assert(
      fc.property(fc.nat({ max: 10 }), fc.array(anyBytes, { maxLength: 30 }), (capacity, list) => {
        const writer = new ByteWriter(capacity);
        for (const bytes of list) writer.writeBytes(bytes);
        expectBytes(writer.bytes(), Buffer.concat(list));
        expectBytes(writer.view(), Buffer.concat(list));
        expect(writer.length).toBe(Buffer.concat(list).length);
      }),
    );
  });

  test("ByteWriter writes integers little-endian", () => {
    const writer = new ByteWriter(0);
    writer.writeByte(0xab);
    writer.writeUint32(0x01020304);
    writer.writeUint64(Number.MAX_SAFE_INTEGER);
    expect(Buffer.from(writer.view()).toString("hex")).toBe("ab04030201ffffffffffff1f00");
  });

  test.for([
    [0, "00"],
    [1, "01"],
    [127, "7f"],
    [128, "8001"],
    [300, "ac02"],
    [2 ** 32, "8080808010"],
    [Number.MAX_SAFE_INTEGER, "ffffffffffffff0f"],
  ] as const)("ByteWriter.writeVarint() of %s", ([value, hex]) => {
    const writer = new ByteWriter();
    writer.writeVarint(value);
    expect(Buffer.from(writer.view()).toString("hex")).toBe(hex);
  });

  test("ByteWriter.bytes() is a copy that clear() and later writes leave alone", () => {
    const writer = new ByteWriter();
    writer.writeBytes(sampleBytes(100, 1));
    const bytes = writer.bytes();
    writer.clear();
    expect(writer.length).toBe(0);
    writer.writeBytes(sampleBytes(100, 2));
    expectBytes(bytes, sampleBytes(100, 1));
  });

  test("ByteWriter works again after clear() gave its memory back", () => {
    const writer = new ByteWriter();
    writer.writeBytes(new Uint8Array(3_000_000));
    writer.clear();
    writer.writeBytes(sampleBytes(1_000));
    expectBytes(writer.view(), sampleBytes(1_000));
  });
});

test("quoteBytes() lets no control character through", () => {
  expect(quoteBytes(Buffer.from('a"\x1b[31m\n\0'))).toBe('"a\\"\\u001b[31m\\n\\u0000"');
});

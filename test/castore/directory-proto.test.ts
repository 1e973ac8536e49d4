import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Directory } from "../../src/castore/directory.ts";
import { directorySize, findEntry } from "../../src/castore/directory.ts";
import { decodeDirectory, decodeEntry, decodeRootNode, DirectoryBuilder, encodeDirectory, encodeEntry } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { isNarborError } from "../../src/errors.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { DirectorySchema, EntrySchema } from "../../src/proto/gen/snix/castore/v1/castore_pb.ts";
import { arbitraryDirectory, arbitraryNode } from "../arbitrary/castore.ts";
import { arbitraryName } from "../arbitrary/nar-tree.ts";
import { expectBytes, hexes } from "../helpers/bytes.ts";
import { directoryOf, fileNode, symlinkNode } from "../helpers/castore.ts";
import { CASTORE_VECTORS, PROFILES } from "../helpers/vectors.ts";

const DIGEST = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const SAMPLE = directoryOf({ a: fileNode("a"), b: directoryOf({ x: fileNode("") }), c: symlinkNode("target"), d: fileNode("run", true), e: symlinkNode("x") });

describe("vectors", () => {
  test.for(
    Object.entries(CASTORE_VECTORS.directories).flatMap(([name, vector]) => PROFILES.map((profile) => [name, profile, vector[profile]] as const)),
  )("encodeDirectory() and decodeDirectory() agree with directory %s, %s", ([, profile, { size, digest, encodedHex }]) => {
    const bytes = Buffer.from(encodedHex, "hex");
    const directory = decodeDirectory(bytes);
    expectBytes(encodeDirectory(directory), bytes);
    expect(hexes([blake3(bytes)])).toEqual([digest]);
    expect(directorySize(directory, profile)).toBe(size);
    const builder = new DirectoryBuilder(profile);
    for (const entry of directory) builder.add(entry.name, entry.node);
    expect(builder.finish()).toMatchObject({ size });
  });

  test.for(
    Object.entries(CASTORE_VECTORS.nars).flatMap(([name, vector]) => PROFILES.map((profile) => [name, profile, vector[profile]] as const)),
  )("encodeEntry() and decodeRootNode() agree with the root of %s, %s", ([, , { root, entryBase64Url }]) => {
    const bytes = Buffer.from(entryBase64Url, "base64url");
    const node = decodeRootNode(bytes);
    expect(comparable(node)).toEqual(root);
    expectBytes(encodeEntry(node), bytes);
  });
});

describe("against a protobuf library", () => {
  test("encodeDirectory() gives the bytes of the generated code, and decodeDirectory() reads them", () => {
    fc.assert(
      fc.property(arbitraryDirectory, (directory) => {
        const bytes = encodeDirectory(directory);
        expectBytes(bytes, toBinary(DirectorySchema, toMessage(directory)));
        const decoded = decodeDirectory(bytes);
        expect(decoded.map(comparableEntry)).toEqual(directory.map(comparableEntry));
      }),
      { numRuns: 300 },
    );
  });

  test("encodeEntry() gives the bytes of the generated code, and decodeEntry() reads them", () => {
    fc.assert(
      fc.property(arbitraryName, arbitraryNode, (name, node) => {
        const bytes = encodeEntry(node, name);
        const [message] = toEntries([{ name, node }]);
        expectBytes(bytes, toBinary(EntrySchema, create(EntrySchema, { entry: message as never })));
        expect(comparableEntry(decodeEntry(bytes))).toEqual(comparableEntry({ name, node }));
      }),
    );
  });

  test("decodeDirectory() accepts nothing that it would not write itself", () => {
    fc.assert(
      fc.property(arbitraryDirectory, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 3 }), (directory, changes) => {
        const bytes = Buffer.from(encodeDirectory(directory));
        if (bytes.length === 0) return;
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        expectCanonicalOrRefused(bytes);
      }),
      { numRuns: 1_000 },
    );
  });

  test("decodeDirectory() reads or refuses any bytes at all", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), expectCanonicalOrRefused), { numRuns: 500 });
  });

  test("decodeDirectory() refuses a message that the library reads and writes otherwise", () => {
    // The same message with its lists in another order, as a careless writer may send it.
    const [file, link] = [Buffer.from(`12250a01611220${DIGEST}`, "hex"), Buffer.from("1a060a0162120163", "hex")];
    const careless = Buffer.concat([link, file]);
    expectBytes(toBinary(DirectorySchema, fromBinary(DirectorySchema, careless)), Buffer.concat([file, link]));
    expect(refusal(careless)).toMatch("its lists are out of order");
  });
});

/** Messages that break one rule, in base16, and what is said. */
const REFUSED: readonly (readonly [what: string, hex: string, message: string])[] = [
  ["field 0", "02022000", "unknown field 0"],
  ["field 4", "2200", "unknown field 4"],
  ["a field beyond 2^32", "92808080801f00", "unknown field"],
  ["a list that is a number", "0801", "wire type 0, expected 2"],
  ["a list of fixed 32 bits", "0d00000000", "wire type 5, expected 2"],
  ["a group", "0b0c", "wire type 3, expected 2"],
  ["lists out of order", `1a060a016112016212250a01621220${DIGEST}`, "its lists are out of order"],
  ["names out of order", "1a060a01621201621a060a0161120161", 'entry "a" follows "b"'],
  ["a name twice in a list", "1a060a01611201621a060a0161120162", 'entry "a" follows "a"'],
  ["a name twice across files and symlinks", `12250a01611220${DIGEST}1a060a0161120162`, 'the name "a" twice'],
  ["a name twice across directories and files", `0a250a01611220${DIGEST}12250a01611220${DIGEST}`, 'the name "a" twice'],
  ["no name", `12221220${DIGEST}`, 'invalid name ""'],
  ["the name .", `12250a012e1220${DIGEST}`, 'invalid name "."'],
  ["the name ..", `12260a022e2e1220${DIGEST}`, 'invalid name ".."'],
  ["a name with a slash", `12270a03612f621220${DIGEST}`, 'invalid name "a/b"'],
  ["a name with a NUL", `12270a036100621220${DIGEST}`, 'invalid name "a\\u0000b"'],
  ["a name of 256 bytes", `12a5020a8002${"61".repeat(256)}1220${DIGEST}`, "invalid name"],
  ["an empty name that is written out", `12240a001220${DIGEST}`, "a default value is written out"],
  ["a digest of 31 bytes", `12240a0161121f${DIGEST.slice(2)}`, "a digest of 31 bytes"],
  ["a digest of 33 bytes", `12260a01611221${DIGEST}00`, "a digest of 33 bytes"],
  ["no digest", "12030a0161", "a digest of 0 bytes"],
  ["no target", "1a030a0161", "invalid target of 0 bytes"],
  ["a target with a NUL", "1a070a016112026100", "invalid target of 2 bytes"],
  ["a target of 4096 bytes", `1a86200a0161128020${"61".repeat(4096)}`, "invalid target of 4096 bytes"],
  ["a symlink with a size", "1a080a01611201621801", "unknown field 3"],
  ["a directory that may be executed", `0a270a01611220${DIGEST}2001`, "unknown field 4"],
  ["an unknown field in a file", `12270a01611220${DIGEST}2801`, "unknown field 5"],
  ["a size of 0 that is written out", `12270a01611220${DIGEST}1800`, "a default value is written out"],
  ["executable that is written out as false", `12270a01611220${DIGEST}2000`, "a flag is not canonical"],
  ["executable that is 2", `12270a01611220${DIGEST}2002`, "a flag is not canonical"],
  ["fields of a file out of order", `12251220${DIGEST}0a0161`, "fields out of order"],
  ["a name twice in one file", `12280a01610a01621220${DIGEST}`, "fields out of order"],
  ["a size of 2^53", `122e0a01611220${DIGEST}188080808080808010`, "a number beyond 2^53"],
  ["a size of 2^64 - 1", `12300a01611220${DIGEST}18ffffffffffffffffff01`, "a number beyond 2^53"],
  ["a number of zeros that do not end", `12330a01611220${DIGEST}18${"80".repeat(12)}00`, "a number"],
  ["a length that is not in its shortest form", `12a5000a01611220${DIGEST}`, "not in its shortest form"],
  ["a length beyond the end", `12260a01611220${DIGEST}`, "it is cut short"],
  ["a length beyond the end of its entry", `12250a01611221${DIGEST}`, "it is cut short"],
  ["a huge length", "12ffffffffffffff0f", "it is cut short"],
];

describe("rules", () => {
  test.for(REFUSED)("decodeDirectory() refuses %s", ([, hex, message]) => {
    expect(refusal(Buffer.from(hex, "hex"))).toMatch(message);
  });

  test("decodeDirectory() refuses a message cut short at every byte, save where an entry ends", () => {
    const ends = new Set<number>();
    for (let end = 0; end < SAMPLE.bytes.length; end++) {
      const bytes = SAMPLE.bytes.subarray(0, end);
      if (isAccepted(bytes)) ends.add(end);
      expectCanonicalOrRefused(bytes);
    }
    expect(ends.size).toBe(5);
  });

  test("decodeDirectory() gives entries of all kinds in the order of their names", () => {
    expect(decodeDirectory(SAMPLE.bytes).map(({ name }) => Buffer.from(name).toString())).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("decodeRootNode() refuses an entry with a name, none and two", () => {
    const entry = encodeEntry(symlinkNode("x"), Buffer.from("a"));
    expect(() => decodeRootNode(entry)).toThrow('a root node must have no name, it has "a"');
    const root = encodeEntry(symlinkNode("x"));
    expect(() => decodeRootNode(Buffer.concat([root, root]))).toThrow("more than one node");
    expect(() => decodeRootNode(new Uint8Array(0))).toThrow("it is cut short");
    expect(() => decodeEntry(Buffer.from("2200", "hex"))).toThrow("unknown field 4");
  });
});

describe("DirectoryBuilder", () => {
  test("DirectoryBuilder is empty again after finish(), and may be used again", () => {
    const builder = new DirectoryBuilder("documented");
    for (let times = 0; times < 3; times++) {
      for (const { name, node } of decodeDirectory(SAMPLE.bytes)) builder.add(name, node);
      expect(builder.byteLength).toBe(SAMPLE.bytes.length);
      const { bytes, size } = builder.finish();
      expectBytes(bytes, SAMPLE.bytes);
      expect(size).toBe(5 + 1);
      expect(builder.byteLength).toBe(0);
    }
    expect(builder.finish()).toEqual({ bytes: new Uint8Array(0), size: 0 });
  });

  test("DirectoryBuilder counts sizes in either profile as directorySize() does", () => {
    fc.assert(
      fc.property(arbitraryDirectory, fc.constantFrom(...PROFILES), (directory, profile) => {
        const builder = new DirectoryBuilder(profile);
        for (const { name, node } of directory) builder.add(name, node);
        expect(builder.finish().size).toBe(directorySize(directory, profile));
      }),
    );
  });

  test("DirectoryBuilder gives bytes that the next directory does not change", () => {
    const builder = new DirectoryBuilder("documented");
    builder.add(Buffer.from("a"), symlinkNode("first"));
    const { bytes } = builder.finish();
    const copy = bytes.slice();
    builder.add(Buffer.from("b"), symlinkNode("second"));
    builder.finish();
    expectBytes(bytes, copy);
  });
});

test("findEntry() finds every name of a directory and no other", () => {
  fc.assert(
    fc.property(arbitraryDirectory, arbitraryName, (directory, name) => {
      for (const entry of directory) expect(findEntry(directory, entry.name.slice())).toBe(entry);
      expect(findEntry(directory, name)).toBe(directory.find((entry) => Buffer.compare(entry.name, name) === 0));
    }),
  );
});

function expectCanonicalOrRefused(bytes: Uint8Array): void {
  if (isAccepted(bytes)) expectBytes(encodeDirectory(decodeDirectory(bytes)), bytes);
}

/** Whether a message is accepted; what is thrown otherwise must be ERR_CASTORE_INVALID. */
function isAccepted(bytes: Uint8Array): boolean {
  try {
    decodeDirectory(bytes);
    return true;
  } catch (error) {
    if (isNarborError(error, "ERR_CASTORE_INVALID")) return false;
    throw error;
  }
}

function refusal(bytes: Uint8Array): string {
  try {
    decodeDirectory(bytes);
  } catch (error) {
    if (isNarborError(error, "ERR_CASTORE_INVALID")) return error.message;
    throw error;
  }
  return expect.unreachable("it was accepted");
}

/** The message of a directory, made of what the generated code has. */
function toMessage(directory: Directory): ReturnType<typeof create<typeof DirectorySchema>> {
  const entries = toEntries(directory);
  const of = (wanted: Node["type"]) => entries.filter((entry) => entry.case === wanted).map(({ value }) => value as never);
  return create(DirectorySchema, { directories: of("directory"), files: of("file"), symlinks: of("symlink") });
}

function toEntries(directory: Directory): { readonly case: Node["type"]; readonly value: object }[] {
  return directory.map(({ name, node }) => ({
    case: node.type,
    value: {
      name,
      ...(node.type === "symlink" ? { target: node.target } : { digest: node.digest, size: BigInt(node.size) }),
      ...(node.type === "file" && { executable: node.executable }),
    },
  }));
}

function comparableEntry({ name, node }: Directory[number]): object {
  return { name: Buffer.from(name).toString("latin1"), ...comparable(node) };
}

function comparable(node: Node): object {
  if (node.type === "symlink") return { type: "symlink", target: Buffer.from(node.target).toString("latin1") };
  return { ...node, digest: Buffer.from(node.digest).toString("hex") };
}

import { readFileSync } from "node:fs";
import { type MessageInitShape, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../../src/bytes/text-encoding.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { Node } from "../../src/castore/node.ts";
import { type StorePath, sortStorePaths, storePathBaseName, toStorePath } from "../../src/nix/store-path.ts";
import type { EntrySchema } from "../../src/proto/gen/snix/castore/v1/castore_pb.ts";
import {
  type NARInfo as NarInfoMessage,
  NARInfo_CA_Hash,
  type NARInfoSchema,
  type PathInfo as PathInfoMessage,
  PathInfoSchema,
} from "../../src/proto/gen/snix/store/v1/pathinfo_pb.ts";
import { decodePathInfo, encodePathInfo } from "../../src/store/path-info-message.ts";
import { pathInfoFromProto, pathInfoToProto } from "../../src/store/path-info-proto.ts";
import type { PathInfo } from "../../src/store/path-info.ts";
import {
  arbitraryBytes,
  arbitraryContentAddress,
  arbitraryDeriver,
  arbitraryReferences,
  arbitrarySignature,
  arbitraryStorePath,
} from "../nix/arbitrary-nix.ts";

const vectors = JSON.parse(readFileSync(new URL("../fixtures/vectors/castore.json", import.meta.url), "utf8")) as {
  pathInfos: Record<"PATH_INFO" | "PATH_INFO_SYMLINK", { bytes: number; protoHex: string }>;
};

const DUMMY = toStorePath(new Uint8Array(20), "dummy");
const DUMMY_BASE_NAME = "00000000000000000000000000000000-dummy";

const arbitraryDigest = arbitraryBytes(32).map(toB3Digest);
const arbitraryNode: fc.Arbitrary<Node> = fc.oneof(
  fc.record({ type: fc.constant("file" as const), digest: arbitraryDigest, size: fc.maxSafeNat(), executable: fc.boolean() }),
  fc.record({ type: fc.constant("directory" as const), digest: arbitraryDigest, size: fc.maxSafeNat() }),
  fc.record({ type: fc.constant("symlink" as const), target: fc.uint8Array({ minLength: 1, maxLength: 50, min: 1 }) }),
);
const arbitraryPathInfo: fc.Arbitrary<PathInfo> = fc
  .record(
    {
      storePath: arbitraryStorePath,
      root: arbitraryNode,
      references: arbitraryReferences,
      narSize: fc.maxSafeNat(),
      narSha256: arbitraryBytes(32),
      signatures: fc.array(arbitrarySignature, { maxLength: 3 }),
      deriver: arbitraryDeriver,
      ca: arbitraryContentAddress,
    },
    { requiredKeys: ["storePath", "root", "references", "narSize", "narSha256", "signatures"] },
  )
  .map((pathInfo) => pathInfo as PathInfo);

/** The bytes of a message, read back: what a peer could send. */
function received(message: PathInfoInit): PathInfoMessage {
  return fromBinary(PathInfoSchema, toBinary(PathInfoSchema, create(PathInfoSchema, message)));
}

function vector(name: keyof typeof vectors.pathInfos): Uint8Array {
  return fromHex(vectors.pathInfos[name].protoHex) as Uint8Array;
}

test("decodePathInfo() reads tvix's PATH_INFO", () => {
  expect(decodePathInfo(vector("PATH_INFO"))).toEqual({
    storePath: DUMMY,
    root: { type: "directory", digest: new Uint8Array(32), size: 0 },
    references: [DUMMY],
    narSize: 0,
    narSha256: new Uint8Array(32),
    signatures: [],
    ca: { method: "nar", hash: { algorithm: "sha256", digest: new Uint8Array(32) } },
  });
});

test("decodePathInfo() reads tvix's PATH_INFO_SYMLINK", () => {
  expect(decodePathInfo(vector("PATH_INFO_SYMLINK"))).toEqual({
    storePath: DUMMY,
    root: { type: "symlink", target: new Uint8Array(Buffer.from("/nix/store/somewhereelse")) },
    references: [],
    narSize: 136,
    narSha256: fromHex("097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"),
    signatures: [],
  });
});

test.for(["PATH_INFO", "PATH_INFO_SYMLINK"] as const)("encodePathInfo() writes the bytes of tvix's %s", (name) => {
  expect(toHex(encodePathInfo(decodePathInfo(vector(name))))).toBe(vectors.pathInfos[name].protoHex);
});

test("pathInfoFromProto() gives back what pathInfoToProto() was given, over the wire too", () => {
  fc.assert(
    fc.property(arbitraryPathInfo, (pathInfo) => {
      expect(pathInfoFromProto(pathInfoToProto(pathInfo))).toEqual(pathInfo);
      expect(decodePathInfo(encodePathInfo(pathInfo))).toEqual(pathInfo);
    }),
  );
});

test("encodePathInfo() writes the bytes that generated code writes, and decodePathInfo() reads them in any order, with fields between that it does not know", () => {
  fc.assert(
    fc.property(arbitraryPathInfo, (pathInfo) => {
      const bytes = encodePathInfo(pathInfo);
      const message = fromBinary(PathInfoSchema, bytes);
      expect(message.$unknown).toBeUndefined();
      expect(toBinary(PathInfoSchema, message)).toEqual(bytes);
      const fields = fieldsOf(bytes);
      // Field 15 as a varint, 16 with a length, 17 of 32 bits, 18 of 64 bits.
      const unknown = [[0x78, 0x96, 0x01], [0x82, 0x01, 0x02, 0xff, 0xff], [0x8d, 0x01, 1, 2, 3, 4], [0x91, 0x01, 1, 2, 3, 4, 5, 6, 7, 8]].map((field) => Uint8Array.from(field));
      const mixed = [...fields.filter((field) => field[0] !== 0x12).toReversed(), ...fields.filter((field) => field[0] === 0x12)].flatMap((field, index) => [field, unknown[index % unknown.length] ?? field]);
      expect(decodePathInfo(Uint8Array.from(Buffer.concat(mixed)))).toEqual(decodePathInfo(bytes));
    }),
  );
});

/** The fields of a message, each with its tag. */
function fieldsOf(bytes: Uint8Array): Uint8Array[] {
  const reader = new BinaryReader(bytes);
  const fields: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [field, wireType] = reader.tag();
    reader.skip(wireType, field);
    fields.push(bytes.subarray(start, reader.pos));
  }
  return fields;
}

test("pathInfoToProto() leaves .drv out of the deriver's name", () => {
  const deriver = toStorePath(new Uint8Array(20), "hello.drv");
  const message = pathInfoToProto({ ...decodePathInfo(vector("PATH_INFO")), deriver });
  expect(message.narinfo?.deriver).toMatchObject({ name: "hello", digest: new Uint8Array(20) });
});

test("pathInfoToProto() rejects a deriver that is not a derivation", () => {
  expect(() => pathInfoToProto({ ...decodePathInfo(vector("PATH_INFO")), deriver: DUMMY })).toThrow(
    expect.objectContaining({ code: "ERR_NIX_INVALID" }),
  );
});

test("pathInfoFromProto() puts references in order, with their names, and drops doubles", () => {
  const [low, high] = [new Uint8Array(20).fill(1), new Uint8Array(20).fill(2)];
  const [first, second] = sortStorePaths([toStorePath(low, "z"), toStorePath(high, "a")]) as [StorePath, StorePath];
  const sent = [second, first, second];
  const message = received(withNarInfo({ referenceNames: sent.map(storePathBaseName) }, { references: sent.map(({ digest }) => digest) }));
  expect(pathInfoFromProto(message).references).toEqual([first, second]);
});

// Without the finished messages that MessageInitShape allows too: a spread needs one type.
type PathInfoInit = Exclude<MessageInitShape<typeof PathInfoSchema>, PathInfoMessage>;
type NarInfoInit = Exclude<MessageInitShape<typeof NARInfoSchema>, NarInfoMessage>;

function symlink(name: Uint8Array, target: Uint8Array = Buffer.from("x")): MessageInitShape<typeof EntrySchema> {
  return { entry: { case: "symlink", value: { name, target } } };
}
function withNarInfo(narinfo: NarInfoInit, rest: PathInfoInit = {}): PathInfoInit {
  return { entry: symlink(Buffer.from(DUMMY_BASE_NAME)), narinfo: { narSize: 1n, narSha256: new Uint8Array(32), ...narinfo }, ...rest };
}

test.for([
  ["nothing", {}, "ERR_NIX_INVALID", "Cannot read PathInfo: found no entry"],
  ["an empty entry", { ...withNarInfo({}), entry: {} }, "ERR_NIX_INVALID", "Cannot read PathInfo: found no entry"],
  ["no narinfo", { entry: symlink(Buffer.from(DUMMY_BASE_NAME)) }, "ERR_NIX_INVALID", "Cannot read PathInfo: found no narinfo"],
  ["an entry without a name", { ...withNarInfo({}), entry: symlink(new Uint8Array()) }, "ERR_NIX_INVALID", /^Cannot read PathInfo: entry, found "", /],
  ["an entry that is not named as a store path", { ...withNarInfo({}), entry: symlink(Buffer.from("hello")) }, "ERR_NIX_INVALID", /entry, found "hello"/],
  [
    "an entry whose name only looks like ASCII in UTF-8",
    { ...withNarInfo({}), entry: symlink(Buffer.from(`${DUMMY_BASE_NAME}\xff`, "latin1")) },
    "ERR_NIX_INVALID",
    /^Cannot read PathInfo: entry/,
  ],
  ["a symlink without a target", { ...withNarInfo({}), entry: symlink(Buffer.from(DUMMY_BASE_NAME), new Uint8Array()) }, "ERR_CASTORE_INVALID", /target/],
  [
    "a directory with a short digest",
    { ...withNarInfo({}), entry: { entry: { case: "directory", value: { name: Buffer.from(DUMMY_BASE_NAME), digest: new Uint8Array(31), size: 1n } } } },
    "ERR_CASTORE_INVALID",
    /31 bytes/,
  ],
  [
    "a file beyond 2^53",
    { ...withNarInfo({}), entry: { entry: { case: "file", value: { name: Buffer.from(DUMMY_BASE_NAME), digest: new Uint8Array(32), size: 2n ** 53n } } } },
    "ERR_CASTORE_INVALID",
    /2\^53/,
  ],
  ["a nar_size beyond 2^53", withNarInfo({ narSize: 2n ** 53n }), "ERR_NIX_INVALID", "Cannot read PathInfo: found a nar_size of 9007199254740992, beyond 2^53"],
  ["no nar_sha256", withNarInfo({ narSha256: new Uint8Array() }), "ERR_NIX_INVALID", "Cannot read PathInfo: found a nar_sha256 of 0 bytes, expected 32"],
  ["a reference without a name", withNarInfo({}, { references: [new Uint8Array(20)] }), "ERR_NIX_INVALID", "Cannot read PathInfo: found 1 references, but 0 reference_names"],
  [
    "a reference of 19 bytes",
    withNarInfo({ referenceNames: [DUMMY_BASE_NAME] }, { references: [new Uint8Array(19)] }),
    "ERR_NIX_INVALID",
    "Cannot read PathInfo: found references[0] of 19 bytes, expected 20",
  ],
  [
    "a reference that is not the one of its name",
    withNarInfo({ referenceNames: [DUMMY_BASE_NAME] }, { references: [new Uint8Array(20).fill(1)] }),
    "ERR_NIX_INVALID",
    `Cannot read PathInfo: found reference_names[0] /nix/store/${DUMMY_BASE_NAME}, whose hash is not references[0]`,
  ],
  [
    "a reference name that is an absolute path",
    withNarInfo({ referenceNames: [`/nix/store/${DUMMY_BASE_NAME}`] }, { references: [new Uint8Array(20)] }),
    "ERR_NIX_INVALID",
    /^Cannot read PathInfo: reference_names\[0\], found/,
  ],
  [
    "a signature of 63 bytes",
    withNarInfo({ signatures: [{ name: "key", data: new Uint8Array(63) }] }),
    "ERR_NIX_INVALID",
    'Cannot read PathInfo: signatures[0], found 63 bytes by "key", expected 64',
  ],
  ["a signature without a name", withNarInfo({ signatures: [{ data: new Uint8Array(64) }] }), "ERR_NIX_INVALID", /signatures\[0\], found the key name ""/],
  ["a deriver without a digest", withNarInfo({ deriver: { name: "a" } }), "ERR_NIX_INVALID", /^Cannot read PathInfo: deriver, found a hash of 0 bytes/],
  ["a deriver without a name", withNarInfo({ deriver: { digest: new Uint8Array(20) } }), "ERR_NIX_INVALID", /^Cannot read PathInfo: deriver, found ""/],
  [
    "a deriver whose name leaves no room for .drv",
    withNarInfo({ deriver: { name: "x".repeat(208), digest: new Uint8Array(20) } }),
    "ERR_NIX_INVALID",
    /^Cannot read PathInfo: deriver, found a name of 212 characters/,
  ],
  [
    "a content address with another algorithm's digest",
    withNarInfo({ ca: { type: NARInfo_CA_Hash.FLAT_SHA1, digest: new Uint8Array(32) } }),
    "ERR_NIX_INVALID",
    "Cannot read PathInfo: ca, found 32 bytes, expected 20 for sha1",
  ],
  [
    "a content address of a type that does not exist",
    withNarInfo({ ca: { type: 9 as never, digest: new Uint8Array(32) } }),
    "ERR_NIX_INVALID",
    "Cannot read PathInfo: found a content address of unknown type 9",
  ],
] as const satisfies readonly (readonly [string, PathInfoInit, string, string | RegExp])[])("pathInfoFromProto() rejects %s", ([, init, code, message]) => {
  expect(() => pathInfoFromProto(received(init))).toThrow(
    expect.objectContaining({ code, message: typeof message === "string" ? message : expect.stringMatching(message) }),
  );
});

test.for([
  ["md5", "flat", NARInfo_CA_Hash.FLAT_MD5, 16],
  ["sha1", "flat", NARInfo_CA_Hash.FLAT_SHA1, 20],
  ["sha256", "flat", NARInfo_CA_Hash.FLAT_SHA256, 32],
  ["sha512", "flat", NARInfo_CA_Hash.FLAT_SHA512, 64],
  ["md5", "nar", NARInfo_CA_Hash.NAR_MD5, 16],
  ["sha1", "nar", NARInfo_CA_Hash.NAR_SHA1, 20],
  ["sha256", "nar", NARInfo_CA_Hash.NAR_SHA256, 32],
  ["sha512", "nar", NARInfo_CA_Hash.NAR_SHA512, 64],
  ["sha256", "text", NARInfo_CA_Hash.TEXT_SHA256, 32],
] as const)("pathInfoFromProto() reads the %s of a %s", ([algorithm, method, type, length]) => {
  const digest = new Uint8Array(length).fill(7);
  expect(pathInfoFromProto(received(withNarInfo({ ca: { type, digest } }))).ca).toEqual({ method, hash: { algorithm, digest } });
});

test("decodePathInfo() rejects every truncation of PATH_INFO", () => {
  const bytes = vector("PATH_INFO");
  for (let length = 0; length < bytes.length; length++) {
    expect(() => decodePathInfo(bytes.subarray(0, length)), `of ${length} bytes`).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^ERR_(NIX|CASTORE)_INVALID$/) }),
    );
  }
});

test("decodePathInfo() rejects bytes that are no message", () => {
  expect(() => decodePathInfo(Buffer.from("hello"))).toThrow("Cannot read PathInfo: found bytes that are not a message");
});

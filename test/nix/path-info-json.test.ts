import { describe, expect, test } from "vitest";
import { formatContentAddress } from "../../src/nix/content-address.ts";
import { formatSriHash, toNixHash } from "../../src/nix/nix-hash.ts";
import { type NixPathInfo, parsePathInfoJson } from "../../src/nix/path-info-json.ts";
import { formatSignature } from "../../src/nix/signature.ts";
import { formatStorePath } from "../../src/nix/store-path.ts";

const PROGRAM = "1rpp6g7nnyv9dr70xfhw63llanybg80p-program";
const EVERYTHING = "x62iqpgyi0civ0gs7a64zxdqym6x4cmc-everything-1.0";
const DERIVER = "9sq88c3a1i8xxc7zhzyrg95wy46b9sn7-program.drv";
const HASH = "sha256-6+d/yGPyj5jHTVDNhcrSC25HdvQNiUc2hHryPDdxlXs=";
const HASH_NIX32 = "sha256:0ywmf4vkrwkshhv4g28dyiv4fvhbsb58bkah9p3ri3zjcg47zrzb";
const SIGNATURE = `cache-1:${Buffer.alloc(64, 7).toString("base64")}`;
const CA = "text:sha256:1pzip3bkaidzm3rqdm7hrk61m2qmxvnzh0pjqh8lf4vrbwhbz3rz";
const CA_SRI = "sha256-P4+/IF95E0cRxPIC+O3uFYsazMzw1IbzqL9FNde48d8=";

const full = (baseName: string): string => `/nix/store/${baseName}`;

/** One of each shape, as Nix of that version printed it; where none does yet, as its manual has it. */
const SHAPES: readonly (readonly [what: string, json: unknown])[] = [
  [
    "2.8: an array, with what has no value left out",
    [{ path: full(PROGRAM), narHash: HASH, narSize: 280, references: [full(PROGRAM), full(EVERYTHING)], deriver: full(DERIVER), registrationTime: 1_795_263_193, signatures: [SIGNATURE], ultimate: true }],
  ],
  [
    "2.3: an array, with hashes in Nix32",
    [{ path: full(PROGRAM), narHash: HASH_NIX32, narSize: 280, references: [full(PROGRAM), full(EVERYTHING)], deriver: full(DERIVER), signatures: [SIGNATURE] }],
  ],
  [
    "2.26: an object, with null for what has no value",
    { [full(PROGRAM)]: { ca: null, deriver: full(DERIVER), narHash: HASH, narSize: 280, references: [full(PROGRAM), full(EVERYTHING)], registrationTime: 1_795_263_193, signatures: [SIGNATURE], ultimate: false } },
  ],
  [
    "2.34: format 1",
    { [full(PROGRAM)]: { ca: null, deriver: full(DERIVER), narHash: HASH, narSize: 280, references: [full(PROGRAM), full(EVERYTHING)], signatures: [SIGNATURE], storeDir: "/nix/store", version: 1 } },
  ],
  [
    "2.34: format 2, with base names",
    { info: { [PROGRAM]: { ca: null, deriver: DERIVER, narHash: HASH, narSize: 280, references: [PROGRAM, EVERYTHING], signatures: [SIGNATURE], storeDir: "/nix/store", version: 2 } }, storeDir: "/nix/store", version: 2 },
  ],
  [
    "hashes and signatures as objects",
    {
      info: {
        [PROGRAM]: {
          ca: null,
          deriver: DERIVER,
          narHash: { algorithm: "sha256", format: "base64", hash: HASH.slice("sha256-".length) },
          narSize: 280,
          references: [EVERYTHING, PROGRAM],
          signatures: [{ keyName: "cache-1", sig: SIGNATURE.slice("cache-1:".length) }],
        },
      },
      version: 3,
    },
  ],
];

function shown({ storePath, narSha256, narSize, references, signatures, deriver, ca }: NixPathInfo): unknown {
  return {
    storePath: formatStorePath(storePath),
    narHash: formatSriHash(toNixHash("sha256", narSha256)),
    narSize,
    references: references.map(formatStorePath),
    signatures: signatures.map(formatSignature),
    deriver: deriver && formatStorePath(deriver),
    ca: ca && formatContentAddress(ca),
  };
}

describe("parsePathInfoJson()", () => {
  test.for(SHAPES)("reads the shape of Nix %s", ([, json]) => {
    expect(parsePathInfoJson(JSON.stringify(json)).map(shown)).toEqual([
      { storePath: full(PROGRAM), narHash: HASH, narSize: 280, references: [full(PROGRAM), full(EVERYTHING)], signatures: [SIGNATURE], deriver: full(DERIVER), ca: undefined },
    ]);
  });

  test("reads several paths, and none", () => {
    const info = { narHash: HASH, narSize: 280, references: [] };
    expect(parsePathInfoJson(JSON.stringify({ [full(PROGRAM)]: info, [full(EVERYTHING)]: info })).map(({ storePath }) => storePath.name)).toEqual(["program", "everything-1.0"]);
    expect(parsePathInfoJson("[]")).toEqual([]);
    expect(parsePathInfoJson("{}")).toEqual([]);
  });

  test.for([
    ["a text", CA],
    ["an object", { method: "text", hash: CA_SRI }],
    ["an object with a hash that is one", { method: "text", hash: { algorithm: "sha256", format: "sri", hash: CA_SRI } }],
  ] as const)("reads a content address that is %s", ([, ca]) => {
    const [info] = parsePathInfoJson(JSON.stringify([{ path: full(PROGRAM), narHash: HASH, narSize: 280, references: [], ca }]));
    expect(info?.ca && formatContentAddress(info.ca)).toBe(CA);
  });

  test.for([
    ["an array", [{ path: full(PROGRAM), valid: false }]],
    ["an object", { [full(PROGRAM)]: null }],
    ["format 2", { version: 2, info: { [PROGRAM]: null } }],
  ] as const)("says that a path is not in the store when Nix does: %s", ([, json]) => {
    expect(() => parsePathInfoJson(JSON.stringify(json))).toThrow(expect.objectContaining({ code: "ERR_NOT_FOUND", message: `${full(PROGRAM)} is not in the Nix store` }) as Error);
  });

  test.for([
    ["what is no JSON", "nope", /Cannot read what Nix says of paths/],
    ["a number", "7", /Cannot read what Nix says of paths: found 7/],
    ["a path without infos", JSON.stringify({ [full(PROGRAM)]: 7 }), /expected an object/],
    ["no narHash", JSON.stringify({ [full(PROGRAM)]: { narSize: 280, references: [] } }), /program: Cannot read a hash: found nothing, expected an object/],
    ["a narHash that is not SHA-256", JSON.stringify({ [full(PROGRAM)]: { narHash: "md5:d41d8cd98f00b204e9800998ecf8427e", narSize: 280, references: [] } }), /expected sha256/],
    ["a narSize of 0", JSON.stringify({ [full(PROGRAM)]: { narHash: HASH, narSize: 0, references: [] } }), /narSize: found 0/],
    ["a path of another store", JSON.stringify({ "/gnu/store/1rpp6g7nnyv9dr70xfhw63llanybg80p-program": { narHash: HASH, narSize: 280, references: [] } }), /expected it to begin with \/nix\/store\//],
    ["base names of another store", JSON.stringify({ info: { [PROGRAM]: { storeDir: "/gnu/store", narHash: HASH, narSize: 280, references: [] } } }), /storeDir: found "\/gnu\/store", expected \/nix\/store/],
    ["a reference that is no store path", JSON.stringify({ [full(PROGRAM)]: { narHash: HASH, narSize: 280, references: ["x"] } }), /Cannot read store path/],
    ["no references", JSON.stringify({ [full(PROGRAM)]: { narHash: HASH, narSize: 280 } }), /references: found nothing/],
    ["a content address by Git", JSON.stringify({ [full(PROGRAM)]: { narHash: HASH, narSize: 280, references: [], ca: { method: "git", hash: HASH } } }), /ca: found "git"/],
  ] as const)("rejects %s", ([, text, message]) => {
    expect(() => parsePathInfoJson(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID", message: expect.stringMatching(message) as string }) as Error);
  });
});

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatContentAddress } from "../../src/nix/content-address.ts";
import { formatNarInfo, parseNarInfo } from "../../src/nix/narinfo.ts";
import { parseNixHash } from "../../src/nix/nix-hash.ts";
import { fingerprint, parsePublicKey, verifySignature } from "../../src/nix/signature.ts";
import { formatStorePath, storePathBaseName } from "../../src/nix/store-path.ts";
import { arbitraryNarInfo } from "./arbitrary-nix.ts";

function fixture(name: string): string {
  return readFileSync(new URL(`../fixtures/narinfo/${name}`, import.meta.url), "utf8");
}

const NODE_2 = fixture("node-2.narinfo");
const HASH = "sha256:1qkd3kfg04vvyvaq6gmrj51zwqkcd94mzzdhpkrp1fnzkssk56px";

test.for(["leaf-0.narinfo", "node-2.narinfo", "greeting.narinfo", "tree.narinfo"] as const)(
  "formatNarInfo() writes byte for byte what parseNarInfo() read from Nix: %s",
  (name) => {
    expect(formatNarInfo(parseNarInfo(fixture(name)))).toBe(fixture(name));
    expect(formatNarInfo(parseNarInfo(Buffer.from(fixture(name))))).toBe(fixture(name));
  },
);

test.for(["leaf-0.narinfo", "node-2.narinfo", "greeting.narinfo"] as const)("parseNarInfo() reads what the signature of %s covers", (name) => {
  const info = parseNarInfo(fixture(name));
  const publicKey = parsePublicKey(fixture("public-key"));
  const text = fingerprint(info.storePath, info.narHash, info.narSize, info.references);
  expect(info.signatures.map((signature) => verifySignature(text, signature, publicKey))).toEqual([true]);
});

test("parseNarInfo() reads every field", () => {
  const info = parseNarInfo(NODE_2);
  expect(formatStorePath(info.storePath)).toBe("/nix/store/8vbzz6kxwvjrkrfyqvl5g4f7hgpzrvvg-node-2");
  expect(info.url).toBe("nar/0mja0x1gcg176x4dibxakbsnqp4dyj99mbqaysprx2005b90xfij.nar.xz");
  expect(info.compression).toBe("xz");
  expect(info.fileHash).toEqual(parseNixHash("sha256:0mja0x1gcg176x4dibxakbsnqp4dyj99mbqaysprx2005b90xfij").digest);
  expect(info.fileSize).toBe(332);
  expect(info.narHash).toEqual(parseNixHash(HASH).digest);
  expect(info.narSize).toBe(2480);
  expect(info.references.map(storePathBaseName)).toEqual(["f3znf5id9j8l5lzxcvqg8va0bsfjpzwk-node-1"]);
  expect(info.deriver && storePathBaseName(info.deriver)).toBe("7x1yslkh0yk5yac6m97xfn0c47s34bnn-node-2.drv");
  expect(info.signatures).toHaveLength(1);
  expect(info.ca).toBeUndefined();
  expect(formatContentAddress(parseNarInfo(fixture("tree.narinfo")).ca as never)).toBe(
    "fixed:r:sha256:02qxmqs78cy9py5l3b9831kgpd87bakwsszb8aj9x25w901iavhd",
  );
});

test("parseNarInfo() gives back what was formatted", () => {
  fc.assert(
    fc.property(arbitraryNarInfo, (info) => {
      expect(parseNarInfo(formatNarInfo(info))).toEqual(info);
    }),
  );
});

test("parseNarInfo() reads the lines in any order", () => {
  expect(parseNarInfo(`${NODE_2.trimEnd().split("\n").toReversed().join("\n")}\n`)).toEqual(parseNarInfo(NODE_2));
});

const MINIMAL = `StorePath: /nix/store/8vbzz6kxwvjrkrfyqvl5g4f7hgpzrvvg-node-2\nURL: x\nNarHash: ${HASH}\nNarSize: 2480\n`;

test("parseNarInfo() takes a narinfo without Compression for bzip2, as Nix does", () => {
  expect(parseNarInfo(MINIMAL).compression).toBe("bzip2");
  expect(parseNarInfo(`${MINIMAL}Compression: \n`).compression).toBe("bzip2");
});

test("parseNarInfo() reads a narinfo that has no more than what is required", () => {
  const { storePath: _storePath, narHash: _narHash, ...rest } = parseNarInfo(MINIMAL);
  expect(rest).toEqual({ url: "x", compression: "bzip2", narSize: 2480, references: [], signatures: [] });
});

test.for([
  ["an unknown field", "System: x86_64-linux\n", {}],
  ["an unknown deriver", "Deriver: unknown-deriver\n", {}],
  ["an empty CA", "CA: \n", {}],
  ["no references", "References: \n", {}],
  ["a second URL", "URL: y\n", { url: "y" }],
  ["a URL with a colon and spaces", "URL: https://x/y: z?a=b \n", { url: "https://x/y: z?a=b " }],
  ["a size with zeros in front", "FileSize: 0007\n", { fileSize: 7 }],
  ["the largest size", "FileSize: 9007199254740991\n", { fileSize: Number.MAX_SAFE_INTEGER }],
] as const)("parseNarInfo() accepts %s", ([, lines, expected]) => {
  expect(parseNarInfo(MINIMAL + lines)).toEqual({ ...parseNarInfo(MINIMAL), ...expected });
});

test.for([
  ["base16", "sha256:fd9a32b5927bba70f3bcb0fd5f496a6c62fe4391b93e83d5f67b13f0dc1c6de2"],
  ["base64", "sha256:/ZoytZJ7unDzvLD9X0lqbGL+Q5G5PoPV9nsT8NwcbeI="],
  ["SRI", "sha256-/ZoytZJ7unDzvLD9X0lqbGL+Q5G5PoPV9nsT8NwcbeI="],
] as const)("parseNarInfo() reads hashes in %s", ([, hash]) => {
  expect(parseNarInfo(`${MINIMAL}NarHash: ${hash}\nFileHash: ${hash}\n`)).toMatchObject({
    narHash: parseNixHash(hash).digest,
    fileHash: parseNixHash(hash).digest,
  });
});

test("parseNarInfo() puts references in order and drops doubles", () => {
  const [a, b] = ["00000000000000000000000000000000-a", "00000000000000000000000000000000-b"];
  expect(parseNarInfo(`${MINIMAL}References:  ${b} ${a}  ${b} \n`).references.map(storePathBaseName)).toEqual([a, b]);
});

test.for([
  ["nothing", "", "found no StorePath"],
  ["no StorePath", MINIMAL.replace(/StorePath.*\n/, ""), "found no StorePath"],
  ["no URL", MINIMAL.replace(/URL.*\n/, ""), "found no URL"],
  ["no NarHash", MINIMAL.replace(/NarHash.*\n/, ""), "found no NarHash"],
  ["no NarSize", MINIMAL.replace(/NarSize.*\n/, ""), "found no NarSize"],
  ["a NarSize of 0", MINIMAL.replace("2480", "0"), "found a NarSize of 0"],
  ["an empty URL", `${MINIMAL}URL: \n`, "URL, found nothing, at line 5"],
  ["no newline at the end", MINIMAL.slice(0, -1), "found no newline at its end, at line 4"],
  ["an empty line at the end", `${MINIMAL}\n`, "found an empty line, at line 5"],
  ["an empty line between", MINIMAL.replace("\n", "\n\n"), "found an empty line, at line 2"],
  ["CRLF", MINIMAL.replaceAll("\n", "\r\n"), "found a carriage return before the newline, at line 1"],
  ["a line without a colon", `${MINIMAL}hello\n`, 'found "hello", expected a colon, at line 5'],
  ["no space after the colon", MINIMAL.replace("NarSize: ", "NarSize:"), 'found "NarSize:2480", expected a space after the colon, at line 4'],
  ["References without its space", `${MINIMAL}References:\n`, 'found "References:", expected a space after the colon, at line 5'],
  ["References twice", `${MINIMAL}References: \nReferences: \n`, "References, found a second time, at line 6"],
  [
    "CA twice",
    `${MINIMAL}CA: fixed:md5:4425hx5d1mc9y39llj4k4nm55i\nCA: fixed:md5:4425hx5d1mc9y39llj4k4nm55i\n`,
    "CA, found a second time, at line 6",
  ],
  ["a store path in another directory", MINIMAL.replace("/nix/store", "/gnu/store"), /^StorePath, found "\/gnu\/store.*, at line 1$/],
  ["an absolute reference", `${MINIMAL}References: /nix/store/8vbzz6kxwvjrkrfyqvl5g4f7hgpzrvvg-a\n`, /^References, found "\/nix.*, at line 5$/],
  ["an absolute deriver", `${MINIMAL}Deriver: /nix/store/8vbzz6kxwvjrkrfyqvl5g4f7hgpzrvvg-a.drv\n`, /^Deriver, found "\/nix.*, at line 5$/],
  ["a hash of another algorithm", `${MINIMAL}NarHash: md5:4425hx5d1mc9y39llj4k4nm55i\n`, /^NarHash, found "md5:.*, expected sha256, at line 5$/],
  ["a hash without an algorithm", `${MINIMAL}FileHash: 4425hx5d1mc9y39llj4k4nm55i\n`, /^FileHash, found .*, at line 5$/],
  ["a negative size", `${MINIMAL}NarSize: -1\n`, 'NarSize, found "-1", expected an integer up to 9007199254740991, at line 5'],
  ["a size in another notation", `${MINIMAL}FileSize: 0x10\n`, /^FileSize, found "0x10".*, at line 5$/],
  ["an empty size", `${MINIMAL}FileSize: \n`, /^FileSize, found "".*, at line 5$/],
  ["a size beyond 2^53", `${MINIMAL}NarSize: 9007199254740992\n`, /^NarSize, found "9007199254740992".*, at line 5$/],
  ["a size of a thousand digits", `${MINIMAL}NarSize: ${"9".repeat(1000)}\n`, /^NarSize, found "9{100}".*, at line 5$/],
  ["a signature that is none", `${MINIMAL}Sig: hello\n`, "Sig, expected a key name, a colon and base64, at line 5"],
  ["a content address that is none", `${MINIMAL}CA: hello\n`, /^CA, found "hello", expected .*, at line 5$/],
] as const)("parseNarInfo() rejects %s", ([, text, reason]) => {
  const message = typeof reason === "string" ? `Cannot parse narinfo: ${reason}` : expect.stringMatching(new RegExp(reason.source.replace("^", "^Cannot parse narinfo: ")));
  expect(() => parseNarInfo(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID", message }));
});

test("parseNarInfo() rejects bytes that are not UTF-8, and a byte order mark", () => {
  expect(() => parseNarInfo(Buffer.concat([Buffer.from(MINIMAL), Buffer.from([0x58, 0x3a, 0x20, 0xff, 0x0a])]))).toThrow(
    "Cannot parse narinfo: found bytes that are not UTF-8",
  );
  expect(() => parseNarInfo(Buffer.from(`\u{feff}${MINIMAL}`))).toThrow("Cannot parse narinfo: found no StorePath");
});

test("parseNarInfo() either reads a damaged narinfo or says what is wrong with it", () => {
  fc.assert(
    fc.property(fc.nat(NODE_2.length - 1), fc.string({ maxLength: 3 }), fc.nat(3), (at, inserted, removed) => {
      const damaged = NODE_2.slice(0, at) + inserted + NODE_2.slice(at + removed);
      try {
        parseNarInfo(damaged);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_NIX_INVALID" });
      }
    }),
  );
});

test.for(["x\nCA: y", "x\r", ""] as const)("formatNarInfo() lets no value become another line: %j", (url) => {
  expect(() => formatNarInfo({ ...parseNarInfo(MINIMAL), url })).toThrow(TypeError);
});

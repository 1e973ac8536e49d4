import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { toBase64 } from "../../src/bytes/text-encoding.ts";
import { parseSha256 } from "../../src/nix/nix-hash.ts";
import {
  fingerprint,
  formatPublicKey,
  formatSignature,
  parsePublicKey,
  parseSecretKey,
  parseSignature,
  publicKeyOf,
  signFingerprint,
  toSignature,
  verifySignature,
} from "../../src/nix/signature.ts";
import { parseStorePath, parseStorePathBaseName } from "../../src/nix/store-path.ts";
import { arbitrarySignature } from "./arbitrary-nix.ts";

const vectors = JSON.parse(readFileSync(new URL("../fixtures/vectors/castore.json", import.meta.url), "utf8")) as {
  signatures: { testKeyPublic: string; cases: { fingerprint: string; sig: string }[] };
};

// A key pair and a narinfo of cache.nixos.org, which go-nix tests with.
const CURL = {
  secretKey: "test1:jbX9NxZp8WB/coK8k7yLf0gNYmBbIbCrOFwgJgI7OV+0sASf4R5oFQlioSlN3bJ56uvshzr7S9Z75pcv+9hSkQ==",
  publicKey: "test1:tLAEn+EeaBUJYqEpTd2yeerr7Ic6+0vWe+aXL/vYUpE=",
  signature: "test1:519iiVLx/c4Rdt5DNt6Y2Jm6hcWE9+XY69ygiWSZCNGVcmOcyL64uVAJ3cV8vaTusIZdbTnYo9Y7vDNeTmmMBQ==",
  nixosPublicKey: "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
  nixosSignature: "cache.nixos.org-1:TsTTb3WGTZKphvYdBHXwo6weVILmTytUjLB+vcX89fOjjRicCHmKA4RCPMVLkj6TMJ4GMX3HPVWRdD1hkeKZBQ==",
  fingerprint: fingerprint(
    parseStorePath("/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin"),
    parseSha256("sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0"),
    196040,
    [
      "yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n",
      "0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0",
      "j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12",
      "6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115",
    ].map(parseStorePathBaseName),
  ),
} as const;

test("fingerprint() has the references in order, with their full paths", () => {
  expect(CURL.fingerprint).toBe(
    "1;/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin;sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0;196040;" +
      "/nix/store/0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0,/nix/store/6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115," +
      "/nix/store/j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12,/nix/store/yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n",
  );
});

test("fingerprint() ends in a semicolon when there are no references", () => {
  const narHash = parseSha256("sha256:100vxs724qr46phz8m24iswmg9p3785hsyagz0kchf6q6gf06sw6");
  expect(fingerprint(parseStorePath("/nix/store/7z5ixgx0h5jc3bwm7rlni55r85hmhims-dbg"), narHash, 1008, [])).toBe(
    "1;/nix/store/7z5ixgx0h5jc3bwm7rlni55r85hmhims-dbg;sha256:100vxs724qr46phz8m24iswmg9p3785hsyagz0kchf6q6gf06sw6;1008;",
  );
});

test.for([
  ...vectors.signatures.cases.map(({ fingerprint, sig }) => ["tvix", fingerprint, sig, vectors.signatures.testKeyPublic] as const),
  [
    "Nix",
    "1;/nix/store/7z5ixgx0h5jc3bwm7rlni55r85hmhims-dbg;sha256:100vxs724qr46phz8m24iswmg9p3785hsyagz0kchf6q6gf06sw6;1008;",
    "test-1:Br4lpGqbyMMbzYU2aGXbDGg6PaM+smglUvVYLQ0ZIVDfvOZtr8aOk5YnY3clPUZ7vh4jjtG9Ra7gTe5PG5isCw==",
    "test-1:FSwJ3Ff59SFb8AVBcsnvk1nNVUldwhSKxuCVA5Im/s0=",
  ],
  ["cache.nixos.org", CURL.fingerprint, CURL.nixosSignature, CURL.nixosPublicKey],
  ["go-nix", CURL.fingerprint, CURL.signature, CURL.publicKey],
] as const)("verifySignature() accepts a signature by %s, and none over another text", ([, text, signature, publicKey]) => {
  expect(verifySignature(text, parseSignature(signature), parsePublicKey(publicKey))).toBe(true);
  expect(verifySignature(`${text} `, parseSignature(signature), parsePublicKey(publicKey))).toBe(false);
});

test("verifySignature() accepts no other bytes and no other name", () => {
  const { keyName, bytes } = parseSignature(CURL.signature);
  const publicKey = parsePublicKey(CURL.publicKey);
  const flipped = bytes.slice();
  flipped[0] = (flipped[0] ?? 0) ^ 1;
  expect(verifySignature(CURL.fingerprint, toSignature(keyName, flipped), publicKey)).toBe(false);
  expect(verifySignature(CURL.fingerprint, toSignature("test2", bytes), publicKey)).toBe(false);
  expect(verifySignature(CURL.fingerprint, toSignature(keyName, bytes), { ...publicKey, name: "test2" })).toBe(false);
});

test("signFingerprint() signs as Nix and go-nix do", () => {
  const secretKey = parseSecretKey(`${CURL.secretKey}\n`);
  expect(formatSignature(signFingerprint(CURL.fingerprint, secretKey))).toBe(CURL.signature);
  expect(formatPublicKey(publicKeyOf(secretKey))).toBe(CURL.publicKey);
});

test("parseSignature() gives back what was formatted", () => {
  fc.assert(
    fc.property(arbitrarySignature, (signature) => {
      expect(parseSignature(formatSignature(signature))).toEqual(signature);
    }),
  );
});

const BASE64_64 = toBase64(new Uint8Array(64));

test.for([
  ["nothing", ""],
  ["no colon", "key"],
  ["no key name", `:${BASE64_64}`],
  ["no signature", "key:"],
  ["two colons", `key:a:${BASE64_64}`],
  ["63 bytes", `key:${toBase64(new Uint8Array(63))}`],
  ["65 bytes", `key:${toBase64(new Uint8Array(65))}`],
  ["no base64", `key:${BASE64_64.replace("A", "!")}`],
  ["no padding", `key:${BASE64_64.slice(0, -2)}`],
  ["a newline in the name", `k\ney:${BASE64_64}`],
  ["a NUL in the name", `k\0ey:${BASE64_64}`],
] as const)("parseSignature() rejects %s", ([, text]) => {
  expect(() => parseSignature(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test("toSignature() rejects a name that would not be read back", () => {
  expect(() => toSignature("a:b", new Uint8Array(64))).toThrow('Cannot read signature: found the key name "a:b"');
});

test.for([
  ["a public key of 31 bytes", parsePublicKey, `key:${toBase64(new Uint8Array(31))}`],
  ["a secret key for a public one", parsePublicKey, CURL.secretKey],
  ["a public key for a secret one", parseSecretKey, CURL.publicKey],
  ["a secret key whose halves do not belong together", parseSecretKey, CURL.secretKey.replace(/.{4}==$/, "AAAA==")],
  ["a secret key without a name", parseSecretKey, CURL.secretKey.slice(5)],
] as const)("parsePublicKey() and parseSecretKey() reject %s and show none of it", ([, parse, text]) => {
  const secret = text.split(":").at(-1) ?? "";
  expect(() => parse(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID", message: expect.not.stringContaining(secret.slice(0, 20)) }));
});

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Node } from "../../src/castore/node.ts";
import { formatNarInfo, parseNarInfo } from "../../src/nix/narinfo.ts";
import { parsePublicKey, toSignature, verifySignature } from "../../src/nix/signature.ts";
import { parseStorePathBaseName } from "../../src/nix/store-path.ts";
import { mergeSignatures, narInfoFromPathInfo, pathInfoFingerprint, pathInfoFromNarInfo } from "../../src/store/path-info.ts";
import { arbitrarySignature } from "../nix/arbitrary-nix.ts";

function fixture(name: string): string {
  return readFileSync(new URL(`../fixtures/narinfo/${name}`, import.meta.url), "utf8");
}

const ROOT: Node = { type: "symlink", target: Buffer.from("/nix/store/somewhereelse") };

test.for(["leaf-0.narinfo", "node-2.narinfo", "greeting.narinfo", "tree.narinfo"] as const)(
  "narInfoFromPathInfo() gives back all that pathInfoFromNarInfo() took from %s",
  (name) => {
    const narInfo = parseNarInfo(fixture(name));
    const pathInfo = pathInfoFromNarInfo(narInfo, ROOT);
    const { url, compression, fileHash, fileSize } = narInfo as Required<typeof narInfo>;
    expect(formatNarInfo(narInfoFromPathInfo(pathInfo, { url, compression, fileHash, fileSize }))).toBe(fixture(name));
    expect(Object.keys(pathInfo).filter((key) => /url|compression|file|narHash/.test(key))).toEqual([]);
  },
);

test("narInfoFromPathInfo() keeps signatures valid for a NAR that is served another way", () => {
  const pathInfo = pathInfoFromNarInfo(parseNarInfo(fixture("node-2.narinfo")), ROOT);
  const served = narInfoFromPathInfo(pathInfo, { url: "nar/x.nar", compression: "none", fileHash: pathInfo.narSha256, fileSize: pathInfo.narSize });
  expect(formatNarInfo(served)).toContain("URL: nar/x.nar\nCompression: none\nFileHash: sha256:1qkd3kfg04vvyvaq6gmrj51zwqkcd94mzzdhpkrp1fnzkssk56px\nFileSize: 2480\n");
  expect(verifySignature(pathInfoFingerprint(pathInfo), served.signatures[0] as never, parsePublicKey(fixture("public-key")))).toBe(true);
});

test("pathInfoFromNarInfo() rejects a deriver that is not a derivation", () => {
  const narInfo = parseNarInfo(fixture("leaf-0.narinfo"));
  const deriver = parseStorePathBaseName("56gj1abj3q4ll1mzbi0kx31r5g1krhsc-leaf-0");
  expect(() => pathInfoFromNarInfo({ ...narInfo, deriver }, ROOT)).toThrow(
    "Cannot read path info: found deriver /nix/store/56gj1abj3q4ll1mzbi0kx31r5g1krhsc-leaf-0, expected a name that ends in .drv",
  );
});

test("mergeSignatures() keeps all of the first and adds what is new in the second", () => {
  const [a, b, c] = [1, 2, 3].map((byte) => toSignature("key", new Uint8Array(64).fill(byte))) as [never, never, never];
  const other = toSignature("other", new Uint8Array(64).fill(1));
  expect(mergeSignatures([a, b], [b, c, other, c])).toEqual([a, b, c, other]);
  expect(mergeSignatures([], [])).toEqual([]);
});

test("mergeSignatures() adds nothing the second time", () => {
  const signatures = fc.array(arbitrarySignature, { maxLength: 4 });
  fc.assert(
    fc.property(signatures, signatures, (a, b) => {
      const merged = mergeSignatures(a, b);
      expect(mergeSignatures(merged, b)).toEqual(merged);
      expect(merged.slice(0, a.length)).toEqual(a);
    }),
  );
});

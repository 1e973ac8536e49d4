import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { formatNixCacheInfo, parseNixCacheInfo } from "../../src/nix/nix-cache-info.ts";

test("parseNixCacheInfo() and formatNixCacheInfo() agree on what Nix wrote", () => {
  const text = readFileSync(new URL("../fixtures/narinfo/nix-cache-info", import.meta.url), "utf8");
  expect(parseNixCacheInfo(text)).toEqual({ storeDir: "/nix/store", wantMassQuery: false });
  expect(formatNixCacheInfo(parseNixCacheInfo(text))).toBe(text);
});

test("parseNixCacheInfo() gives back what was formatted", () => {
  const text = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 39\n";
  const info = { storeDir: "/nix/store", wantMassQuery: true, priority: 39 };
  expect(formatNixCacheInfo(info)).toBe(text);
  expect(parseNixCacheInfo(text)).toEqual(info);
});

test("parseNixCacheInfo() trims values and ignores what it does not know", () => {
  const text = "\nhello\nStoreDir:/nix/store  \r\nColour: blue\nWantMassQuery: yes\nPriority:   -1";
  expect(parseNixCacheInfo(text)).toEqual({ storeDir: "/nix/store", wantMassQuery: false, priority: -1 });
});

test.for(["", "forty", "1.5", "99999999999999"] as const)("parseNixCacheInfo() rejects the priority %j", (priority) => {
  expect(() => parseNixCacheInfo(`StoreDir: /nix/store\nPriority: ${priority}\n`)).toThrow(
    `Cannot parse nix-cache-info: Priority, found ${JSON.stringify(priority)}, at line 2`,
  );
});

import { basename } from "node:path";
import { expect, test } from "vitest";
import { sideDirectory } from "../../src/composition/open-store.ts";

const ENVIRONMENT = { XDG_DATA_HOME: "/data" };

test("sideDirectory() names the directory after the server", () => {
  expect(sideDirectory("grpc://host:80?timeout=5", ENVIRONMENT)).toBe("/data/narbor-nar-index/host%3A80");
  expect(sideDirectory("grpc+unix:/run/ö", ENVIRONMENT)).toBe("/data/narbor-nar-index/unix%3A%2Frun%2F%C3%B6");
});

test("sideDirectory() names it by a hash where a file's name may not be that long, another one for each server", () => {
  const names = ["ö", "ü"].map((letter) => basename(sideDirectory(`grpc+unix:/${letter.repeat(50)}`, ENVIRONMENT)));
  for (const name of names) expect(name).toMatch(/^sha256-[0-9a-f]{64}$/);
  expect(new Set(names).size).toBe(2);
  // Its name is as long as it may be: it keeps what it had.
  const longest = `grpc+unix:/${"ö".repeat(40)}${"x".repeat(5)}`;
  expect(Buffer.from(basename(sideDirectory(longest, ENVIRONMENT)))).toHaveLength(255);
});

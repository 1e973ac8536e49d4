import { describe, expect, test } from "vitest";
import { familiarName, isImageName, repoTags } from "../../src/image/image-name.ts";

const ID = `sha256:${"5".repeat(64)}`;
const NAMES = ["hello:latest", "hello", "v1.0", "127.0.0.1:5000/tools/hello:1", "[::1]:5000/hello:1", "localhost/Hello", "hello@sha256:0123", "_tag", "a-b__c.d:E_f-1.2"];

test.for(NAMES)("isImageName() takes %s", (name) => {
  expect(isImageName(name)).toBe(true);
});

test.for(["", " ", "a b", "a\nb", "\u001b[2J", "-a", "../a", "/a", "\u00fc", ID])("isImageName() refuses %j", (name) => {
  expect(isImageName(name)).toBe(false);
});

test("familiarName() leaves out what goes without saying", () => {
  expect(["docker.io/library/hello:1", "docker.io/me/hello:1", "docker.io/library/a/b", "quay.io/library/hello"].map(familiarName)).toEqual(["hello:1", "me/hello:1", "library/a/b", "quay.io/library/hello"]);
});

describe("repoTags()", () => {
  test.for([
    ["hello:1", "hello:1"],
    ["hello", "hello:latest"],
    ["localhost:5000/hello", "localhost:5000/hello:latest"],
    ["[::1]:5000/me/hello:1", "[::1]:5000/me/hello:1"],
    ["Registry.example/a_b/c__d/e--f:V_1.0-2", "Registry.example/a_b/c__d/e--f:V_1.0-2"],
    ["1.0", "1.0:latest"],
  ] as const)("gives %s as %s", ([name, tag]) => {
    expect(repoTags(name)).toEqual([tag]);
  });

  test.for(["Hello", "me/Hello", "hello@sha256:0123", "a:b:c", "_tag", "hello:-1", `hello:${"1".repeat(129)}`, ID])("gives none for %s, which docker would refuse", (name) => {
    expect(repoTags(name)).toBeNull();
  });
});

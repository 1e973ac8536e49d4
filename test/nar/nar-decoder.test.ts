import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { errorMessage, isNarborError } from "../../src/errors.ts";
import { NarDecoder } from "../../src/nar/nar-decoder.ts";
import type { NarEvent } from "../../src/nar/nar-event.ts";
import { arbitraryPieceSizes, arbitraryTree, cutInto } from "../arbitrary/nar-tree.ts";
import { chunked, cuts, expectBytes } from "../helpers/bytes.ts";
import { decodeNar, treeOfEvents } from "../helpers/nar-events.ts";
import type { Part, Tree } from "../helpers/reference-nar.ts";
import { directory, file, length, raw, referenceNar, strs, symlink } from "../helpers/reference-nar.ts";
import { narVector } from "../helpers/vectors.ts";
import { mutateNar, seededRandom } from "./mutate-nar.ts";

const VALID = ["complicated", "emptydirectory", "helloworld", "net-tools", "onebyteexecutable", "onebyteregular", "popdirectories", "symlink"];
const VALID_OF_NIX = ["nix/case", "nix/case-collision", "nix/regular-one-byte-zero-padding", "nix/unnormalized"];
const SMALL = VALID.filter((name) => name !== "net-tools");

describe("vectors", () => {
  test.for([...VALID, ...VALID_OF_NIX])("NarDecoder reads %s.nar, and a reference encoder gives it back", (name) => {
    const nar = narVector(`${name}.nar`);
    expectBytes(referenceNar(treeOfEvents(decodeNar([nar]))), nar);
  });

  test("NarDecoder gives the events of complicated.nar", () => {
    expect(decodeNar([narVector("complicated.nar")])).toEqual([
      { type: "directory", name: "" },
      { type: "file", name: ".keep", executable: false, size: 0, offset: 232, data: "" },
      { type: "symlink", name: "aa", target: "/nix/store/somewhereelse" },
      { type: "directory", name: "keep" },
      { type: "file", name: ".keep", executable: false, size: 0, offset: 760, data: "" },
      { type: "endDirectory" },
      { type: "endDirectory" },
    ]);
  });

  test("NarDecoder says where a file's contents lie", () => {
    const nar = narVector("net-tools.nar");
    const files = decodeNar([nar]).filter((event) => event.type === "file");
    expect(files.length).toBeGreaterThan(10);
    for (const { offset, size, data } of files) expectBytes(nar.subarray(offset, offset + size), Buffer.from(data, "latin1"));
  });

  test.for([
    ["invalid/dot", 'invalid name "." at byte 128'],
    ["invalid/dotdot", 'invalid name ".." at byte 128'],
    ["invalid/empty", 'invalid name "" at byte 128'],
    ["invalid/slash", 'invalid name "x/y" at byte 128'],
    ["invalid/nul-character", /invalid name ".*\\u0000.*" at byte 128/],
    ["invalid/executable-after-contents", 'expected ")", found "executable" at byte 240'],
    ["invalid/invalid-tag-instead-of-contents", /expected "contents" or "executable", found ".*" at byte 72/],
    ["invalid/name-after-node", 'expected "name", found "node" at byte 112'],
    ["invalid/regular-one-byte-non-zero-padding", /non-zero padding at byte 9[7-9]|non-zero padding at byte 10[0-3]/],
    ["invalid/regular-truncated-large-contents", "a length is beyond 2^53 at byte 88"],
    ["invalid/regular-truncated-padding", "input ends at byte 100, within the contents of the root node"],
    ["nix/duplicate", /entry ".*" follows ".*" at byte \d+/],
  ] as const)("NarDecoder rejects %s.nar: %s", ([name, message]) => {
    const nar = narVector(`${name}.nar`);
    expect(failure([nar])).toMatch(message);
    for (const [how, pieces] of cuts(nar)) expect(withoutFound(failure(pieces)), how).toBe(withoutFound(failure([nar])));
  });
});

/** What NarDecoder says stands before each file that is not empty, where it says so, and what does. */
function framings(nar: Uint8Array, pieces: readonly Uint8Array[]): { readonly said: (Buffer | undefined)[]; readonly true: Buffer[] } {
  const decoder = new NarDecoder();
  const said: (Buffer | undefined)[] = [];
  const real: Buffer[] = [];
  let end = 0;
  for (const piece of pieces) {
    decoder.push(piece);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) {
      if (event.type !== "file" || event.size === 0) continue;
      const framing = decoder.framing();
      said.push(framing && Buffer.from(framing));
      real.push(Buffer.from(nar.subarray(end, event.offset)));
      end = event.offset + event.size;
    }
  }
  decoder.end();
  return { said, true: real };
}

describe("framing()", () => {
  const links = (count: number): Tree => directory(Object.fromEntries(Array.from({ length: count }, (_, index) => [`link${index}`, symlink("target")])));
  const tree = directory({ a: file("a"), b: file(""), c: directory({ d: file("dd"), e: links(3) }), f: file("x".repeat(100)), g: links(60), h: file("h"), i: file("i") });

  test("gives the bytes between one file's contents and the next one's, in every cut", () => {
    const nar = referenceNar(tree);
    for (const [how, pieces] of cuts(nar)) {
      const { said, true: real } = framings(nar, pieces);
      expect(said, how).toHaveLength(5);
      expect(said.map((framing) => framing !== undefined), how).toEqual([true, true, true, false, true]);
      for (const [index, framing] of said.entries()) if (framing !== undefined) expectBytes(framing, real[index] as Buffer);
      expect((real[3] as Buffer).length).toBeGreaterThan(4096);
    }
  });

  test("is what a NAR of any tree has there, or nothing when it is longer than 4 KiB", () => {
    fc.assert(
      fc.property(arbitraryTree, arbitraryPieceSizes, (anyTree, sizes) => {
        const nar = referenceNar(anyTree);
        const { said, true: real } = framings(nar, cutInto(nar, sizes));
        expect(said.map((framing) => framing?.toString("hex"))).toEqual(real.map((framing) => (framing.length <= 4096 ? framing.toString("hex") : undefined)));
      }),
      { numRuns: 100 },
    );
  });
});

describe("cuts", () => {
  test.for([...SMALL, ...VALID_OF_NIX])("NarDecoder gives the same events for %s.nar in every cut", (name) => {
    const nar = narVector(`${name}.nar`);
    const whole = decodeNar([nar]);
    for (const [how, pieces] of cuts(nar)) expect(decodeNar(pieces), how).toEqual(whole);
    for (let at = 0; at <= nar.length; at++) expect(decodeNar([nar.subarray(0, at), nar.subarray(at)]), `cut at ${at}`).toEqual(whole);
  });

  test("NarDecoder gives the same events for a large NAR in pieces of many sizes", () => {
    const nar = narVector("net-tools.nar");
    const whole = decodeNar([nar]);
    for (const size of [1, 8, 1_000, 4_095, 65_536]) expect(decodeNar(chunked(nar, size))).toEqual(whole);
  });

  test.for(SMALL)("NarDecoder rejects %s.nar cut short at every byte, and says at which", (name) => {
    const nar = narVector(`${name}.nar`);
    for (let end = 0; end < nar.length; end++) {
      const expected = new RegExp(`^Cannot parse NAR: input ends at byte ${end}, within (the magic|(the contents of )?(the root node|entry ".*")|a directory)$`);
      expect(failure([nar.subarray(0, end)]), `whole, cut at ${end}`).toMatch(expected);
      expect(failure(chunked(nar.subarray(0, end), 5)), `in fives, cut at ${end}`).toMatch(expected);
    }
  });

  test.for(SMALL)("NarDecoder rejects a byte after the end of %s.nar, in the same piece or the next", (name) => {
    const nar = narVector(`${name}.nar`);
    for (const byte of [0, 0x0d, 0xff]) {
      const expected = `Cannot parse NAR: found data after the end at byte ${nar.length}`;
      expect(failure([Buffer.concat([nar, Uint8Array.of(byte)])])).toBe(expected);
      expect(failure([nar, Uint8Array.of(byte)])).toBe(expected);
      expect(failure([nar, new Uint8Array(0), Uint8Array.of(byte)])).toBe(expected);
    }
  });

  test("NarDecoder rejects two NARs in a row", () => {
    const nar = narVector("symlink.nar");
    expect(failure([nar, nar])).toBe("Cannot parse NAR: found data after the end at byte 136");
  });
});

/** Whole NARs of which one rule is broken, and what is said. The rules are those of nix-binary-cache.md §1.2, in their order. */
const HEAD = strs("nix-archive-1");
const FILE = strs("(", "type", "regular", "contents", "x", ")");
const RULES: readonly (readonly [rule: string, nar: Uint8Array, message: string | RegExp])[] = [
  ["another magic", strs("nix-archive-2", raw(FILE)), "input does not begin with a Nix archive's magic at byte 0"],
  ["a magic of another length", Buffer.concat([length(14).bytes, Buffer.from("nix-archive-1\0\0\0"), FILE]), "input does not begin with a Nix archive's magic at byte 0"],
  ["a magic with non-zero padding", Buffer.concat([length(13).bytes, Buffer.from("nix-archive-1\0\0\x01"), FILE]), "input does not begin with a Nix archive's magic at byte 0"],
  ["something else altogether", Buffer.from("\x28\xb5\x2f\xfd zstd, perhaps", "latin1"), "input does not begin with a Nix archive's magic at byte 0"],
  ["nothing at all", Buffer.alloc(0), "input ends at byte 0, within the magic"],
  ["the magic alone", HEAD, "input ends at byte 24, within the root node"],

  ["a node without a bracket", strs(raw(HEAD), "type", "regular"), 'expected "(", found "type" at byte 24'],
  ["a node without a type", strs(raw(HEAD), "(", "regular"), 'expected "type", found "regular" at byte 40'],
  ["an unknown kind", strs(raw(HEAD), "(", "type", "fifo", ")"), 'expected "regular" or "directory" or "symlink", found "fifo" at byte 56'],
  ["an empty kind", strs(raw(HEAD), "(", "type", "", ")"), 'expected "regular" or "directory" or "symlink", found "" at byte 56'],
  ["a kind that begins like another", strs(raw(HEAD), "(", "type", "regularx", ")"), 'found "regularx" at byte 56'],
  ["a tag of 33 bytes", strs(raw(HEAD), "(", "type", "d".repeat(33)), "found a tag that is too long at byte 56"],
  ["a tag whose length is beyond 2^53", strs(raw(HEAD), "(", length(2n ** 64n - 1n)), 'expected "type", found a tag that is too long at byte 40'],
  ["a tag with non-zero padding", Buffer.concat([HEAD, length(1).bytes, Buffer.from("(\0\0\0\0\0\0!")]), 'expected "("'],

  ["executable with a value", strs(raw(HEAD), "(", "type", "regular", "executable", "x", "contents", "", ")"), 'expected "contents" or "executable", found "executable" at byte 72'],
  ["executable twice", strs(raw(HEAD), "(", "type", "regular", "executable", "", "executable", "", "contents", "", ")"), 'expected "contents", found "executable" at byte 104'],
  ["executable after contents", strs(raw(HEAD), "(", "type", "regular", "contents", "x", "executable", "", ")"), 'expected ")", found "executable" at byte 104'],
  ["a file without contents", strs(raw(HEAD), "(", "type", "regular", ")"), 'expected "contents" or "executable", found ")" at byte 72'],
  ["an executable file without contents", strs(raw(HEAD), "(", "type", "regular", "executable", "", ")"), 'expected "contents", found ")" at byte 104'],
  ["contents twice", strs(raw(HEAD), "(", "type", "regular", "contents", "x", "contents", "y", ")"), 'expected ")", found "contents" at byte 104'],
  ["contents with non-zero padding", strs(raw(HEAD), "(", "type", "regular", "contents", length(1), raw(Buffer.from("x\0\0\0\0\0\0\x01")), ")"), "non-zero padding at byte 103"],
  ["contents of a length beyond 2^53", strs(raw(HEAD), "(", "type", "regular", "contents", length(2n ** 53n)), "a length is beyond 2^53 at byte 88"],
  ["a file with a target", strs(raw(HEAD), "(", "type", "regular", "target", "x", ")"), 'found "target" at byte 72'],

  ["a symlink without a target", strs(raw(HEAD), "(", "type", "symlink", ")"), 'expected "target", found ")" at byte 72'],
  ["an empty target", strs(raw(HEAD), "(", "type", "symlink", "target", "", ")"), /empty symlink target at byte (88|96)/],
  ["a target with a NUL", strs(raw(HEAD), "(", "type", "symlink", "target", "a\0b", ")"), /symlink target holds a NUL byte at byte (88|104)/],
  ["a target of 4096 bytes", strs(raw(HEAD), "(", "type", "symlink", "target", "t".repeat(4096), ")"), "symlink target of 4096 bytes is longer than 4095 at byte 88"],
  ["a target with non-zero padding", strs(raw(HEAD), "(", "type", "symlink", "target", length(1), raw(Buffer.from("x\0\0\0\0\0\x01\0")), ")"), "non-zero padding at byte 102"],
  ["a symlink with two targets", strs(raw(HEAD), "(", "type", "symlink", "target", "a", "target", "b", ")"), 'expected ")", found "target" at byte 104'],

  ["a name of 256 bytes", inDirectory("name", "n".repeat(256), "node", raw(FILE), ")"), "name of 256 bytes is longer than 255 at byte 128"],
  ["an empty name", inDirectory("name", "", "node", raw(FILE), ")"), 'invalid name "" at byte 128'],
  ["the name .", inDirectory("name", ".", "node", raw(FILE), ")"), 'invalid name "." at byte 128'],
  ["the name ..", inDirectory("name", "..", "node", raw(FILE), ")"), 'invalid name ".." at byte 128'],
  ["a name with a slash", inDirectory("name", "a/b", "node", raw(FILE), ")"), 'invalid name "a/b" at byte 128'],
  ["a name with a NUL", inDirectory("name", "a\0", "node", raw(FILE), ")"), 'invalid name "a\\u0000" at byte 128'],
  ["a name with non-zero padding", inDirectory("name", length(1), raw(Buffer.from("x\x01\0\0\0\0\0\0")), "node", raw(FILE), ")"), "non-zero padding at byte 137"],

  ["a name twice", referenceNar(unordered(["a", file("")], ["a", file("")])), 'entry "a" follows "a" at byte'],
  ["names in falling order", referenceNar(unordered(["b", file("")], ["a", file("")])), 'entry "a" follows "b" at byte'],
  ["a name before its own beginning", referenceNar(unordered(["ab", file("")], ["a", file("")])), 'entry "a" follows "ab" at byte'],
  ["names in the order of UTF-16, not of bytes", referenceNar(unordered(["\u{1f600}", file("")], ["\u{ff5e}", file("")])), "follows"],
  ["names in the order of signed bytes", referenceNar({ type: "directory", entries: [[Uint8Array.of(0x80), file("")], [Uint8Array.of(0x7f), file("")]] }), "follows"],
  ["names in falling order below the root", referenceNar(directory({ d: unordered(["b", file("")], ["a", symlink("x")]) })), 'entry "a" follows "b" at byte'],

  ["an entry without a bracket", strs(raw(HEAD), "(", "type", "directory", "entry", "name", "a"), 'expected "(", found "name" at byte 96'],
  ["an entry without a name", inDirectory("node", raw(FILE), ")"), 'expected "name", found "node" at byte 112'],
  ["an entry without a node", inDirectory("name", "a", ")"), 'expected "node", found ")" at byte 144'],
  ["an entry whose node comes first", inDirectory("node", raw(FILE), "name", "a", ")"), 'expected "name", found "node" at byte 112'],
  ["an entry with two names", inDirectory("name", "a", "name", "b", "node", raw(FILE), ")"), 'expected "node", found "name" at byte 144'],
  ["an entry that does not end", inDirectory("name", "a", "node", raw(FILE), "entry"), 'expected ")", found "entry"'],
  ["another field in an entry", inDirectory("mode", "0755", "name", "a"), 'expected "name", found "mode" at byte 112'],
  ["something else in a directory", strs(raw(HEAD), "(", "type", "directory", "contents", ""), 'expected "entry" or ")", found "contents" at byte 80'],
];

describe("rules", () => {
  test.for(RULES)("NarDecoder rejects %s", ([, nar, message]) => {
    expect(failure([nar])).toMatch(message);
    expect(failure([nar])).toMatch(/^Cannot parse NAR: .* at byte \d+/);
    for (const [how, pieces] of cuts(nar)) expect(withoutFound(failure(pieces)), how).toBe(withoutFound(failure([nar])));
  });

  test.for([
    ["names of 255 bytes", directory({ ["n".repeat(255)]: file("x") })],
    ["a target of 4095 bytes", symlink("t".repeat(4095))],
    ["names that are not UTF-8, and with control characters", { type: "directory", entries: [[Uint8Array.of(1, 10, 27), file("")], [Uint8Array.of(0xc3, 0x28), file("")], [Uint8Array.of(0xff), file("")]] }],
    ["names that JavaScript orders otherwise", directory({ "\u{ff5e}": file("a"), "\u{1f600}": file("b") })],
    ["names that objects have already", directory({ __proto__x: file(""), constructor: file(""), toString: symlink("x") })],
    ["the name ... and names that begin with dots", directory({ "...": file(""), ".a": file(""), "..a": file("") })],
    ["a suffix of the case hack as an ordinary name", directory({ a: file(""), "A~nix~case~hack~1": file("") })],
    ["contents of every length modulo 8", directory(Object.fromEntries(Array.from({ length: 17 }, (_, size) => [String(size).padStart(2, "0"), file("x".repeat(size))])))],
  ] as const)("NarDecoder accepts %s", ([, tree]) => {
    const nar = referenceNar(tree);
    for (const [, pieces] of cuts(nar)) expectBytes(referenceNar(treeOfEvents(decodeNar(pieces))), nar);
  });

  test("NarDecoder accepts an entry named __proto__ and gives it like any other", () => {
    const nar = referenceNar({ type: "directory", entries: [[Buffer.from("__proto__"), file("x")]] });
    expect(decodeNar([nar])[1]).toMatchObject({ name: "__proto__", data: "x" });
  });

  test.for([
    [file("x"), "file"],
    [symlink("x"), "symlink"],
    [{ type: "directory", entries: [] }, "directory"],
  ] as const)("NarDecoder accepts a node at depth 63 and rejects it at depth 64: %s", ([leaf]) => {
    const deepest = referenceNar(nested(63, leaf));
    expectBytes(referenceNar(treeOfEvents(decodeNar([deepest]))), deepest);
    for (const [how, pieces] of cuts(referenceNar(nested(64, leaf)))) {
      expect(failure(pieces), how).toMatch(/directory nesting exceeds the maximum depth of 64 at byte \d+/);
    }
  });

  test("NarDecoder rejects a nesting of a million levels as soon as it is too deep", () => {
    const level = strs("(", "type", "directory", "entry", "(", "name", "a", "node");
    const decoder = new NarDecoder();
    decoder.push(HEAD);
    let levels = 0;
    expect(() => {
      for (; levels < 1_000_000; levels++) {
        decoder.push(level);
        while (decoder.next() !== undefined);
      }
    }).toThrow("directory nesting exceeds the maximum depth of 64");
    expect(levels).toBe(64);
  });

  test("NarDecoder shows a name with control characters escaped", () => {
    const nar = referenceNar(unordered(["b", file("")], ["a\x1b[31m\n", file("")]));
    expect(failure([nar])).toContain('entry "a\\u001b[31m\\n" follows "b"');
  });

  test("NarDecoder rejects an impossible tag at its first wrong byte, without waiting for the rest", () => {
    for (const beginning of [HEAD, strs("nix-archive-1", "(", "type", "regular", "contents", "x")]) {
      expect(failure([Buffer.concat([beginning, Uint8Array.of(0x7f)])])).toMatch(`at byte ${beginning.length}`);
    }
  });
});

describe("lengths from outside", () => {
  const HUGE = [2n ** 31n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 40n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
  /** What stands before a length field, for each place where one stands. */
  const PLACES: readonly (readonly [place: string, before: Uint8Array])[] = [
    ["the magic", Buffer.alloc(0)],
    ["a bracket", HEAD],
    ["the word type", strs("nix-archive-1", "(")],
    ["a kind", strs("nix-archive-1", "(", "type")],
    ["the word contents", strs("nix-archive-1", "(", "type", "regular")],
    ["the value of executable", strs("nix-archive-1", "(", "type", "regular", "executable")],
    ["contents", strs("nix-archive-1", "(", "type", "regular", "contents")],
    ["the closing bracket of a file", strs("nix-archive-1", "(", "type", "regular", "contents", "x")],
    ["the word target", strs("nix-archive-1", "(", "type", "symlink")],
    ["a target", strs("nix-archive-1", "(", "type", "symlink", "target")],
    ["an entry", strs("nix-archive-1", "(", "type", "directory")],
    ["a name", inDirectory("name")],
    ["the word node", inDirectory("name", "a")],
  ];

  test.for(PLACES)("NarDecoder takes no memory for a huge length at %s", ([place, before]) => {
    for (const huge of HUGE) {
      const memory = process.memoryUsage().arrayBuffers;
      const decoder = new NarDecoder();
      const events: NarEvent[] = [];
      let error: unknown;
      try {
        decoder.push(Buffer.concat([before, length(huge).bytes]));
        for (let event = decoder.next(); event !== undefined; event = decoder.next()) events.push(event);
      } catch (thrown) {
        error = thrown;
      }
      expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(1_000_000);
      if (place === "contents" && huge < 2n ** 53n) {
        expect(error).toBeUndefined();
        expect(events.at(-1)).toMatchObject({ type: "file", size: Number(huge) });
        expect(() => decoder.end()).toThrow("within the contents of the root node");
      } else {
        expect(isNarborError(error, "ERR_NAR_INVALID"), `${huge}: ${errorMessage(error)}`).toBe(true);
      }
    }
  });

  test("NarDecoder hands on the data of a huge file piece by piece and keeps none of it", () => {
    const decoder = new NarDecoder();
    decoder.push(strs("nix-archive-1", "(", "type", "regular", "contents", length(2n ** 40n)));
    expect(decoder.next()).toMatchObject({ type: "file", size: 2 ** 40 });
    expect(decoder.next()).toBeUndefined();
    const piece = new Uint8Array(1024 * 1024);
    const memory = process.memoryUsage().arrayBuffers;
    for (let count = 0; count < 500; count++) {
      decoder.push(piece);
      const event = decoder.next();
      expect(event?.type === "data" && event.bytes.buffer === piece.buffer && event.bytes.length === piece.length).toBe(true);
      expect(decoder.next()).toBeUndefined();
    }
    expect(decoder.position).toBe(strs("nix-archive-1", "(", "type", "regular", "contents").length + 8 + 500 * 1024 * 1024);
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(4 * 1024 * 1024);
  });
});

describe("properties", () => {
  test("NarDecoder gives back any tree, however its NAR is cut", () => {
    fc.assert(
      fc.property(arbitraryTree, arbitraryPieceSizes, (tree, sizes) => {
        const nar = referenceNar(tree);
        expectBytes(referenceNar(treeOfEvents(decodeNar(cutInto(nar, sizes)))), nar);
      }),
      { numRuns: 200 },
    );
  });

  test("NarDecoder rejects any NAR cut short, and any with a byte more", () => {
    fc.assert(
      fc.property(arbitraryTree, arbitraryPieceSizes, fc.nat(), (tree, sizes, seed) => {
        const nar = referenceNar(tree);
        const end = seed % nar.length;
        expect(failure(cutInto(nar.subarray(0, end), sizes))).toContain(`input ends at byte ${end}`);
        expect(failure(cutInto(Buffer.concat([nar, Uint8Array.of(seed)]), sizes))).toContain(`found data after the end at byte ${nar.length}`);
      }),
      { numRuns: 100 },
    );
  });

  test("NarDecoder reads a mutated NAR or throws ERR_NAR_INVALID, the same in any cut", () => {
    const random = seededRandom(20_260_801);
    const originals = [...SMALL, ...VALID_OF_NIX].map((name) => narVector(`${name}.nar`));
    const outcomes = { accepted: 0, rejected: 0 };
    for (let run = 0; run < 2_000; run++) {
      const mutant = mutateNar(originals[run % originals.length] as Uint8Array, random);
      const whole = outcome([mutant]);
      const cut = outcome(chunked(mutant, 1 + random(40)));
      if (typeof whole === "string") {
        outcomes.rejected++;
        expect(typeof cut === "string" && withoutFound(cut)).toBe(withoutFound(whole));
      } else {
        outcomes.accepted++;
        expect(cut).toEqual(whole);
        // What is accepted is canonical: it is the NAR of its tree.
        expectBytes(referenceNar(treeOfEvents(whole)), mutant);
      }
    }
    expect(outcomes.rejected).toBeGreaterThan(1_000);
    expect(outcomes.accepted).toBeGreaterThan(20);
  });
});

/** The message that a NAR is rejected with. */
function failure(pieces: Iterable<Uint8Array>): string {
  const result = outcome(pieces);
  return typeof result === "string" ? result : expect.unreachable("it was accepted");
}

/** A tag that is wrong at its first byte is refused before it can be named: what was found depends on the cut, where does not. */
function withoutFound(message: string): string {
  return message.replace(/, found .* at byte/, " at byte");
}

/** A NAR's events, or the message of ERR_NAR_INVALID; anything else that is thrown is thrown on. */
function outcome(pieces: Iterable<Uint8Array>): ReturnType<typeof decodeNar> | string {
  try {
    return decodeNar(pieces);
  } catch (error) {
    if (isNarborError(error, "ERR_NAR_INVALID")) return error.message;
    throw error;
  }
}

/** A NAR up to and with the first entry's bracket, and what comes then. */
function inDirectory(...values: readonly Part[]): Uint8Array {
  return strs(raw(HEAD), "(", "type", "directory", "entry", "(", ...values);
}

function unordered(...entries: readonly (readonly [name: string, tree: Tree])[]): Tree {
  return { type: "directory", entries: entries.map(([name, tree]) => [Buffer.from(name), tree]) };
}

/** A node at that depth. */
function nested(depth: number, leaf: Tree): Tree {
  return depth === 0 ? leaf : directory({ a: nested(depth - 1, leaf) });
}

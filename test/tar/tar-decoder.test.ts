import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isNarborError } from "../../src/errors.ts";
import type { TarDecoderOptions } from "../../src/tar/tar-decoder.ts";
import { TarDecoder } from "../../src/tar/tar-decoder.ts";
import type { TarEvent } from "../../src/tar/tar-event.ts";
import { arbitraryPieceSizes, cutInto } from "../arbitrary/nar-tree.ts";
import { chunked, cuts, expectBytes } from "../helpers/bytes.ts";
import { base256, END, GNU, longName, pax, tarEntry, tarHeader } from "../helpers/reference-tar.ts";
import type { PlainTar } from "../helpers/tar-events.ts";
import { decodeTar } from "../helpers/tar-events.ts";
import { seededRandom } from "../nar/mutate-nar.ts";
import { mutateTar } from "./mutate-tar.ts";
import { READ, REFUSED } from "./tar-cases.ts";

describe("what is read", () => {
  test.for(READ.map((read) => [read.what, read] as const))("TarDecoder reads %s", ([, { archive, entries }]) => {
    const tar = decodeTar([archive]);
    expect(tar.entries).toMatchObject(entries);
    expectBytes(tar.bytes, archive);
  });

  test.for(READ.map((read) => [read.what, read] as const))("TarDecoder reads the same in every cut: %s", ([, { archive }]) => {
    const whole = decodeTar([archive]);
    for (const [how, pieces] of cuts(archive)) expectSame(decodeTar(pieces), whole, how);
    const step = archive.length > 8_000 ? 97 : archive.length > 3_000 ? 7 : 1;
    for (let at = 0; at <= archive.length; at += step) expectSame(decodeTar([archive.subarray(0, at), archive.subarray(at)]), whole, `cut at ${at}`);
  });

  test("TarDecoder says where an entry's own header is", () => {
    const archive = Buffer.concat([tarEntry({ name: "a" }, "hello"), longName("b"), pax([["uid", "1"]]), tarHeader({ name: "c" }), END]);
    expect(decodeTar([archive]).entries).toMatchObject([{ offset: 0, dataOffset: 512 }, { path: "b", offset: 3_072, dataOffset: 3_584 }]);
  });

  test("TarDecoder gives its events in the order of the archive's bytes, with as few that are raw as there can be", () => {
    const archive = Buffer.concat([pax([["uid", "1"]]), tarEntry({ name: "a" }, "hello"), tarHeader({ name: "d/", type: "5" }), END, Buffer.from("more")]);
    expect(eventsOf([archive])).toEqual([["raw", 1_536], ["entry"], ["data", 5], ["endEntry"], ["raw", 1_019], ["entry"], ["endEntry"], ["raw", 1_028]]);
    expect(eventsOf([archive.subarray(0, 1_537), archive.subarray(1_537)])).toEqual(
      [["raw", 1_536], ["entry"], ["data", 1], ["data", 4], ["endEntry"], ["raw", 1_019], ["entry"], ["endEntry"], ["raw", 1_028]],
    );
  });

  test("TarDecoder gives contents as views of what was pushed", () => {
    const archive = tarEntry({ name: "a" }, "hello");
    const decoder = new TarDecoder();
    decoder.push(archive);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) {
      if (event.type === "data" || event.type === "raw") expect(event.bytes.buffer).toBe(archive.buffer);
      if (event.type === "entry") expect(event.entry.path.buffer).not.toBe(archive.buffer);
    }
  });

  test("TarDecoder takes pieces before the events of those before them have been taken", () => {
    const archive = Buffer.concat([tarEntry({ name: "a" }, "hello"), tarEntry({ name: "b" }, "world"), END]);
    const decoder = new TarDecoder();
    const types: string[] = [];
    for (const piece of chunked(archive, 100)) {
      decoder.push(piece);
      const event = decoder.next();
      if (event !== undefined) types.push(event.type);
    }
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) types.push(event.type);
    decoder.end();
    expect(types.filter((type) => type === "entry" || type === "endEntry")).toEqual(["entry", "endEntry", "entry", "endEntry"]);
  });
});

describe("global PAX headers", () => {
  const archive = Buffer.concat([
    pax([["path", "of all"], ["uid", "7"], ["mtime", "5.5"], ["size", "5"], ["SCHILY.xattr.user.a", "of one"], ["GNU.sparse.map", "0,5"], ["GNU.sparse.numblocks", "1"]], "g"),
    tarEntry({ name: "a", gid: 9, size: 0 }, "hello"),
    pax([["uid", "8"], ["path", ""]]),
    tarEntry({ name: "b" }, "world"),
    pax([["gid", "3"], ["size", ""], ["path", ""]], "g"),
    tarEntry({ name: "c" }, "!"),
    END,
  ]);

  test("TarDecoder applies them to all that follows, where an entry's own records do not say other", () => {
    const { entries, bytes } = decodeTar([archive]);
    expect(entries).toMatchObject([
      { path: "of all", uid: 7, gid: 9, mtime: 5.5, data: "hello", xattrs: {}, sparse: undefined },
      { path: "b", uid: 8, gid: 0, mtime: 5.5, data: "world" },
      { path: "c", uid: 7, gid: 3, mtime: 5.5, data: "!" },
    ]);
    expectBytes(bytes, archive);
  });

  test("TarDecoder ignores them when it is asked to", () => {
    const harmless = Buffer.concat([pax([["path", "of all"], ["uid", "7"], ["size", "9"]], "g"), tarEntry({ name: "a" }, "hello"), END]);
    expect(decodeTar([harmless], { globalHeaders: "ignore" }).entries).toMatchObject([{ path: "a", uid: 0, data: "hello" }]);
    expect(failure([archive], { globalHeaders: "ignore" })).toBe("header checksum is 0, its fields give 788, at byte 1536");
  });
});

describe("what is refused", () => {
  test.for(REFUSED.map((refused) => [refused.what, refused] as const))("TarDecoder refuses %s, the same in every cut", ([, { archive, error }]) => {
    expect(failure([archive])).toBe(error);
    const pieces = archive.length > 20_000 ? [["in pieces of 499", chunked(archive, 499)] as const] : cuts(archive);
    for (const [how, cut] of pieces) expect(failure(cut), how).toBe(error);
  });

  test.for(READ.filter(({ archive, what }) => archive.length < 8_000 && !what.includes("global")).map((read) => [read.what, read] as const))("TarDecoder refuses an archive cut short, but for where it may end: %s", ([, { archive }]) => {
    const allowed = endsOf(archive);
    for (let end = 0; end <= archive.length; end++) {
      const part = archive.subarray(0, end);
      const result = outcome(end % 5 === 0 ? chunked(part, 300) : [part]);
      const found = typeof result !== "string" ? "read" : /^input ends within .* at byte \d+$/.test(result) && result.endsWith(`byte ${end}`) ? "refused" : result;
      if (found !== (allowed.has(end) ? "read" : "refused")) expect.unreachable(`cut at ${end}: ${found}`);
    }
  });
});

describe("lengths from outside", () => {
  const HUGE = [2n ** 31n, 2n ** 32n, 10_000_000_000n, 2n ** 53n - 1n];

  test("TarDecoder takes no memory for a huge size", () => {
    for (const huge of HUGE) {
      for (const type of ["0", "D", "S"]) {
        const memory = process.memoryUsage().arrayBuffers;
        const sparse = type === "S" ? Buffer.concat([Buffer.from("00000000000\0"), base256(huge, 12)]) : "";
        const decoder = new TarDecoder();
        decoder.push(tarHeader({ type, magic: GNU, size: base256(huge, 12), ...(type === "S" && { sparse, realSize: base256(huge, 12) }) }));
        expect(decoder.next()).toMatchObject({ type: "raw" });
        expect(decoder.next()).toMatchObject({ type: "entry", entry: { size: Number(huge) } });
        expect(decoder.next()).toBeUndefined();
        expect(() => decoder.end()).toThrow("within the contents of");
        expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(1_000_000);
      }
    }
  });

  test("TarDecoder takes no memory for what an extended header says of its length, and no time for its pieces", () => {
    const decoder = new TarDecoder();
    const memory = process.memoryUsage().arrayBuffers;
    decoder.push(tarHeader({ type: "x", size: 1_048_576 }));
    expect(decoder.next()).toMatchObject({ type: "raw" });
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(100_000);
    const started = performance.now();
    for (let count = 0; count < 1_048_575; count++) {
      decoder.push(Uint8Array.of(0x30));
      while (decoder.next() !== undefined);
    }
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  test("TarDecoder hands on the data of a huge file piece by piece and keeps none of it", () => {
    const decoder = new TarDecoder();
    decoder.push(tarHeader({ magic: GNU, size: base256(2n ** 40n, 12) }));
    while (decoder.next() !== undefined);
    const piece = new Uint8Array(1024 * 1024);
    const memory = process.memoryUsage().arrayBuffers;
    for (let count = 0; count < 500; count++) {
      decoder.push(piece);
      const event = decoder.next();
      expect(event?.type === "data" && event.bytes.buffer === piece.buffer && event.bytes.length === piece.length).toBe(true);
      expect(decoder.next()).toBeUndefined();
    }
    expect(decoder.position).toBe(512 + 500 * 1024 * 1024);
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(4 * 1024 * 1024);
  });

  test("TarDecoder keeps nothing of the names that no entry has", () => {
    const archive = Buffer.concat([pax([["comment", "c".repeat(1_000_000)], ["path", "b"], ["SCHILY.xattr.user.a", "x"]]), tarEntry({ name: "a" }, "hello"), END]);
    const decoder = new TarDecoder();
    decoder.push(archive);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) {
      if (event.type !== "entry") continue;
      expect(event.entry.path.buffer.byteLength).toBe(1);
      expect(event.entry.xattrs.get("user.a")?.buffer.byteLength).toBe(1);
    }
  });
});

describe("properties", () => {
  const parts = READ.filter(({ archive, hasEnd }) => archive.length < 20_000 && hasEnd);

  test("TarDecoder reads archives of anything after anything, however they are cut", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: parts.length - 1 }), { minLength: 1, maxLength: 6 }), arbitraryPieceSizes, (indexes, sizes) => {
        const chosen = indexes.map((index) => parts[index] as (typeof parts)[0]);
        const archive = Buffer.concat([...chosen.map((part) => part.archive.subarray(0, -END.length)), END]);
        const tar = decodeTar(cutInto(archive, sizes));
        expect(tar.entries).toMatchObject(chosen.flatMap(({ entries }) => entries));
        expectBytes(tar.bytes, archive);
      }),
      { numRuns: 200 },
    );
  });

  test("TarDecoder reads any bytes or throws ERR_TAR_INVALID", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3_000 }), arbitraryPieceSizes, (bytes, sizes) => {
        expectSame(outcome(cutInto(bytes, sizes)), outcome([bytes]), "cut");
      }),
      { numRuns: 200 },
    );
  });

  test("TarDecoder reads a mutated archive or throws ERR_TAR_INVALID, the same in any cut, and gives back its bytes", () => {
    const random = seededRandom(20_260_801);
    const outcomes = { read: 0, refused: 0 };
    const originals = READ.filter(({ archive }) => archive.length < 20_000);
    for (let run = 0; run < 4_000; run++) {
      const mutant = mutateTar((originals[run % originals.length] as (typeof originals)[0]).archive, random);
      const whole = outcome([mutant]);
      const cut = outcome(chunked(mutant, 1 + random(1_500)));
      expectSame(cut, whole, `run ${run}`);
      if (typeof whole === "string") outcomes.refused++;
      else {
        outcomes.read++;
        expectBytes(whole.bytes, mutant);
      }
    }
    expect(outcomes.refused).toBeGreaterThan(500);
    expect(outcomes.read).toBeGreaterThan(500);
  });
});

/** The message that an archive is refused with, after what all of them begin with. */
function failure(pieces: Iterable<Uint8Array>, options?: TarDecoderOptions): string {
  const result = outcome(pieces, options);
  return typeof result === "string" ? result : expect.unreachable("it was read");
}

/** What is in an archive, or the message of ERR_TAR_INVALID; anything else that is thrown is thrown on. */
function outcome(pieces: Iterable<Uint8Array>, options?: TarDecoderOptions): PlainTar | string {
  try {
    return decodeTar(pieces, options);
  } catch (error) {
    if (isNarborError(error, "ERR_TAR_INVALID")) return error.message.replace(/^Cannot parse tar: /, "");
    throw error;
  }
}

/** `toEqual` takes milliseconds for this, of which there are too many. */
function expectSame(actual: PlainTar | string, expected: PlainTar | string, how: string): void {
  if (!isDeepStrictEqual(actual, expected)) expect(actual, how).toEqual(expected);
}

function eventsOf(pieces: Iterable<Uint8Array>): [type: string, length?: number][] {
  const decoder = new TarDecoder();
  const events: [type: string, length?: number][] = [];
  for (const piece of pieces) {
    decoder.push(piece);
    for (let event: TarEvent | undefined = decoder.next(); event !== undefined; event = decoder.next()) {
      events.push("bytes" in event ? [event.type, event.bytes.length] : [event.type]);
    }
  }
  return events;
}

/** Where an archive may end: between entries, in the padding of one, after one block of zeros, and anywhere after two. */
function endsOf(archive: Buffer): ReadonlySet<number> {
  const ends = new Set<number>([0]);
  const { entries } = decodeTar([archive]);
  let last = 0;
  for (const { dataOffset, storedSize } of entries) {
    const end = dataOffset + storedSize;
    last = Math.ceil(end / 512) * 512;
    for (let at = end; at <= last; at++) ends.add(at);
  }
  ends.add(last + 512);
  for (let at = last + 1_024; at <= archive.length; at++) ends.add(at);
  return ends;
}

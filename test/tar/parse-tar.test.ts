import { expect, test } from "vitest";
import { parseTar, TarReader } from "../../src/tar/parse-tar.ts";
import { chunked, cuts, expectBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { END, longName, pax, tarEntry, tarHeader } from "../helpers/reference-tar.ts";
import { decodeTar, parsedTar } from "../helpers/tar-events.ts";
import { sourceOf, TrackedSource } from "../helpers/tracked-source.ts";

const ARCHIVE = Buffer.concat([tarEntry({ name: "a" }, "hello"), longName("b/".repeat(80)), tarHeader({ type: "5" }), pax([["uid", "7"]]), tarEntry({ name: "c" }, "x".repeat(1_000)), END]);

test("parseTar() gives the decoder's events in every cut, and closes its source", async () => {
  for (const [how, pieces] of cuts(ARCHIVE)) {
    const source = new TrackedSource(pieces);
    const tar = await parsedTar(source);
    expect(tar.entries, how).toEqual(decodeTar([ARCHIVE]).entries);
    expectBytes(tar.bytes, ARCHIVE);
    expect(source).toMatchObject({ opened: 1, closed: true });
  }
});

test("parseTar() rejects an archive that is cut short", async () => {
  await expectCode(parsedTar(sourceOf(...chunked(ARCHIVE.subarray(0, 600), 50), new Uint8Array(0), ARCHIVE.subarray(600, 1_030))), "ERR_TAR_INVALID", "input ends within a header at byte 1030");
});

test("parseTar() closes its source when a rule is broken", async () => {
  const source = new TrackedSource([Buffer.alloc(600, "no archive"), ARCHIVE]);
  await expectCode(parsedTar(source), "ERR_TAR_INVALID", "header checksum is not a number at byte 0");
  expect(source).toMatchObject({ taken: 1, returned: true });
});

test("parseTar() closes its source when it is stopped early, and reads no further than it is asked to", async () => {
  const source = new TrackedSource(chunked(ARCHIVE, 100));
  for await (const event of parseTar(source)) if (event.type === "entry") break;
  expect(source).toMatchObject({ taken: 6, returned: true });
});

test("parseTar() rejects with its source's own error", async () => {
  const failure = new Error("the connection broke");
  await expectReason(parsedTar(new TrackedSource([ARCHIVE.subarray(0, 500)], { fail: failure })), failure);
});

test("parseTar() does not open its source before it is asked for an event", async () => {
  const source = new TrackedSource([ARCHIVE]);
  await parseTar(source).return();
  expect(source.opened).toBe(0);
});

test("TarReader.next() gives what is at hand, and fill() says whether more may come", async () => {
  const reader = new TarReader(sourceOf(pax([["path", "of all"]], "g"), tarEntry({ name: "a" }), END), { globalHeaders: "ignore" });
  expect(reader.next()).toBeUndefined();
  expect(await reader.fill()).toBe(true);
  expect(reader.next()).toMatchObject({ type: "raw" });
  expect(reader.next()).toBeUndefined();
  expect(await reader.fill()).toBe(true);
  expect(reader.next()).toMatchObject({ type: "raw" });
  expect(reader.next()).toMatchObject({ type: "entry", entry: { path: new Uint8Array([0x61]) } });
  expect(reader.next()).toEqual({ type: "endEntry" });
  expect(await reader.fill()).toBe(true);
  expect(reader.next()).toMatchObject({ type: "raw" });
  expect(await reader.fill()).toBe(false);
  await reader.close();
});

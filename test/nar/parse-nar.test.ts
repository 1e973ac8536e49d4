import * as fc from "fast-check";
import { expect, test } from "vitest";
import { NarReader, parseNar } from "../../src/nar/parse-nar.ts";
import { arbitraryPieceSizes, arbitraryTree, cutInto } from "../arbitrary/nar-tree.ts";
import { chunked, cuts, expectBytes } from "../helpers/bytes.ts";
import { decodeNar, parsedNar, treeOfEvents } from "../helpers/nar-events.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { sourceOf, streamOf, TrackedSource } from "../helpers/tracked-source.ts";
import { narVector } from "../helpers/vectors.ts";

const COMPLICATED = narVector("complicated.nar");

test("parseNar() gives the decoder's events in every cut, and closes its source", async () => {
  for (const [how, pieces] of cuts(COMPLICATED)) {
    const source = new TrackedSource(pieces);
    expect(await parsedNar(source), how).toEqual(decodeNar([COMPLICATED]));
    expect(source).toMatchObject({ opened: 1, closed: true });
  }
});

test("parseNar() gives back any tree, however its NAR is cut", async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryTree, arbitraryPieceSizes, async (tree, sizes) => {
      const nar = referenceNar(tree);
      expectBytes(referenceNar(treeOfEvents(await parsedNar(streamOf(cutInto(nar, sizes))))), nar);
    }),
    { numRuns: 50 },
  );
});

test("parseNar() rejects a NAR cut short at every byte", async () => {
  const nar = narVector("symlink.nar");
  for (let end = 0; end < nar.length; end++) {
    await expectCode(parsedNar(sourceOf(...chunked(nar.subarray(0, end), 50))), "ERR_NAR_INVALID", `input ends at byte ${end}`);
  }
});

test("parseNar() reads its source to the end, and rejects a byte that comes long after the NAR", async () => {
  const source = new TrackedSource([COMPLICATED, new Uint8Array(0), Uint8Array.of(0)]);
  await expectCode(parsedNar(source), "ERR_NAR_INVALID", "found data after the end at byte 840");
  expect(source.closed).toBe(true);
});

test("parseNar() closes its source when a rule is broken", async () => {
  const source = new TrackedSource([narVector("invalid/dot.nar"), COMPLICATED]);
  await expectCode(parsedNar(source), "ERR_NAR_INVALID", "invalid name");
  expect(source).toMatchObject({ taken: 1, returned: true });
});

test("parseNar() closes its source when it is stopped early", async () => {
  const source = new TrackedSource(chunked(COMPLICATED, 100));
  for await (const event of parseNar(source)) if (event.type === "symlink") break;
  expect(source.returned).toBe(true);
  expect(source.taken).toBeLessThan(9);
});

test("parseNar() rejects with its source's own error", async () => {
  const failure = new Error("the connection broke");
  await expectReason(parsedNar(new TrackedSource([COMPLICATED.subarray(0, 500)], { fail: failure })), failure);
});

test("parseNar() reads no further than it is asked to", async () => {
  const source = new TrackedSource(chunked(COMPLICATED, 100));
  const events = parseNar(source);
  await events.next();
  expect(source.taken).toBe(1);
  await events.return();
});

test("NarReader.next() gives what is at hand, and fill() says whether more may come", async () => {
  const reader = new NarReader(sourceOf(narVector("symlink.nar")));
  expect(reader.next()).toBeUndefined();
  expect(await reader.fill()).toBe(true);
  expect(reader.next()).toMatchObject({ type: "symlink" });
  expect(reader.next()).toBeUndefined();
  expect(await reader.fill()).toBe(false);
});

import { expect, test } from "vitest";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { openGrpc } from "../../helpers/grpc-store.ts";
import { openPacks } from "../../helpers/open-stores.ts";
import { within } from "../../helpers/promises.ts";

test("thirty readers of one connection get all of their blobs, though most may not read far ahead", async () => {
  await using opened = await openGrpc(openPacks())();
  const { blobs } = opened.service;
  const many = Array.from({ length: 60 }, (_, index) => toSmallBlob(sampleBytes(100_000, index)));
  await blobs.putMany(many);
  const readers = Array.from({ length: 30 }, () => blobs.readMany(many)[Symbol.asyncIterator]());
  for (const reader of readers) expectBytes((await within(reader.next())).value as Uint8Array, many[0]?.bytes as Uint8Array);
  // Some leave, and others come in their place.
  for (const reader of readers.splice(0, 10)) await reader.return?.();
  for (let index = 0; index < 10; index++) {
    const late = blobs.readMany(many)[Symbol.asyncIterator]();
    await late.next();
    readers.push(late);
  }
  for (const reader of readers) {
    for (const { bytes } of many.slice(1)) expectBytes((await within(reader.next())).value as Uint8Array, bytes);
    expect((await reader.next()).done).toBe(true);
  }
});

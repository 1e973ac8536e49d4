/**
 * What `DocumentIndex` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { DocumentIndex, DocumentRecord } from "../../src/store/document-index.ts";
import { collectItems } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const LOG = documentOf("log/0abc-hello.drv", "a build log");

const EVERY_METHOD: readonly (readonly [name: string, call: (documents: DocumentIndex, options: CallOptions) => Promise<unknown>])[] = [
  ["get", (documents, options) => documents.get(LOG.name, options)],
  ["put", (documents, options) => documents.put(LOG, options)],
  ["list", (documents, options) => collectItems(documents.list("", options))],
  ["delete", (documents, options) => documents.delete(LOG.name, options)],
];

/** Names that an index may take for something else than a name. */
const NAMES = [
  "log/0abc-hello.drv",
  "realisations/sha256:00ff%21out.doi",
  "build-trace-v2/a b/ü\u{1f600}.doi",
  "__proto__",
  "%_' OR 1=1 --",
  `debuginfo/${"0".repeat(2_000)}.debug`,
];

export const DOCUMENT_INDEX_CASES: readonly ConformanceCase<DocumentIndex>[] = [
  {
    name: "get() of a document that was never put is undefined",
    run: async (documents) => {
      await documents.put(LOG);
      for (const name of ["log/0abc-hello", "LOG/0abc-hello.drv", "", "log/0abc-hello.drv/"]) expect(await documents.get(name)).toBeUndefined();
    },
  },
  ...NAMES.map((name) => ({
    name: `get() gives the document that was put as ${name.slice(0, 40)}`,
    run: async (documents: DocumentIndex) => {
      await documents.put(LOG);
      const document = documentOf(name, "something");
      await documents.put(document);
      expectSame(await documents.get(name), document);
    },
  })),
  {
    name: "put() of another document under the same name counts from then on",
    run: async (documents) => {
      for (const contents of ["first", "second, longer", "", "first"]) {
        const document = documentOf(LOG.name, contents);
        await documents.put(document);
        expectSame(await documents.get(LOG.name), document);
      }
    },
  },
  {
    name: "put() counts the last of many that are put at once in their order",
    run: async (documents) => {
      const versions = Array.from({ length: 20 }, (_, index) => documentOf(LOG.name, `version ${index}`));
      await Promise.all(versions.map((document) => documents.put(document)));
      expectSame(await documents.get(LOG.name), versions.at(-1) as DocumentRecord);
    },
  },
  {
    name: "put() of many documents stores them all",
    run: async (documents) => {
      const many = Array.from({ length: 100 }, (_, index) => documentOf(`log/${index}`, String(index)));
      await Promise.all(many.map((document) => documents.put(document)));
      for (const document of many) expectSame(await documents.get(document.name), document);
    },
  },
  {
    name: "list() gives each document whose name begins so, in the order of their bytes",
    run: async (documents) => {
      // In UTF-16 the third would be the last.
      const names = ["image/", "image/a", "image/\uffee", "image/\u{1f600}"];
      const others = ["imag", "image", "imagf", "zebra", "IMAGE/a"];
      for (const name of [...names, ...others].reverse()) await documents.put(documentOf(name, name));
      await documents.put(documentOf("image/a", "again"));
      const listed = await collectItems(documents.list("image/"));
      expect(listed.map(({ name }) => name)).toEqual(names);
      expectSame(listed[1], documentOf("image/a", "again"));
      expect(await collectItems(documents.list("images"))).toEqual([]);
      expect(await collectItems(documents.list(""))).toHaveLength(9);
    },
  },
  {
    name: "list() may be stopped early, and another one put meanwhile",
    run: async (documents) => {
      for (let index = 0; index < 10; index++) await documents.put(documentOf(`log/${index}`, ""));
      let taken = 0;
      for await (const _document of documents.list("log/")) {
        await documents.put(documentOf("log/zebra", ""));
        if (++taken === 3) break;
      }
      expect(await collectItems(documents.list("log/"))).toHaveLength(11);
    },
  },
  {
    name: "list() rejects with the signal's reason when it fires between two",
    run: async (documents) => {
      for (let index = 0; index < 10; index++) await documents.put(documentOf(`log/${index}`, ""));
      const controller = new AbortController();
      const reason = new Error("the reader left");
      const reading = async (): Promise<void> => {
        for await (const _document of documents.list("", { signal: controller.signal })) controller.abort(reason);
      };
      await expectReason(reading(), reason);
    },
  },
  {
    name: "delete() forgets a document and says whether there was one; it may be put again",
    run: async (documents) => {
      const other = documentOf("log/other", "stays");
      for (const document of [LOG, other]) await documents.put(document);
      expect(await documents.delete(LOG.name)).toBe(true);
      expect(await documents.get(LOG.name)).toBeUndefined();
      expect((await collectItems(documents.list(""))).map(({ name }) => name)).toEqual([other.name]);
      expect(await documents.delete(LOG.name)).toBe(false);
      expect(await documents.delete("log/never")).toBe(false);
      await documents.put(LOG);
      expectSame(await documents.get(LOG.name), LOG);
      expect(await collectItems(documents.list("log/"))).toHaveLength(2);
    },
  },
  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (documents: DocumentIndex) => {
        const reason = new Error("gone before it began");
        await expectReason(call(documents, { signal: AbortSignal.abort(reason) }), reason);
        expect(await documents.get(LOG.name)).toBeUndefined();
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (documents: DocumentIndex, { close }: { readonly close: () => Promise<void> }) => {
        await documents.put(LOG);
        await close();
        await expectCode(call(documents, {}), "ERR_CLOSED");
      },
    },
  ]),
];

/** Test that a service keeps the contract of `DocumentIndex`. */
export function documentIndexConformance(open: Open<DocumentIndex>): void {
  registerCases(DOCUMENT_INDEX_CASES, open);
}

function documentOf(name: string, contents: string): DocumentRecord {
  const { digest, bytes } = toSmallBlob(new Uint8Array(Buffer.from(contents)));
  return { name, digest, size: bytes.length };
}

function expectSame(actual: DocumentRecord | undefined, expected: DocumentRecord): void {
  expect(actual && comparable(actual)).toEqual(comparable(expected));
}

function comparable({ digest, ...rest }: DocumentRecord): object {
  return { ...rest, digest: Buffer.from(digest).toString("hex") };
}

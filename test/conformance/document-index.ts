/**
 * What `DocumentIndex` promises, sentence by sentence.
 */
import { expect } from "vitest";
import type { CallOptions } from "../../src/castore/call-options.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { DocumentIndex, DocumentRecord } from "../../src/store/document-index.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const LOG = documentOf("log/0abc-hello.drv", "a build log");

const EVERY_METHOD: readonly (readonly [name: string, call: (documents: DocumentIndex, options: CallOptions) => Promise<unknown>])[] = [
  ["get", (documents, options) => documents.get(LOG.name, options)],
  ["put", (documents, options) => documents.put(LOG, options)],
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

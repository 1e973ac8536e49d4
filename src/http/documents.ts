/** Small files beside the NARs: build logs, realisations, debug information. Kept as they came, served as plain text or JSON whatever they are. */
import { parseContentEncoding } from "../compression/codec.ts";
import { decompress } from "../compression/decompress.ts";
import { NarborError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";

/** What may be kept, by name. The type is ours to say: a client's could make a browser run what it sent. */
const KINDS = [
  { pattern: /^log\/[0-9a-zA-Z+._?=-]{1,255}$/, contentType: "text/plain; charset=utf-8", limit: 256 * 1024 * 1024 },
  { pattern: /^realisations\/sha256:[0-9a-f]{64}![0-9a-zA-Z+._?=-]{1,255}\.doi$/, contentType: "application/json", limit: 1024 * 1024 },
  { pattern: /^build-trace-v2\/[0-9a-zA-Z+._?=-]{1,255}\/[0-9a-zA-Z+._?=-]{1,255}\.doi$/, contentType: "application/json", limit: 1024 * 1024 },
  { pattern: /^debuginfo\/[0-9a-f]{40,64}(\.debug)?$/, contentType: "application/json", limit: 1024 * 1024 },
] as const;

/** Whether a path in the cache is one of these, and which. */
export function documentKind(path: string): (typeof KINDS)[number] | undefined {
  return KINDS.find(({ pattern }) => pattern.test(path));
}

/** `GET` and `HEAD`. */
export async function getDocument(request: HttpRequest, contentType: string, store: Store): Promise<HttpAnswer> {
  const { signal } = request;
  const document = await store.documents.get(request.path, { signal });
  if (document === undefined) throw new NarborError("ERR_NOT_FOUND", `There is no ${request.path} here`);
  const body = await store.blobs.openRead(document.digest, { signal });
  if (body === undefined) throw new NarborError("ERR_DATA_LOSS", `The contents of ${request.path} are not here any more`);
  return {
    status: 200,
    headers: { "content-type": contentType, "content-length": document.size, "x-content-type-options": "nosniff" },
    body,
  };
}

/** `PUT`. The last one counts. */
export async function putDocument(request: HttpRequest, limit: number, store: Store): Promise<HttpAnswer> {
  const { signal } = request;
  let size = 0;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    const codec = parseContentEncoding(request.headers["content-encoding"]);
    for await (const bytes of codec === "none" ? request.body : decompress(request.body, { codec, signal })) {
      size += bytes.length;
      if (size > limit) throw new NarborError("ERR_LIMIT", `Cannot store ${request.path}: more than ${limit} bytes`);
      yield bytes;
    }
  }
  const digest = await store.blobs.put(counted(), { signal });
  await store.documents.put({ name: request.path, digest, size }, { signal });
  return textAnswer(201, "");
}

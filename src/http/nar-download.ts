/** `GET` and `HEAD` of NARs, rendered from castore. */
import { fromBase64Url, toBase64Url } from "../bytes/text-encoding.ts";
import { decodeRootNode, encodeEntry } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import type { Codec } from "../compression/codec.ts";
import { compress } from "../compression/compress.ts";
import { NarborError } from "../errors.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import type { NarPlans } from "../render/nar-plans.ts";
import type { NarRecord } from "../store/nar-index.ts";
import type { Store } from "../store/store.ts";
import { parseByteRange } from "./byte-range.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";
import type { NarFileName } from "./nar-file-name.ts";
import { FRAMED_SUFFIX } from "./nar-file-name.ts";

const NAR_TYPE = "application/x-nix-nar";
/** The name says what the bytes are, so they never change. */
const IMMUTABLE = "public, max-age=31536000, immutable";

/** `nar/<hash>.nar[.…]`: by NarHash, as we serve it, or by FileHash, as it was uploaded. */
export async function getNarFile(request: HttpRequest, name: NarFileName, store: Store, plans: NarPlans): Promise<HttpAnswer> {
  const { signal } = request;
  const uploaded = await store.nars.byFileHash(name.sha256, { signal });
  const nar = name.suffix === "" && (uploaded === undefined || uploaded.codec === "none") ? await store.nars.byNarHash(name.sha256, { signal }) : undefined;
  if (nar !== undefined) return await answerKnownNar(request, nar, plans);
  // One that was uploaded as it is has the same name.
  if (name.suffix === FRAMED_SUFFIX && (uploaded === undefined || uploaded.codec === "none")) return await answerFramedNar(request, name.sha256, store, plans);
  if (uploaded === undefined) throw new NarborError("ERR_NOT_FOUND", "There is no such NAR here");
  return await answerCompressed(request, uploaded.root, uploaded.codec, plans);
}

/**
 * The file as it was uploaded, which is not kept: the NAR is rendered and compressed again. Its bytes are others, but a client that pushed it
 * remembers its name for 30 days, and comes back for a NAR in that compression (it never checks FileHash). It also asks `HEAD` before an upload, and
 * skips that on a yes: the narinfo that follows will do alone.
 */
async function answerCompressed(request: HttpRequest, root: Node, codec: Codec, plans: NarPlans): Promise<HttpAnswer> {
  const { signal } = request;
  // No length, no range, no ETag: how the compressed bytes fall is not a promise.
  const headers = { "content-type": NAR_TYPE };
  if (request.method === "HEAD") return { status: 200, headers };
  const plan = await plans.plan(root, { signal });
  return { status: 200, headers, body: compress(plans.render(root, plan, { signal }), codec, { signal }) };
}

/** `nar/snix-castore/<Entry>?narsize=N`: a tree by its root node, as snix and tvix serve it. */
export async function getCastoreNar(request: HttpRequest, entry: string, plans: NarPlans): Promise<HttpAnswer> {
  const root = parseEntry(entry);
  const size = request.query.get("narsize") ?? "";
  if (!/^\d{1,16}$/.test(size)) throw new NarborError("ERR_INVALID", "Cannot serve the NAR: the URL needs ?narsize=, its size in bytes");
  return await answerNar(request, root, Number(size), `"${toBase64Url(encodeEntry(root))}"`, plans);
}

/** `nar/<NarHash>.nar.zst`: in the frames in which it is stored. */
async function answerFramedNar(request: HttpRequest, narSha256: Uint8Array, store: Store, plans: NarPlans): Promise<HttpAnswer> {
  const { signal } = request;
  const nar = await store.nars.byNarHash(narSha256, { signal });
  if (nar === undefined) throw new NarborError("ERR_NOT_FOUND", "There is no such NAR here");
  const plan = await plans.planFramed(nar, { signal });
  // A client may remember the URL from when there was one, or from another server.
  if (plan === undefined) return await answerCompressed(request, nar.root, "zstd", plans);
  return answerRange(request, plan.size, `"${encodeNix32(narSha256)}-${plan.layoutId}"`, (range) => plans.renderFramed(nar.root, plan, "zstd", { signal, ...range }));
}

/** `nar/<NarHash>.nar`, from its frames where it lies in some. */
async function answerKnownNar(request: HttpRequest, nar: NarRecord, plans: NarPlans): Promise<HttpAnswer> {
  const { signal } = request;
  const { root, narSize } = nar;
  const etag = `"${encodeNix32(nar.narSha256)}"`;
  const framed = await plans.planFramed(nar, { signal });
  if (framed?.narSize !== narSize) return await answerNar(request, root, narSize, etag, plans);
  return answerRange(request, narSize, etag, (range) => plans.renderFramed(root, framed, "nar", { signal, ...range }));
}

/** Everything the NAR needs is looked up before the headers go out. */
async function answerNar(request: HttpRequest, root: Node, narSize: number, etag: string, plans: NarPlans): Promise<HttpAnswer> {
  const { signal } = request;
  const plan = await plans.plan(root, { signal });
  if (plan.size !== narSize) {
    throw new NarborError("ERR_NOT_FOUND", `There is no such NAR here: the tree's NAR has ${plan.size} bytes, not ${narSize}`);
  }
  return answerRange(request, narSize, etag, (range) => plans.render(root, plan, { signal, ...range }));
}

function answerRange(request: HttpRequest, size: number, etag: string, render: (range: { readonly start: number; readonly end: number }) => AsyncIterable<Uint8Array>): HttpAnswer {
  const headers = { "content-type": NAR_TYPE, "accept-ranges": "bytes", "cache-control": IMMUTABLE, etag };
  if (request.headers["if-none-match"]?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag || tag.trim() === "*") === true) return { status: 304, headers };
  const ifRange = request.headers["if-range"];
  const range = ifRange === undefined || ifRange === etag ? parseByteRange(request.headers.range, size) : undefined;
  if (range === "unsatisfiable") return textAnswer(416, `There are ${size} bytes\n`, { ...headers, "content-type": "text/plain", "content-range": `bytes */${size}` });
  const { start, end } = range ?? { start: 0, end: size };
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      ...headers,
      "content-length": end - start,
      ...(range !== undefined && { "content-range": `bytes ${start}-${end - 1}/${size}` }),
    },
    body: render({ start, end }),
  };
}

function parseEntry(text: string): Node {
  const bytes = fromBase64Url(text);
  if (bytes === undefined) throw new NarborError("ERR_INVALID", "Cannot serve the NAR: the URL's entry is not base64url");
  return decodeRootNode(bytes);
}

/** `<hash>.narinfo` and `<hash>.ls`. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import { collectBytes } from "../bytes/collect.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { parseContentEncoding } from "../compression/codec.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { decompress } from "../compression/decompress.ts";
import { NarborError } from "../errors.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { formatNarInfo, parseNarInfo } from "../nix/narinfo.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import { equalStorePaths, formatStorePath, parseStorePathHashPart, storePathHashPart } from "../nix/store-path.ts";
import { knownNar } from "../render/known-nar.ts";
import type { NarPlans } from "../render/nar-plans.ts";
import { narListing } from "../render/nar-listing.ts";
import { loadTree } from "../render/tree.ts";
import type { NarRecord } from "../store/nar-index.ts";
import { equalNars } from "../store/nar-index.ts";
import { checkMergedPathInfo, checkPathInfoCounts, narInfoFromPathInfo, pathInfoFromNarInfo } from "../store/path-info.ts";
import type { PathInfo, ServedNar } from "../store/path-info.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";
import { FRAMED_SUFFIX, narUrl, parseNarFileName } from "./nar-file-name.ts";

const NARINFO_LIMIT = 2 * 1024 * 1024;
/** A listing is made from the tree when it is asked for; what a client sends is read to its end and let go. */
const LISTING_LIMIT = 512 * 1024 * 1024;
/** So long no one looks whether a path's NAR is still here: as for the plans of NARs. */
const TEXT_MILLISECONDS = 60_000;

export interface NarInfoPolicy {
  /** Refuse a path whose references are not here. */
  readonly requireReferences: boolean;
}

/** Texts of narinfos that were given out, for as long as the store gives the same object for a path. */
export class NarInfoTexts {
  readonly #texts = new WeakMap<PathInfo, { readonly text: string; readonly madeAt: number }>();

  get(pathInfo: PathInfo): string | undefined {
    const kept = this.#texts.get(pathInfo);
    return kept !== undefined && performance.now() - kept.madeAt < TEXT_MILLISECONDS ? kept.text : undefined;
  }

  keep(pathInfo: PathInfo, text: string): void {
    this.#texts.set(pathInfo, { text, madeAt: performance.now() });
  }
}

export interface NarInfoServices {
  readonly store: Store;
  /** Where NARs are to be served in frames. */
  readonly plans: NarPlans | undefined;
  readonly texts: NarInfoTexts;
}

/** `GET` and `HEAD` of `<hash>.narinfo`: what is known of the path, with our own URL. */
export async function getNarInfo(request: HttpRequest, hashPart: string, { store, plans, texts }: NarInfoServices): Promise<HttpAnswer> {
  // Short looks, which no one need break off: without a signal, a request takes a fifth less.
  const pathInfo = await store.pathInfos.get(parseStorePathHashPart(hashPart));
  // Most of what is asked for is not here, and an error takes a tenth of the time.
  if (pathInfo === undefined) return textAnswer(404, `${noPath(hashPart)}\n`);
  let text = texts.get(pathInfo);
  if (text === undefined) {
    await checkNarIsKnown(pathInfo, store, request);
    text = formatNarInfo(narInfoFromPathInfo(pathInfo, await servedNar(pathInfo, plans, request)));
    texts.keep(pathInfo, text);
  }
  return { status: 200, headers: { "content-type": "text/x-nix-narinfo" }, body: text };
}

/** In frames where there are some, which are a third of the bytes and cost nothing. */
async function servedNar(nar: PathInfo, plans: NarPlans | undefined, request: HttpRequest): Promise<ServedNar> {
  const { narSha256, narSize } = nar;
  const framed = await plans?.framedFile(nar, request);
  if (framed === undefined) return { url: narUrl(narSha256), compression: "none", fileHash: narSha256, fileSize: narSize };
  return { url: narUrl(narSha256, FRAMED_SUFFIX), compression: "zstd", ...framed };
}

/** `PUT <hash>.narinfo`: the NAR is here already, and this says what store path it is. */
export async function putNarInfo(request: HttpRequest, hashPart: string, store: Store, policy: NarInfoPolicy): Promise<HttpAnswer> {
  const { signal } = request;
  const digest = parseStorePathHashPart(hashPart);
  const narInfo = parseNarInfo(await readEncoded(request, NARINFO_LIMIT, "the narinfo"));
  if (!equalBytes(narInfo.storePath.digest, digest)) {
    throw new NarborError("ERR_MISMATCH", `Cannot store the narinfo: it is of ${formatStorePath(narInfo.storePath)}, the URL says ${hashPart}`);
  }
  checkPathInfoCounts(narInfo.references.length, narInfo.signatures.length);
  const nar = await findNar(narInfo, store, { signal });
  if (policy.requireReferences) await checkReferences(narInfo, store, { signal });
  const pathInfo = pathInfoFromNarInfo(narInfo, nar.root);
  checkMergedPathInfo(await store.pathInfos.get(digest, { signal }), pathInfo);
  await store.pathInfos.put(pathInfo, { signal });
  return textAnswer(201, "");
}

/** `GET <hash>.ls`: the NAR's listing, made from the tree. */
export async function getListing(request: HttpRequest, hashPart: string, store: Store): Promise<HttpAnswer> {
  const { signal } = request;
  const pathInfo = await findPathInfo(request, hashPart, store);
  const tree = await loadTree(pathInfo.root, store.directories, { signal });
  async function* body(): AsyncGenerator<Uint8Array, void, undefined> {
    let text = "";
    for (const piece of narListing(tree)) {
      text += piece;
      if (text.length < 65_536) continue;
      yield Buffer.from(text);
      text = "";
      await nextTurn();
    }
    yield Buffer.from(text);
  }
  return { status: 200, headers: { "content-type": "application/json" }, body: body() };
}

/** `PUT <hash>.ls`: clients send it before the NAR it describes, and ours is made from the NAR itself. */
export async function putListing(request: HttpRequest, hashPart: string): Promise<HttpAnswer> {
  parseStorePathHashPart(hashPart);
  let size = 0;
  for await (const bytes of request.body) {
    size += bytes.length;
    if (size > LISTING_LIMIT) throw new NarborError("ERR_LIMIT", `Cannot read the listing: more than ${LISTING_LIMIT} bytes`);
  }
  return textAnswer(200, "");
}

/** A whole body with its Content-Encoding undone, bounded before and after. */
export async function readEncoded(request: HttpRequest, limit: number, what: string): Promise<Uint8Array> {
  const codec = parseContentEncoding(request.headers["content-encoding"]);
  const body = codec === "none" ? request.body : decompress(request.body, { codec, maxOutputBytes: limit, signal: request.signal });
  return await collectBytes(body, limit, what);
}

async function findPathInfo(request: HttpRequest, hashPart: string, store: Store): Promise<PathInfo> {
  const { signal } = request;
  const pathInfo = await store.pathInfos.get(parseStorePathHashPart(hashPart), { signal });
  if (pathInfo === undefined) throw new NarborError("ERR_NOT_FOUND", noPath(hashPart));
  return pathInfo;
}

function noPath(hashPart: string): string {
  return `There is no path ${hashPart} here`;
}

/**
 * A path info that came over gRPC may speak of a NAR that no one has seen here, or of another tree than that NAR's: then its tree is rendered once
 * to find out, for a URL must not be given out under which there is nothing, or something else.
 */
async function checkNarIsKnown({ storePath, root, narSha256, narSize }: PathInfo, store: Store, options: CallOptions): Promise<void> {
  const known = await store.nars.byNarHash(narSha256);
  if (known !== undefined && equalNars(known, { root, narSha256, narSize })) return;
  const nar = await knownNar(root, store, options);
  if (equalNars(nar, { root, narSha256, narSize })) return;
  throw new NarborError("ERR_NOT_FOUND", `${formatStorePath(storePath)} cannot be served: its path info says NarHash sha256:${encodeNix32(narSha256)} and ${narSize} bytes, its NAR is sha256:${encodeNix32(nar.narSha256)} and ${nar.narSize}`);
}

/** The NAR that a narinfo speaks of: the file at its URL, or one that was uploaded for another path with the same contents. */
async function findNar(narInfo: NarInfo, store: Store, options: CallOptions): Promise<NarRecord> {
  const file = parseNarFileName(narInfo.url);
  const uploaded = file === undefined ? undefined : await store.nars.byFileHash(file.sha256, options);
  const nar = uploaded ?? (await store.nars.byNarHash(narInfo.narHash, options));
  if (nar === undefined) {
    throw new NarborError("ERR_INVALID", `Cannot store the narinfo: its NAR is not here. Upload ${JSON.stringify(narInfo.url.slice(0, 200))} first, then this`);
  }
  if (!equalBytes(nar.narSha256, narInfo.narHash)) {
    throw new NarborError("ERR_MISMATCH", `Cannot store the narinfo: it says NarHash sha256:${encodeNix32(narInfo.narHash)}, the uploaded NAR has sha256:${encodeNix32(nar.narSha256)}`);
  }
  if (nar.narSize !== narInfo.narSize) {
    throw new NarborError("ERR_MISMATCH", `Cannot store the narinfo: it says NarSize ${narInfo.narSize}, the uploaded NAR has ${nar.narSize} bytes`);
  }
  return nar;
}

async function checkReferences(narInfo: NarInfo, store: Store, options: CallOptions): Promise<void> {
  for (const reference of narInfo.references) {
    if (equalStorePaths(reference, narInfo.storePath) || (await store.pathInfos.get(reference.digest, options)) !== undefined) continue;
    throw new NarborError("ERR_INVALID", `Cannot store the narinfo: it refers to ${formatStorePath(reference)}, which is not here (${storePathHashPart(reference.digest)}.narinfo); upload that first`);
  }
}

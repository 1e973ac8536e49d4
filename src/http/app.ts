/** The binary cache: which request goes to which handler. */
import type { LimitFunction } from "p-limit";
import pLimit from "p-limit";
import { Semaphore } from "../concurrency/semaphore.ts";
import { NarborError } from "../errors.ts";
import { formatNixCacheInfo, parseNixCacheInfo } from "../nix/nix-cache-info.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import type { Store } from "../store/store.ts";
import { documentKind, getDocument, putDocument } from "./documents.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";
import { getExport, parseExportTarget } from "./exports.ts";
import { getImages, putImages } from "./images.ts";
import { getCastoreNar, getNarFile } from "./nar-download.ts";
import { parseNarFileName } from "./nar-file-name.ts";
import { putNar } from "./nar-upload.ts";
import type { NarInfoServices } from "./narinfo.ts";
import { getListing, getNarInfo, NarInfoTexts, putListing, putNarInfo, readEncoded } from "./narinfo.ts";
import { indexPage } from "./pages.ts";
import { NarPlans } from "../render/nar-plans.ts";

export interface AppOptions {
  readonly store: Store;
  /** Take uploads. */
  readonly allowWrites: boolean;
  /** Refuse a narinfo whose references are not here. */
  readonly requireReferences: boolean;
  /** Bytes of a NAR, decompressed, beyond which it is refused. @default 1099511627776 (1 TiB) */
  readonly maxNarBytes?: number;
  /** NARs taken in at once; others wait their turn, unread. Each may need 128 MiB to look back on, if it was compressed that way. @default 16 */
  readonly maxUploads?: number;
  /** The cache's `Priority`: clients ask lower ones first, and cache.nixos.org is 40. */
  readonly priority: number;
  /** How narinfos have NARs served: in zstd frames where they are stored so, or as they are. @default "zstd" */
  readonly narCompression?: "zstd" | "none";
}

/** Answers requests. Whatever it throws is to become an error's answer. */
export type App = (request: HttpRequest) => Promise<HttpAnswer>;

const DEFAULT_MAX_UPLOADS = 16;
/** Small files of all uploads that are in memory at once, in bytes; and what each may hold while it waits for its client, with room to spare. */
const UPLOAD_BYTES = 32 * 1024 * 1024;
const UPLOAD_BYTES_EACH = 2.25 * 1024 * 1024;
const DEFAULT_MAX_NAR_BYTES = 2 ** 40;
const CACHE_INFO_LIMIT = 64 * 1024;

/** What uploads share. */
interface Uploads {
  readonly limit: LimitFunction;
  readonly sharedBytes: Semaphore;
}

export function createApp(options: AppOptions): App {
  const { maxUploads = DEFAULT_MAX_UPLOADS } = options;
  const uploads = { limit: pLimit(maxUploads), sharedBytes: new Semaphore(Math.max(UPLOAD_BYTES, maxUploads * UPLOAD_BYTES_EACH)) };
  const plans = new NarPlans(options.store);
  const narInfos = { store: options.store, plans: options.narCompression === "none" ? undefined : plans, texts: new NarInfoTexts() };
  return async (request) => {
    switch (request.method) {
      case "GET":
      case "HEAD":
        return await read(request, options, plans, narInfos);
      case "PUT":
        checkWrite(request, options);
        return await write(request, options, uploads);
      default:
        return textAnswer(405, "Only GET, HEAD and PUT are answered here\n", { allow: "GET, HEAD, PUT" });
    }
  };
}

async function read(request: HttpRequest, { store, allowWrites, priority }: AppOptions, plans: NarPlans, narInfos: NarInfoServices): Promise<HttpAnswer> {
  const { path } = request;
  if (path === "nix-cache-info") {
    return { status: 200, headers: { "content-type": "text/x-nix-cache-info" }, body: formatNixCacheInfo({ storeDir: STORE_DIR, wantMassQuery: true, priority }) };
  }
  const narInfoHash = hashPartOf(path, ".narinfo");
  if (narInfoHash !== undefined) return await getNarInfo(request, narInfoHash, narInfos);
  const narFile = parseNarFileName(path);
  if (narFile !== undefined) return await getNarFile(request, narFile, store, plans);
  const [, entry] = /^nar\/(?:snix|tvix)-castore\/([^/]+)$/.exec(path) ?? [];
  if (entry !== undefined) return await getCastoreNar(request, entry, plans);
  const listingHash = hashPartOf(path, ".ls");
  if (listingHash !== undefined) return await getListing(request, listingHash, store);
  const kind = documentKind(path);
  if (kind !== undefined) return await getDocument(request, kind.contentType, store);
  const target = parseExportTarget(path);
  if (target !== undefined) return await getExport(request, target, store);
  if (path === "v1/images") return await getImages(request, store);
  if (path === "healthz") return textAnswer(200, "ok\n");
  if (path === "") return indexAnswer(request, allowWrites);
  throw notFound(path);
}

async function write(request: HttpRequest, { store, requireReferences, maxNarBytes = DEFAULT_MAX_NAR_BYTES }: AppOptions, { limit, sharedBytes }: Uploads): Promise<HttpAnswer> {
  const { path } = request;
  const narFile = parseNarFileName(path);
  if (narFile !== undefined) return await limit(() => putNar(request, narFile, store, { maxNarBytes, sharedBytes }));
  const narInfoHash = hashPartOf(path, ".narinfo");
  if (narInfoHash !== undefined) return await putNarInfo(request, narInfoHash, store, { requireReferences });
  const listingHash = hashPartOf(path, ".ls");
  if (listingHash !== undefined) return await putListing(request, listingHash);
  const kind = documentKind(path);
  if (kind !== undefined) return await putDocument(request, kind.limit, store);
  if (path === "v1/images") return await putImages(request, store, maxNarBytes, limit);
  if (path === "nix-cache-info") return await putCacheInfo(request);
  throw new NarborError("ERR_INVALID", `Nothing can be uploaded to ${JSON.stringify(`/${path.slice(0, 200)}`)}`);
}

/** A client that finds none writes one. Ours is fixed, so it may only say what is so. */
async function putCacheInfo(request: HttpRequest): Promise<HttpAnswer> {
  const { storeDir } = parseNixCacheInfo(Buffer.from(await readEncoded(request, CACHE_INFO_LIMIT, "nix-cache-info")).toString("utf8"));
  if (storeDir !== STORE_DIR) throw new NarborError("ERR_INVALID", `This cache is for the store ${STORE_DIR}, not for ${JSON.stringify(storeDir ?? "")}`);
  return textAnswer(200, "");
}

function checkWrite(request: HttpRequest, { allowWrites }: AppOptions): void {
  if (!allowWrites) {
    throw new NarborError(
      "ERR_FORBIDDEN",
      "Uploads are off: this server listens beyond loopback. Start it with --allow-anonymous-writes to take them from anyone who can reach it",
    );
  }
  // Nix sends no Origin; a page in a browser does, and no page has business writing here.
  if (request.headers.origin !== undefined) throw new NarborError("ERR_FORBIDDEN", "Uploads from a browser are refused");
}

function indexAnswer(request: HttpRequest, allowWrites: boolean): HttpAnswer {
  const origin = `http://${request.headers.host ?? "127.0.0.1"}`;
  return {
    status: 200,
    headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'" },
    body: indexPage(origin, allowWrites),
  };
}

function hashPartOf(path: string, suffix: string): string | undefined {
  if (!path.endsWith(suffix) || path.includes("/")) return undefined;
  return path.slice(0, -suffix.length);
}

function notFound(path: string): NarborError {
  return new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(`/${path.slice(0, 200)}`)} here`);
}

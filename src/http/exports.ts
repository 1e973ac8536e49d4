/** `GET /v1/export/…`: trees, store paths, closures and images, in any format. docs/http-api.md has the parameters. */
import { fromBase64Url } from "../bytes/text-encoding.ts";
import { decodeRootNode } from "../castore/directory-proto.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { NarborError } from "../errors.ts";
import { findImages } from "../image/image-catalog.ts";
import type { ExportCodec, ExportFormat, ExportOptions, PlannedExport } from "../image/plan-export.ts";
import { planExport, planImageExport } from "../image/plan-export.ts";
import { parseStorePathBaseName, parseStorePathHashPart } from "../nix/store-path.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";

const FORMATS: readonly ExportFormat[] = ["nar", "tar", "docker", "oci"];
const CODECS: readonly ExportCodec[] = ["none", "gzip", "zstd", "xz"];
const CONTENT_TYPE = { none: "application/x-tar", gzip: "application/gzip", zstd: "application/zstd", xz: "application/x-xz" } as const;

/** What is named in `v1/export/…`. */
export interface ExportTarget {
  readonly kind: "path" | "entry" | "image";
  readonly name: string;
}

/** Undefined for any other path. */
export function parseExportTarget(path: string): ExportTarget | undefined {
  const [, kind, name] = /^v1\/export\/(path|entry|image)\/(.+)$/.exec(path) ?? [];
  return kind === undefined || name === undefined ? undefined : { kind: kind as ExportTarget["kind"], name };
}

/**
 * Uncompressed output has its Content-Length. To a client that takes trailers (`TE: trailers`) it goes without, and its digests follow:
 * `narbor-digest` of what was sent, `narbor-uncompressed-digest`, and of an OCI layout `narbor-manifest-digest`.
 */
export async function getExport(request: HttpRequest, target: ExportTarget, store: Store): Promise<HttpAnswer> {
  const { signal } = request;
  const options = parseOptions(request.query, target);
  const plan = await planTarget(target, options, store, { signal });
  const takesTrailers = /\btrailers\b/i.test(String(request.headers["te"] ?? ""));
  const contentType = options.compression === "none" && options.format === "nar" ? "application/x-nix-nar" : options.format === "oci" ? CONTENT_TYPE.none : CONTENT_TYPE[options.compression];
  const length = takesTrailers ? undefined : plan.outputSize;
  return {
    status: 200,
    headers: { "content-type": contentType, "x-content-type-options": "nosniff", ...(length !== undefined && { "content-length": length }) },
    body: plan.render(),
    ...(takesTrailers && { trailers: { names: ["narbor-digest", "narbor-uncompressed-digest", "narbor-manifest-digest"], values: () => trailersOf(plan) } }),
  };
}

async function planTarget({ kind, name }: ExportTarget, options: ExportOptions, store: Store, callOptions: CallOptions): Promise<PlannedExport> {
  switch (kind) {
    case "path": {
      const digest = /^[0-9a-z]{32}$/.test(name) ? parseStorePathHashPart(name) : parseStorePathBaseName(name).digest;
      const path = await store.pathInfos.get(digest, callOptions);
      if (path === undefined) throw notHere(name);
      return await planExport(path.root, path, options, store, callOptions);
    }
    case "entry": {
      const bytes = fromBase64Url(name);
      if (bytes === undefined) throw new NarborError("ERR_INVALID", "Cannot export that: the URL's entry is not base64url");
      return await planExport(decodeRootNode(bytes), undefined, options, store, callOptions);
    }
    case "image": {
      const images = await findImages(name, store, callOptions);
      const { format } = options;
      if (images === undefined) throw notHere(name);
      if (format !== "docker" && format !== "oci") throw new NarborError("ERR_INVALID", `Cannot export that: an image's format is docker or oci, not ${format}`);
      return await planImageExport(images, { ...options, format }, store, callOptions);
    }
  }
}

/** What may be said of an export; of anything else a client would not hear that it was passed over. */
const PARAMETERS = ["format", "compression", "level", "closure", "name", "platform", "max-layers"];

function parseOptions(query: URLSearchParams, { kind }: ExportTarget): ExportOptions {
  const wrong = [...query.keys()].find((key, index, keys) => !PARAMETERS.includes(key) || keys.indexOf(key) !== index);
  if (wrong !== undefined) throw new NarborError("ERR_INVALID", `Cannot export that: ${JSON.stringify(wrong.slice(0, 80))} is none of ${PARAMETERS.join(", ")}, or is there twice`);
  const format = oneOf(query, "format", FORMATS, kind === "image" ? "docker" : "nar");
  return {
    format,
    compression: oneOf(query, "compression", CODECS, "none"),
    level: numberOf(query, "level"),
    closure: oneOf(query, "closure", ["0", "1"], "0") === "1",
    name: query.get("name") ?? undefined,
    platform: query.get("platform") ?? undefined,
    maxLayers: numberOf(query, "max-layers"),
  };
}

function oneOf<T extends string>(query: URLSearchParams, name: string, values: readonly T[], usual: T): T {
  const text = query.get(name) ?? usual;
  const value = values.find((each) => each === text);
  if (value === undefined) throw new NarborError("ERR_INVALID", `Cannot export that: ${name} is ${values.join(", ")}, found ${JSON.stringify(text.slice(0, 80))}`);
  return value;
}

function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  if (!/^-?\d{1,6}$/.test(text)) throw new NarborError("ERR_INVALID", `Cannot export that: ${name} is a number, found ${JSON.stringify(text.slice(0, 80))}`);
  return Number(text);
}

async function trailersOf(plan: PlannedExport): Promise<Record<string, string>> {
  const { digest, uncompressedDigest, manifestDigest } = await plan.written();
  return { "narbor-digest": digest, ...(uncompressedDigest !== undefined && { "narbor-uncompressed-digest": uncompressedDigest }), ...(manifestDigest !== undefined && { "narbor-manifest-digest": manifestDigest }) };
}

function notHere(name: string): NarborError {
  return new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(name.slice(0, 200))} here`);
}

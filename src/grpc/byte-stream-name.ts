/** Names of resources in ByteStream, as the Remote Execution API makes them. */
import type { BlobRef } from "../castore/blob-service.ts";
import { toB3Digest } from "../castore/digest.ts";
import { NarborError } from "../errors.ts";
import { parseCasHash } from "../proto/cas-digest.ts";

/** What a resource's name means. */
export interface ResourceName {
  /** Its size is that of the blob, not of its compressed form. */
  readonly blob: BlobRef;
  readonly compressor: "zstd" | undefined;
}

/** `blobs/blake3/<hash>/<size>` or `compressed-blobs/zstd/blake3/<hash>/<size>`. @throws NarborError ERR_INVALID */
export function parseReadName(name: string): ResourceName {
  const parts = name.split("/");
  const parsed = parseBlobParts(parts);
  if (parsed === undefined || parsed.rest.length > 0) throw invalid(name, "blobs/blake3/<hash>/<size> or compressed-blobs/zstd/blake3/<hash>/<size>");
  return parsed.name;
}

/** The same behind `uploads/<uuid>/`, and with anything after it. @throws NarborError ERR_INVALID */
export function parseWriteName(name: string): ResourceName {
  const [uploads, uuid, ...parts] = name.split("/");
  const parsed = uploads === "uploads" && uuid !== undefined && /^[0-9a-zA-Z-]{1,64}$/.test(uuid) ? parseBlobParts(parts) : undefined;
  if (parsed === undefined) throw invalid(name, "uploads/<uuid>/blobs/blake3/<hash>/<size> or uploads/<uuid>/compressed-blobs/zstd/blake3/<hash>/<size>");
  return parsed.name;
}

function parseBlobParts(parts: readonly string[]): { readonly name: ResourceName; readonly rest: readonly string[] } | undefined {
  const isCompressed = parts[0] === "compressed-blobs";
  if (!isCompressed && parts[0] !== "blobs") return undefined;
  const [compressor, ...afterCompressor] = isCompressed ? parts.slice(1) : ["", ...parts.slice(1)];
  if (isCompressed && compressor !== "zstd") throw new NarborError("ERR_COMPRESSION_UNSUPPORTED", `Cannot use compressor ${JSON.stringify(compressor?.slice(0, 40) ?? "")}: zstd is the one that is known here`);
  // The name of the digest function may be left out, as it may in the other calls.
  const [hash = "", size = "", ...rest] = afterCompressor[0] === "blake3" ? afterCompressor.slice(1) : afterCompressor;
  if (!/^\d{1,15}$/.test(size)) return undefined;
  return { name: { blob: { digest: toB3Digest(parseCasHash(hash)), size: Number(size) }, compressor: isCompressed ? "zstd" : undefined }, rest };
}

function invalid(name: string, expected: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot read the resource name ${JSON.stringify(name.slice(0, 200))}: expected ${expected}`);
}

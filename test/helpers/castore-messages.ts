/** Messages of the castore and store protocols, made by hand from their field numbers; and the vectors as they go over the wire. */
import { readFileSync } from "node:fs";
import { lengthField, message, numberField } from "./raw-protobuf.ts";
import type { VectorNode } from "./vectors.ts";
import { CASTORE_VECTORS } from "./vectors.ts";

/** The two names of every service: the same handlers, the same bytes. */
export const FAMILIES = ["snix", "tvix"] as const;

const all = JSON.parse(readFileSync(new URL("../fixtures/vectors/castore.json", import.meta.url), "utf8")) as {
  readonly blobs: readonly { readonly name: string; readonly blake3: string; readonly text?: string; readonly hex?: string }[];
  readonly pathInfos: Readonly<Record<"PATH_INFO" | "PATH_INFO_SYMLINK", { readonly protoHex: string }>>;
};

/** Blobs of castore.json and their digests. */
export const BLOBS = all.blobs.map(({ name, blake3, text, hex }) => ({ name, digest: fromHex(blake3), bytes: contentOf(name, text, hex) }));

/** Messages of castore.json, as they go over the wire. */
export const PATH_INFOS = Object.entries(all.pathInfos).map(([name, { protoHex }]) => [name, fromHex(protoHex)] as const);

export function blobNamed(name: string): (typeof BLOBS)[number] {
  const found = BLOBS.find((blob) => blob.name === name);
  if (found === undefined) throw new Error(`there is no blob ${name}`);
  return found;
}

function contentOf(name: string, text: string | undefined, hex: string | undefined): Buffer {
  if (name === "BLOB_B") return Buffer.concat(Array.from({ length: 4096 }, () => Buffer.from(Array.from({ length: 255 }, (_, index) => index))));
  return hex === undefined ? Buffer.from(text ?? "") : fromHex(hex);
}

export function fromHex(hex: string): Buffer {
  return Buffer.from(hex, "hex");
}

/** `{ bytes … = 1 }`: BlobChunk, ReadBlobRequest, StatBlobRequest, PutBlobResponse, PutDirectoryResponse, GetPathInfoRequest. */
export function only(bytes: string | Uint8Array): Buffer {
  return lengthField(1, bytes);
}

export function statRequest(digest: Uint8Array, sendChunks: boolean): Buffer {
  return message(lengthField(1, digest), numberField(2, sendChunks));
}

export function getDirectoryRequest(digest: Uint8Array, recursive: boolean): Buffer {
  return message(lengthField(1, digest), numberField(2, recursive));
}

/** `castore.v1.Entry`, with an empty name. */
export function entryOf(node: VectorNode): Buffer {
  switch (node.type) {
    case "directory":
      return lengthField(1, message(lengthField(2, fromHex(node.digest ?? "")), numberField(3, node.size ?? 0)));
    case "file":
      return lengthField(2, message(lengthField(2, fromHex(node.digest ?? "")), numberField(3, node.size ?? 0), numberField(4, node.executable ?? false)));
    case "symlink":
      return lengthField(3, lengthField(2, node.target ?? ""));
  }
}

/** A DirectoryEntry of a Directory. */
export function directoryEntry(name: string, digest: Uint8Array, size: number): Buffer {
  return lengthField(1, message(lengthField(1, name), lengthField(2, digest), numberField(3, size)));
}

/** A directory vector's message, in a profile. */
export function directoryVector(name: string, profile: "documented" | "doubled"): { readonly bytes: Buffer; readonly digest: Buffer } {
  const found = CASTORE_VECTORS.directories[name]?.[profile];
  if (found === undefined) throw new Error(`there is no directory ${name}`);
  return { bytes: fromHex(found.encodedHex), digest: fromHex(found.digest) };
}

/** Directories of the vectors, each with what must be sent before it. */
export const CLOSURES = {
  A: ["A"],
  WITH_KEEP: ["WITH_KEEP"],
  COMPLICATED: ["WITH_KEEP", "COMPLICATED"],
  B: ["A", "B"],
  C: ["A", "C"],
  D: ["A", "B", "D"],
} as const;

/** `remote.execution.v2.Digest`. */
export function casDigest(digest: Uint8Array | string, size: number): Buffer {
  return message(lengthField(1, typeof digest === "string" ? digest : Buffer.from(digest).toString("hex")), numberField(2, size));
}

/** What is kept of an image: its names and configuration, and of each layer what it takes to make it again. */
import * as v from "valibot";
import { toHex } from "../bytes/text-encoding.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import { toB3Digest } from "../castore/digest.ts";
import type { DirectoryNode } from "../castore/node.ts";
import { NarborError } from "../errors.ts";
import type { OciDigest } from "./oci-schema.ts";

/** A layer's tar archive. */
export interface LayerRecord {
  /** SHA-256 of the uncompressed archive. */
  readonly diffId: OciDigest;
  /** Bytes of the uncompressed archive. */
  readonly size: number;
  readonly entries: number;
  readonly root: DirectoryNode;
  readonly recipe: BlobRef;
}

/** A layer as it lay in an archive. */
export interface LayerFile {
  readonly mediaType: string;
  readonly digest: OciDigest;
  readonly size: number;
}

/** An image for one platform. */
export interface ImageRecord {
  /** SHA-256 of its configuration: docker's image ID. */
  readonly id: OciDigest;
  readonly config: BlobRef;
  /** Such as `linux/amd64`. */
  readonly platform: string;
  readonly layers: readonly { readonly layer: LayerRecord; readonly file: LayerFile }[];
}

/** A name and the images that it stands for, one for each platform. */
export interface NamedImages {
  /** As docker writes it, such as `hello:latest`; an image without a name has its ID. */
  readonly name: string;
  readonly images: readonly ImageRecord[];
}

const VERSION = 1;

const sha256 = v.custom<OciDigest>((value) => typeof value === "string" && /^sha256:[0-9a-f]{64}$/.test(value));
const b3 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/), v.transform((hex) => toB3Digest(Buffer.from(hex, "hex"))));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const blob = v.object({ digest: b3, size: count });
const layer = v.object({ diffId: sha256, size: count, entries: count, root: blob, recipe: blob });
const file = v.object({ mediaType: v.string(), digest: sha256, size: count });
const image = v.object({ id: sha256, config: blob, platform: v.string(), layers: v.array(v.object({ layer, file })) });
const named = v.object({ version: v.literal(VERSION), name: v.string(), images: v.array(image) });

/** As it is stored: JSON. */
export function encodeNamedImages({ name, images }: NamedImages): Uint8Array {
  const json: v.InferInput<typeof named> = {
    version: VERSION,
    name,
    images: images.map(({ id, config, platform, layers }) => ({ id, platform, config: blobJson(config), layers: layers.map((each) => ({ layer: layerJson(each.layer), file: each.file })) })),
  };
  return Buffer.from(JSON.stringify(json));
}

/** @throws NarborError ERR_DATA_LOSS */
export function decodeNamedImages(bytes: Uint8Array): NamedImages {
  const { name, images } = decode(named, bytes);
  return { name, images: images.map((each) => ({ ...each, layers: each.layers.map(({ layer: found, file: lay }) => ({ layer: toLayer(found), file: lay })) })) };
}

/** @throws NarborError ERR_DATA_LOSS */
export function decodeLayer(bytes: Uint8Array): LayerRecord {
  return toLayer(decode(layer, bytes));
}

export function encodeLayer(record: LayerRecord): Uint8Array {
  return Buffer.from(JSON.stringify(layerJson(record)));
}

function toLayer({ root, ...rest }: v.InferOutput<typeof layer>): LayerRecord {
  return { ...rest, root: { type: "directory", ...root } };
}

function layerJson({ diffId, size, entries, root, recipe }: LayerRecord): v.InferInput<typeof layer> {
  return { diffId, size, entries, root: blobJson(root), recipe: blobJson(recipe) };
}

function blobJson({ digest, size }: BlobRef): v.InferInput<typeof blob> {
  return { digest: toHex(digest), size };
}

function decode<S extends v.GenericSchema>(schema: S, bytes: Uint8Array): v.InferOutput<S> {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString());
  } catch (error) {
    throw new NarborError("ERR_DATA_LOSS", "Cannot read an image's record: it is not JSON", { cause: error });
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  throw new NarborError("ERR_DATA_LOSS", `Cannot read an image's record: ${v.getDotPath(result.issues[0]) ?? "all of it"} is not what it should be; was it written by a newer narbor?`);
}

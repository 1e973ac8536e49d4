/** Images and layers by name, kept as documents of a store. */
import { collectBytes } from "../bytes/collect.ts";
import { streamOf } from "../bytes/stream-of.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT, toSmallBlob } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { NarborError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { LayerRecord, NamedImages } from "./image-record.ts";
import { decodeLayer, decodeNamedImages, encodeLayer, encodeNamedImages } from "./image-record.ts";
import type { OciDigest } from "./oci-schema.ts";

export type CatalogServices = Pick<Store, "blobs" | "documents">;

const IMAGE = "image/";
const LAYER = "layer/";
/** An image of a thousand layers for ten platforms. Whoever lists images reads them all. */
const MAX_RECORD_BYTES = 8 * 1024 * 1024;
const MAX_NAME_LENGTH = 1024;

/** A layer by its diffID, or by the digest of a file that it came in. */
export async function findLayer(digest: OciDigest, services: CatalogServices, options?: CallOptions): Promise<LayerRecord | undefined> {
  const bytes = await readDocument(`${LAYER}${digest}`, services, options);
  return bytes && decodeLayer(bytes);
}

/** The images of a name; one without a tag or digest also stands for its `latest`. */
export async function findImages(name: string, services: CatalogServices, options?: CallOptions): Promise<NamedImages | undefined> {
  for (const each of [name, ...(/[:@][^/]*$/.test(name) ? [] : [`${name}:latest`])]) {
    const bytes = await readDocument(`${IMAGE}${each}`, services, options);
    if (bytes !== undefined) return decodeNamedImages(bytes);
  }
  return undefined;
}

/** Names in the order of their bytes. */
export async function* listImageNames(services: CatalogServices, options?: CallOptions): AsyncGenerator<string, void, undefined> {
  for await (const { name } of services.documents.list(IMAGE, options)) yield name.slice(IMAGE.length);
}

/** Forget a name. False when there is none. */
export async function removeImages(name: string, services: CatalogServices, options?: CallOptions): Promise<boolean> {
  return await services.documents.delete(`${IMAGE}${name}`, options);
}

/** List images under their names, in place of what those stood for before. Their blobs and directories must be stored. */
export async function putImages(images: readonly NamedImages[], services: CatalogServices, options?: CallOptions): Promise<void> {
  const names = new Map<string, Uint8Array>();
  const layers = new Map<string, Uint8Array>();
  for (const named of images) {
    if (named.name.length > MAX_NAME_LENGTH) throw new NarborError("ERR_LIMIT", `Cannot take the image: a name of ${named.name.length} characters, at most ${MAX_NAME_LENGTH} are allowed`);
    const record = encodeNamedImages(named);
    if (record.length > MAX_RECORD_BYTES) throw new NarborError("ERR_LIMIT", `Cannot take the image ${JSON.stringify(named.name)}: its platforms and layers take ${record.length} bytes to note down, at most ${MAX_RECORD_BYTES} are allowed`);
    names.set(`${IMAGE}${named.name}`, record);
    for (const { layer, file } of named.images.flatMap((image) => image.layers)) {
      const bytes = encodeLayer(layer);
      for (const digest of [layer.diffId, file.digest]) layers.set(`${LAYER}${digest}`, bytes);
    }
  }
  await putDocuments(layers, services, options);
  // Last, since with them the images are listed.
  await putDocuments(names, services, options);
}

async function putDocuments(documents: ReadonlyMap<string, Uint8Array>, services: CatalogServices, options: CallOptions | undefined): Promise<void> {
  const records = [...documents].map(([name, bytes]) => ({ name, blob: toSmallBlob(bytes) }));
  const blobs = records.map(({ blob }) => blob);
  await services.blobs.putMany(blobs.filter(isSmall), options);
  // An image of a thousand layers, for many platforms.
  for (const { bytes } of blobs.filter((blob) => !isSmall(blob))) await services.blobs.put(streamOf(bytes), options);
  await Promise.all(records.map(({ name, blob: { digest, size } }) => services.documents.put({ name, digest, size }, options)));
}

function isSmall({ size }: BlobRef): boolean {
  return size <= SMALL_BLOB_LIMIT;
}

async function readDocument(name: string, { blobs, documents }: CatalogServices, options: CallOptions | undefined): Promise<Uint8Array | undefined> {
  const document = await documents.get(name, options);
  if (document === undefined) return undefined;
  const content = await blobs.openRead(document.digest, options);
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read ${JSON.stringify(name)}: its blob is not stored any more`);
  return await collectBytes(content, MAX_RECORD_BYTES, JSON.stringify(name));
}

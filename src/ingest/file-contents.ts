/** The contents of a file within an archive that is read event by event. */
import type { B3Digest } from "../castore/digest.ts";
import type { BlobUploader } from "./blob-uploader.ts";

/** An archive's reader when a file's contents come next: `data` until all of it has been given, then another event. */
export interface ContentReader {
  next(): { readonly type: "data"; readonly bytes: Uint8Array } | { readonly type: string } | undefined;
  fill(): Promise<boolean>;
}

/** Read a whole small file and hand it to the uploader. The event that ends it has been taken. */
export async function uploadSmallFile(reader: ContentReader, uploader: BlobUploader, size: number): Promise<B3Digest> {
  const memory = uploader.reserve(size);
  const bytes = memory instanceof Uint8Array ? memory : await memory;
  let filled = 0;
  for (let piece = await nextPiece(reader); piece !== undefined; piece = await nextPiece(reader)) {
    bytes.set(piece, filled);
    filled += piece.length;
  }
  return uploader.addSmall(bytes);
}

/** A file's contents. The event that ends it has been taken when this ends. */
export async function* fileContents(reader: ContentReader): AsyncGenerator<Uint8Array, void, undefined> {
  for (let piece = await nextPiece(reader); piece !== undefined; piece = await nextPiece(reader)) yield piece;
}

async function nextPiece(reader: ContentReader): Promise<Uint8Array | undefined> {
  for (;;) {
    const event = reader.next();
    if (event !== undefined) return event.type === "data" && "bytes" in event ? event.bytes : undefined;
    // Within a file the decoder refuses the input's end, so there is always more.
    await reader.fill();
  }
}

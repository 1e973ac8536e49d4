/** The contents of a file within an archive that is read event by event. */
import type { B3Digest } from "../castore/digest.ts";
import type { BlobUploader } from "./blob-uploader.ts";

/** An archive's reader when a file's contents come next: `data` until all of it has been given, then another event. */
export interface ContentReader {
  next(): { readonly type: "data"; readonly bytes: Uint8Array } | { readonly type: string } | undefined;
  fill(): Promise<boolean>;
}

/**
 * Read a whole small file and hand it to the uploader; a promise only when bytes or memory must be waited for, which for most files is not so. The event that
 * ends it has been taken.
 *
 * @param framing see `SmallBlob`
 */
export function uploadSmallFile(reader: ContentReader, uploader: BlobUploader, size: number, framing?: Uint8Array): B3Digest | Promise<B3Digest> {
  const memory = uploader.reserve(size, framing);
  if (!(memory instanceof Uint8Array)) return readOn(reader, uploader, memory, 0);
  const filled = fill(reader, memory, 0);
  return filled === undefined ? uploader.addSmall(memory) : readOn(reader, uploader, memory, filled);
}

async function readOn(reader: ContentReader, uploader: BlobUploader, memory: Uint8Array | Promise<Uint8Array>, from: number): Promise<B3Digest> {
  const bytes = await memory;
  // Within a file the decoder refuses the input's end, so there is always more.
  for (let filled = fill(reader, bytes, from); filled !== undefined; filled = fill(reader, bytes, filled)) await reader.fill();
  return uploader.addSmall(bytes);
}

/** Take what is at hand. How far that fills `bytes`, or undefined when the file has ended. */
function fill(reader: ContentReader, bytes: Uint8Array, from: number): number | undefined {
  let filled = from;
  for (let event = reader.next(); event !== undefined; event = reader.next()) {
    if (event.type !== "data" || !("bytes" in event)) return undefined;
    bytes.set(event.bytes, filled);
    filled += event.bytes.length;
  }
  return filled;
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

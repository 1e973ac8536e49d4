/** The files of an image archive, one after another: of a tar archive as it streams by, or of a directory. */
import { readdir, readlink, stat } from "node:fs/promises";
import { join, posix, relative, sep } from "node:path";
import { readFileBytes } from "../bytes/read-file.ts";
import { fileContents } from "../ingest/file-contents.ts";
import { isNarborError, NarborError } from "../errors.ts";
import { TarReader } from "../tar/parse-tar.ts";
import type { TarEntry } from "../tar/tar-event.ts";

export type ArchiveMember =
  /** `contents` may be read once, before the next member is asked for; what is not read is passed over. */
  | { readonly type: "file"; readonly path: string; readonly size: number; readonly contents: AsyncIterable<Uint8Array> }
  /** Another name of a file; `target` is a path in the archive. */
  | { readonly type: "link"; readonly path: string; readonly target: string };

const MANIFEST_NAMES = ["index.json", "manifest.json"];

/** @throws NarborError ERR_TAR_INVALID, ERR_IMAGE_INVALID when nothing in the source is of a tar archive, and what the source throws */
export async function* tarMembers(source: AsyncIterable<Uint8Array>): AsyncGenerator<ArchiveMember, void, undefined> {
  const reader = new TarReader(source);
  let isTar = false;
  try {
    do {
      for (let event = reader.next(); event !== undefined; event = reader.next()) {
        isTar = true;
        if (event.type !== "entry") continue;
        const contents = fileContents(reader);
        const member = toMember(event.entry, contents);
        if (member !== undefined) yield member;
        for await (const _ of contents);
      }
    } while (await reader.fill());
  } catch (error) {
    if (isTar || !isNarborError(error, "ERR_TAR_INVALID")) throw error;
    throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: it is no tar archive, compressed or not: ${error.message}`, { cause: error });
  } finally {
    await reader.close();
  }
}

/** @throws NarborError ERR_IMAGE_INVALID for a directory that is no image, before anything in it is read; what the filesystem does */
export async function* directoryMembers(directory: string): AsyncGenerator<ArchiveMember, void, undefined> {
  const names = await readdir(directory);
  if (!MANIFEST_NAMES.some((name) => names.includes(name))) {
    throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: the directory ${JSON.stringify(directory)} has neither an index.json (OCI layout) nor a manifest.json`);
  }
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    const path = relative(directory, file).split(sep).join("/");
    if (entry.isSymbolicLink()) yield { type: "link", path, target: resolveLink(path, await readlink(file)) };
    else if (entry.isFile()) {
      const { size } = await stat(file);
      yield { type: "file", path, size, contents: size === 0 ? noBytes() : readFileBytes(file) };
    }
  }
}

/** A path in an archive without `.`, `..` and `/` at its beginning, so that it can be compared. */
export function cleanPath(path: string): string {
  return posix.normalize(`/${path}`).slice(1).replace(/\/$/, "");
}

function toMember({ kind, path, linkTarget, size, sparse }: TarEntry, contents: AsyncIterable<Uint8Array>): ArchiveMember | undefined {
  const name = cleanPath(toText(path));
  switch (kind) {
    case "file":
      if (sparse !== undefined) throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(name)} is a sparse file`);
      return { type: "file", path: name, size, contents };
    case "symlink":
      return { type: "link", path: name, target: resolveLink(name, toText(linkTarget)) };
    case "hardlink":
      return { type: "link", path: name, target: cleanPath(toText(linkTarget)) };
    case "directory":
    case "characterDevice":
    case "blockDevice":
    case "fifo":
    case "other":
      return undefined;
  }
}

function resolveLink(path: string, target: string): string {
  return cleanPath(posix.isAbsolute(target) ? target : posix.join(posix.dirname(path), target));
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

async function* noBytes(): AsyncGenerator<Uint8Array, void, undefined> {
  // An empty file.
}

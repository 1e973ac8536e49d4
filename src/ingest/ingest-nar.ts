import type { BlobService } from "../castore/blob-service.ts";
import { SMALL_BLOB_LIMIT } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { DirectorySizeProfile } from "../castore/directory.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import type { Node } from "../castore/node.ts";
import { abortable } from "../concurrency/abortable.ts";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { StreamedSha256 } from "../compression/streamed-sha256.ts";
import { NarReader } from "../nar/parse-nar.ts";
import type { BlobUploaderOptions } from "./blob-uploader.ts";
import { BlobUploader } from "./blob-uploader.ts";
import { ClosureUpload } from "./closure-upload.ts";
import { DirectoryStack } from "./directory-stack.ts";
import { fileContents, uploadSmallFile } from "./file-contents.ts";

/** Where an import goes, and how. */
export interface ImportNarOptions extends CallOptions, BlobUploaderOptions {
  readonly blobs: Pick<BlobService, "putMany" | "put">;
  readonly directories: Pick<DirectoryService, "putClosure" | "putsClosuresAside">;
  /** How directory sizes are counted. @default "documented" */
  readonly directorySizeProfile?: DirectorySizeProfile;
  /** Files below this many bytes are uploaded in batches in the background, others streamed. @default 1048576 (1 MiB) */
  readonly smallFileThreshold?: number;
  /** Most bytes of directory messages in one tree, each counted with 1 KiB for keeping it; more is ERR_LIMIT. @default 268435456 (256 MiB) */
  readonly maxDirectoryBytes?: number;
  /** Told of every file, symlink and directory as it is finished, for progress. */
  readonly onNode?: () => void;
}

/** What a NAR turned out to be. */
export interface ImportedNar {
  readonly root: Node;
  /** Bytes of the NAR. */
  readonly narSize: number;
  /** SHA-256 of the NAR, 32 bytes. */
  readonly narSha256: Uint8Array;
}

const DEFAULT_MAX_DIRECTORY_BYTES = 256 * 1024 * 1024;

/**
 * Take a NAR apart while it streams in: files become blobs, directories castore directories.
 *
 * Every upload has ended and every directory is stored before this resolves. The first failure stops the reading, aborts what is under way, and is what
 * this rejects with; so is the signal's reason, at once, even when a service does not heed its signal. `source` is read once and closed on every way out; it may use the memory of what it gave again when the next but one is asked for.
 *
 * @throws NarborError ERR_NAR_INVALID, ERR_LIMIT, ERR_MISMATCH, and whatever the source or the services throw
 * @example
 * const { root, narSize, narSha256 } = await importNar(createReadStream("hello.nar"), { blobs: store.blobs, directories: store.directories });
 */
export async function importNar(source: AsyncIterable<Uint8Array>, options: ImportNarOptions): Promise<ImportedNar> {
  using stop = linkSignal(options.signal);
  const nar = new StreamedSha256();
  const reader = new NarReader(nar.through(abortable(source, stop.signal)));
  using uploader = new BlobUploader(options.blobs, stop, options);
  const stack = new DirectoryStack(options.directorySizeProfile ?? "documented", options.maxDirectoryBytes ?? DEFAULT_MAX_DIRECTORY_BYTES);
  using closure = new ClosureUpload(options.directories, stop);
  try {
    await readTree(reader, { stack, closure, uploader }, options);
    await uploader.join();
    await closure.finish(stack);
  } catch (error) {
    // An upload that failed has fired the signal already, and its error is the first one.
    stop.abort(error);
    throw stop.signal.reason;
  } finally {
    await reader.close();
  }
  return { root: stack.root, narSize: nar.size, narSha256: await nar.digest() };
}

/** Where what is read goes. */
interface Uploads {
  readonly stack: DirectoryStack;
  readonly closure: ClosureUpload;
  readonly uploader: BlobUploader;
}

async function readTree(reader: NarReader, { stack, closure, uploader }: Uploads, options: ImportNarOptions): Promise<void> {
  const threshold = Math.min(options.smallFileThreshold ?? SMALL_BLOB_LIMIT, SMALL_BLOB_LIMIT);
  if (!(threshold >= 0)) throw new RangeError(`smallFileThreshold must be a number of bytes, found ${threshold}`);
  do {
    for (let event = reader.next(); event !== undefined; event = reader.next()) {
      switch (event.type) {
        case "directory":
          stack.enter(event.name);
          continue;
        case "endDirectory": {
          stack.leave();
          const sent = closure.send(stack);
          if (sent !== undefined) await sent;
          break;
        }
        case "symlink":
          stack.add(event.name, { type: "symlink", target: event.target });
          break;
        case "file": {
          const { name, size, executable } = event;
          const upload = size < threshold ? uploadSmallFile(reader, uploader, size, size === 0 ? undefined : reader.framing()) : uploader.addLarge(fileContents(reader));
          stack.add(name, { type: "file", digest: upload instanceof Promise ? await upload : upload, size, executable });
          break;
        }
        case "data":
        case "endFile":
          throw new TypeError(`A ${event.type} event outside of a file`);
      }
      options.onNode?.();
    }
  } while (await reader.fill());
}

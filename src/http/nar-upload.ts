/** `PUT /nar/<FileHash>.nar[.xz|…]`: a NAR comes in, in any compression, and is taken apart while it comes. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import type { Semaphore } from "../concurrency/semaphore.ts";
import { NarborError } from "../errors.ts";
import { importNarFile } from "../ingest/import-nar-file.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import { rememberFile } from "../store/known-file.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";
import type { NarFileName } from "./nar-file-name.ts";

export interface UploadLimits {
  /** Of a NAR, decompressed. */
  readonly maxNarBytes: number;
  /** Of small files of all uploads that are under way. */
  readonly sharedBytes: Semaphore;
}

/**
 * Answers 201 when the tree and what the file turned out to be are durable: the body has ended where Content-Length said, so have the decoder and
 * the NAR, and FileHash is the one in the name.
 */
export async function putNar(request: HttpRequest, name: NarFileName, store: Store, { maxNarBytes, sharedBytes }: UploadLimits): Promise<HttpAnswer> {
  const { signal } = request;
  // It may have waited for its turn.
  signal.throwIfAborted();
  const work = store.begin();
  const { nar, file } = await importNarFile(request.body, {
    blobs: work.blobs,
    directories: work.directories,
    directorySizeProfile: await store.directorySizeProfile({ signal }),
    maxNarBytes,
    sharedBytes,
    signal,
  });
  const { fileSha256, fileSize } = file;
  if (!equalBytes(fileSha256, name.sha256)) {
    throw new NarborError("ERR_MISMATCH", `Cannot store the NAR: its file has SHA-256 ${encodeNix32(fileSha256)}, the URL says ${encodeNix32(name.sha256)}`);
  }
  await work.nars.put(nar, file, { signal });
  await work.commit({ signal });
  await rememberFile(fileSize, store, { signal });
  return textAnswer(201, "");
}

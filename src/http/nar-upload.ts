/** `PUT /nar/<FileHash>.nar[.xz|…]`: a NAR comes in, in any compression, and is taken apart while it comes. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import type { Codec } from "../compression/codec.ts";
import { decompress } from "../compression/decompress.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { importNar } from "../ingest/ingest-nar.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { textAnswer } from "./exchange.ts";
import type { NarFileName } from "./nar-file-name.ts";

/**
 * Answers 201 when the tree and what the file turned out to be are durable: the body has ended where Content-Length said, so have the decoder and
 * the NAR, and FileHash is the one in the name.
 */
export async function putNar(request: HttpRequest, name: NarFileName, store: Store, maxNarBytes: number): Promise<HttpAnswer> {
  const { signal } = request;
  // It may have waited for its turn.
  signal.throwIfAborted();
  const file = new Sha256Tap();
  let fileSize = 0;
  let codec: Codec = "none";
  let codecIsKnown = false;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of request.body) {
      fileSize += bytes.length;
      // An uncompressed file's hash is the NAR's, which is taken anyway.
      if (!codecIsKnown || codec !== "none") file.update(bytes);
      yield bytes;
    }
  }
  const onCodec = (found: Codec): void => {
    codec = found;
    codecIsKnown = true;
  };
  const work = store.begin();
  const nar = await importNar(decompress(counted(), { signal, onCodec, maxOutputBytes: maxNarBytes }), {
    blobs: work.blobs,
    directories: work.directories,
    directorySizeProfile: await store.directorySizeProfile({ signal }),
    signal,
  });
  const fileSha256 = codec === "none" ? nar.narSha256 : file.digest();
  if (!equalBytes(fileSha256, name.sha256)) {
    throw new NarborError("ERR_MISMATCH", `Cannot store the NAR: its file has SHA-256 ${encodeNix32(fileSha256)}, the URL says ${encodeNix32(name.sha256)}`);
  }
  await work.nars.put(nar, { fileSha256, fileSize, codec }, { signal });
  await work.commit({ signal });
  return textAnswer(201, "");
}

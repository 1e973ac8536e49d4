import type { Codec } from "../compression/codec.ts";
import { decompress } from "../compression/decompress.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import type { NarFileRecord } from "../store/nar-index.ts";
import type { ImportedNar, ImportNarOptions } from "./ingest-nar.ts";
import { importNar } from "./ingest-nar.ts";

export interface ImportNarFileOptions extends ImportNarOptions {
  /** Bytes of the NAR, decompressed; more is ERR_LIMIT. @default no limit */
  readonly maxNarBytes?: number | undefined;
}

/**
 * Take apart a NAR that comes as a file, in any compression, told by its bytes, and say what the file was: FileHash and FileSize are of the file as it came.
 *
 * @throws as `importNar` and `decompress`
 */
export async function importNarFile(source: AsyncIterable<Uint8Array>, options: ImportNarFileOptions): Promise<{ readonly nar: ImportedNar; readonly file: NarFileRecord }> {
  const { signal, maxNarBytes } = options;
  const tap = new Sha256Tap();
  let fileSize = 0;
  let codec: Codec | undefined;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of source) {
      fileSize += bytes.length;
      // An uncompressed file's hash is the NAR's, which is taken anyway.
      if (codec !== "none") tap.update(bytes);
      yield bytes;
    }
  }
  const onCodec = (found: Codec): void => void (codec = found);
  const nar = await importNar(decompress(counted(), { signal, onCodec, maxOutputBytes: maxNarBytes }), options);
  const isPlain = codec === undefined || codec === "none";
  return { nar, file: { fileSha256: isPlain ? nar.narSha256 : tap.digest(), fileSize, codec: codec ?? "none" } };
}

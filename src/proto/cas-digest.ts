/** Digests as the Remote Execution API writes them: base16 and a size. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { copyBytes } from "../bytes/collect.ts";
import { toHex } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import type { Digest, DigestSchema } from "./gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";

/** @param size bytes; 0 when it is not known */
export function toCasDigest(digest: Uint8Array, size: number): MessageInitShape<typeof DigestSchema> {
  return { hash: toHex(digest), sizeBytes: BigInt(size) };
}

/** The 32 bytes of a digest and its size. @throws NarborError ERR_INVALID */
export function fromCasDigest(digest: Digest | undefined): { readonly bytes: Uint8Array; readonly size: number } {
  if (digest === undefined) throw new NarborError("ERR_INVALID", "Cannot read a digest: it is missing");
  const { hash, sizeBytes } = digest;
  if (sizeBytes < 0n || sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new NarborError("ERR_INVALID", `Cannot read a digest: size_bytes ${sizeBytes}`);
  return { bytes: parseCasHash(hash), size: Number(sizeBytes) };
}

/** The 32 bytes of a BLAKE3 hash in base16, lower case. @throws NarborError ERR_INVALID */
export function parseCasHash(hash: string): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(hash)) {
    throw new NarborError("ERR_INVALID", `Cannot read a digest: found hash ${JSON.stringify(hash.slice(0, 80))}, expected 64 digits of base16 in lower case (BLAKE3)`);
  }
  return copyBytes(Buffer.from(hash, "hex"));
}

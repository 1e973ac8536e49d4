import { NarborError } from "../errors.ts";
import { STORE_PATH_DIGEST_LENGTH } from "../nix/store-path.ts";

/** The hash in a store path, checked. @throws NarborError ERR_NIX_INVALID */
export function checkStorePathDigest(digest: Uint8Array): Uint8Array {
  if (digest.length !== STORE_PATH_DIGEST_LENGTH) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot read the hash of a store path: found ${digest.length} bytes, expected ${STORE_PATH_DIGEST_LENGTH}`);
  }
  return digest;
}

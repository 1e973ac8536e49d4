/** From a store of ours to NARs in a directory. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { formatSriHash, toNixHash } from "../nix/nix-hash.ts";
import { formatStorePath } from "../nix/store-path.ts";
import { planNar } from "../render/render-nar.ts";
import { renderArchive } from "../render/segments.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { StoreServices } from "../store/store.ts";
import type { TransferOptions } from "./transfer-closure.ts";
import { transferClosure } from "./transfer-closure.ts";

/** Where NARs are pulled to. */
export interface NarTarget<Written> {
  /** Whether it has the path, whole; what little is lacking may be made good. */
  holds(path: PathInfo): Promise<boolean>;
  /** Write a NAR. When `nar` throws, nothing of it may be left. */
  write(path: PathInfo, nar: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<Written>;
  /** Make the path known. All that it refers to is known then. */
  register(path: PathInfo, written: Written): Promise<void>;
}

export type PullOptions = Omit<TransferOptions<PathInfo>, "verb" | "source">;

/**
 * Write a closure's NARs, of those paths that are missing there. A NAR that does not come out as it went in fails its path.
 *
 * @param closure as `findClosure` gives it
 * @throws as `transferClosure`
 */
export async function pullClosure<Written>(closure: readonly PathInfo[], services: Pick<StoreServices, "blobs" | "directories">, target: NarTarget<Written>, options: PullOptions): Promise<void> {
  await transferClosure(
    closure,
    {
      isPresent: async (path) => await target.holds(path),
      move: async (path, signal, onBytes) => await target.write(path, verifiedNar(path, services, signal, onBytes), signal),
      register: async (path, written) => await target.register(path, written),
    },
    { ...options, verb: "pull", source: "the store" },
  );
}

/** A path's NAR, which ends in an error when it is not the one that was stored. */
async function* verifiedNar(
  path: PathInfo,
  services: Pick<StoreServices, "blobs" | "directories">,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  const cannot = `Cannot pull ${formatStorePath(path.storePath)}: its NAR`;
  const plan = await planNar(path.root, services, { signal });
  if (plan.size !== path.narSize) throw new NarborError("ERR_DATA_LOSS", `${cannot} has ${plan.size} bytes, NarSize is ${path.narSize}`);
  const nar = new Sha256Tap();
  for await (const bytes of renderArchive(plan, services, { signal })) {
    nar.update(bytes);
    onBytes(nar.size);
    yield bytes;
  }
  const digest = nar.digest();
  if (equalBytes(digest, path.narSha256)) return;
  const [is, said] = [digest, path.narSha256].map((bytes) => formatSriHash(toNixHash("sha256", bytes)));
  throw new NarborError("ERR_DATA_LOSS", `${cannot} has SHA-256 ${is}, NarHash is ${said}`);
}

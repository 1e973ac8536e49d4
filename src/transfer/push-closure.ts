/** From the Nix store of this machine to a store of ours. */
import { equalBytes } from "../bytes/compare-bytes.ts";
import type { Node } from "../castore/node.ts";
import { isTreeStored } from "../castore/stored-tree.ts";
import { NarborError } from "../errors.ts";
import { importNar } from "../ingest/ingest-nar.ts";
import { formatSriHash, toNixHash } from "../nix/nix-hash.ts";
import type { NixPathInfo } from "../nix/path-info-json.ts";
import { formatStorePath } from "../nix/store-path.ts";
import { mergeSignatures, pathInfoFingerprint } from "../store/path-info.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { Store } from "../store/store.ts";
import type { LocalStore } from "./local-nix-store.ts";
import type { TransferOptions } from "./transfer-closure.ts";
import { transferClosure } from "./transfer-closure.ts";

export interface PushOptions extends Omit<TransferOptions<NixPathInfo>, "verb" | "source"> {
  /** Told of a path that the store has with other contents, which are then replaced. */
  readonly onReplace?: (path: NixPathInfo) => void;
}

/** Bytes of small files held in memory, by all that are pushed at once. */
const BUFFERED_BYTES = 256 * 1024 * 1024;

/**
 * Put a closure into a store: of what is missing there the NARs, and signatures that are new there. Missing is also a path that is known and of which a
 * directory or a file is not stored any more. A NAR that is not what Nix's database says fails its path.
 *
 * @param closure as `LocalStore.closure` gives it
 * @throws as `transferClosure`
 */
export async function pushClosure(closure: readonly NixPathInfo[], local: Pick<LocalStore, "dump">, store: Store, options: PushOptions): Promise<void> {
  const directorySizeProfile = await store.directorySizeProfile({ signal: options.signal });
  const bufferedBytes = Math.ceil(BUFFERED_BYTES / options.jobs);

  /** Paths that are known and cannot be served. */
  const lost = new Set<NixPathInfo>();

  const isPresent = async (path: NixPathInfo, signal: AbortSignal): Promise<boolean> => {
    const known = await store.pathInfos.get(path.storePath.digest, { signal });
    if (known === undefined) return false;
    if (!equalBytes(known.narSha256, path.narSha256)) options.onReplace?.(path);
    // Signatures are made over the references, too.
    if (pathInfoFingerprint(known) !== pathInfoFingerprint({ ...path, root: known.root })) return false;
    // What was lost of it since it was put cannot be served, and comes back only when it is sent again.
    if (!(await isTreeStored(known.root, store, { signal }))) {
      lost.add(path);
      return false;
    }
    const signatures = mergeSignatures(known.signatures, path.signatures);
    if (signatures.length > known.signatures.length) await store.pathInfos.put({ ...known, signatures }, { signal });
    return true;
  };

  const move = async (path: NixPathInfo, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<Node> => {
    const known = lost.has(path) ? undefined : await store.nars.byNarHash(path.narSha256, { signal });
    if (known?.narSize === path.narSize && (await isTreeStored(known.root, store, { signal }))) return known.root;
    const work = store.begin();
    const nar = await importNar(counted(local.dump(path.storePath, signal), onBytes), { blobs: work.blobs, directories: work.directories, directorySizeProfile, bufferedBytes, signal });
    checkNar(path, nar);
    await work.nars.put(nar, undefined, { signal });
    await work.commit({ signal });
    return nar.root;
  };

  const register = async (path: NixPathInfo, root: Node, signal: AbortSignal): Promise<void> => {
    const pathInfo: PathInfo = { ...path, root };
    await store.pathInfos.put(pathInfo, { signal });
  };

  await transferClosure(closure, { isPresent, move, register }, { ...options, verb: "push", source: "the Nix store" });
}

async function* counted(source: AsyncIterable<Uint8Array>, onBytes: (bytes: number) => void): AsyncGenerator<Uint8Array, void, undefined> {
  let passed = 0;
  for await (const bytes of source) {
    passed += bytes.length;
    onBytes(passed);
    yield bytes;
  }
}

function checkNar(path: NixPathInfo, found: { readonly narSha256: Uint8Array; readonly narSize: number }): void {
  const cannot = `Cannot push ${formatStorePath(path.storePath)}: its NAR`;
  if (!equalBytes(found.narSha256, path.narSha256)) {
    const [is, said] = [found.narSha256, path.narSha256].map((digest) => formatSriHash(toNixHash("sha256", digest)));
    throw new NarborError("ERR_MISMATCH", `${cannot} has NarHash ${is}, Nix's database says ${said}; "nix store repair" may help`);
  }
  if (found.narSize !== path.narSize) throw new NarborError("ERR_MISMATCH", `${cannot} has ${found.narSize} bytes, Nix's database says ${path.narSize}`);
}

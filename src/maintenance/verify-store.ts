import { errorMessage, isNarborError } from "../errors.ts";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { hashNar } from "../render/known-nar.ts";
import { formatStorePath } from "../nix/store-path.ts";
import type { PathInfo } from "../store/path-info.ts";
import type { CheckableStore, StoreCheck } from "../store/store-check.ts";
import type { StoreServices } from "../store/store.ts";

/** What a verification tells as it goes. */
export type VerifyEvent =
  | StoreCheck
  /** A store path that cannot be served any more, and why. */
  | { readonly type: "hurtPath"; readonly storePath: string; readonly message: string }
  /** The last one. */
  | { readonly type: "summary"; readonly damages: number; readonly paths: number; readonly hurtPaths: number };

/**
 * Check everything a store holds, where it can check itself, and then every store path: it is read as a client would read it, and its NAR hashed.
 */
export async function* verifyStore(store: StoreServices & Partial<CheckableStore>, signal?: AbortSignal): AsyncGenerator<VerifyEvent, void, undefined> {
  let damages = 0;
  for await (const event of store.check?.(signal) ?? []) {
    if (event.type === "damage") damages++;
    yield event;
  }
  let paths = 0;
  let hurtPaths = 0;
  for await (const pathInfo of store.pathInfos.list({ signal })) {
    paths++;
    const message = await told(checkNar(pathInfo, store, signal));
    if (message === undefined) continue;
    hurtPaths++;
    yield { type: "hurtPath", storePath: formatStorePath(pathInfo.storePath), message };
  }
  yield { type: "summary", damages, paths, hurtPaths };
}

async function told(check: Promise<string | undefined>): Promise<string | undefined> {
  try {
    return await check;
  } catch (error) {
    if (!isNarborError(error, "ERR_NOT_FOUND", "ERR_DATA_LOSS", "ERR_CASTORE_INVALID")) throw error;
    return errorMessage(error);
  }
}

async function checkNar({ root, narSize, narSha256 }: PathInfo, store: StoreServices, signal: AbortSignal | undefined): Promise<string | undefined> {
  const nar = await hashNar(root, store, { signal });
  if (nar.narSize !== narSize) return `its NAR has ${nar.narSize} bytes, its path info says ${narSize}`;
  return equalBytes(nar.narSha256, narSha256) ? undefined : "its NAR has another hash than its path info says";
}

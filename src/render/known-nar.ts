import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { encodeNix32 } from "../nix/nix32.ts";
import type { NarIndex, NarRecord } from "../store/nar-index.ts";
import { equalNars } from "../store/nar-index.ts";
import type { TreeServices } from "./render-nar.ts";
import { planNar } from "./render-nar.ts";
import { renderArchive } from "./segments.ts";

/** Where a tree is read from, and where it is remembered what NAR it gives. */
export interface NarServices extends TreeServices {
  readonly nars: Pick<NarIndex, "byRoot" | "put">;
}

/**
 * What NAR a tree gives: as it is remembered, or else rendered and hashed once, and then remembered.
 *
 * @throws NarborError ERR_NOT_FOUND when the tree is not stored, ERR_DATA_LOSS when part of it is not
 */
export async function knownNar(root: Node, services: NarServices, options?: CallOptions): Promise<NarRecord> {
  const known = await services.nars.byRoot(root, options);
  if (known !== undefined) return known;
  const record = await hashNar(root, services, options);
  await services.nars.put(record, undefined, options);
  return record;
}

/**
 * Take someone's word for what NAR a tree gives, unless it contradicts what is remembered: then the tree is rendered, and what it gives counts.
 *
 * @throws NarborError ERR_MISMATCH when it gives another NAR; ERR_NOT_FOUND when it is not stored, ERR_DATA_LOSS when part of it is not
 */
export async function checkClaimedNar(claimed: NarRecord, services: TreeServices & { readonly nars: Pick<NarIndex, "byNarHash" | "byRoot"> }, options?: CallOptions): Promise<void> {
  const known = [await services.nars.byNarHash(claimed.narSha256, options), await services.nars.byRoot(claimed.root, options)];
  if (known.every((nar) => nar === undefined || equalNars(nar, claimed))) return;
  const found = await hashNar(claimed.root, services, options);
  if (!equalNars(found, claimed)) throw new NarborError("ERR_MISMATCH", `Cannot record the NAR: it is said to be ${describe(claimed)}, and its tree gives ${describe(found)}`);
}

/**
 * Render a tree's NAR and hash it.
 *
 * @throws NarborError ERR_NOT_FOUND when the tree is not stored, ERR_DATA_LOSS when part of it is not
 */
export async function hashNar(root: Node, services: TreeServices, options?: CallOptions): Promise<NarRecord> {
  const plan = await planNar(root, services, options);
  const hash = new Sha256Tap();
  for await (const bytes of renderArchive(plan, services, options)) hash.update(bytes);
  return { narSha256: hash.digest(), narSize: plan.size, root };
}

function describe({ narSha256, narSize }: NarRecord): string {
  return `sha256:${encodeNix32(narSha256)} of ${narSize} bytes`;
}

import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import type { NarIndex, NarRecord } from "../store/nar-index.ts";
import type { TreeServices } from "./nar-plan.ts";
import { planNar } from "./nar-plan.ts";
import { renderNar } from "./render-nar.ts";

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
 * Render a tree's NAR and hash it.
 *
 * @throws NarborError ERR_NOT_FOUND when the tree is not stored, ERR_DATA_LOSS when part of it is not
 */
export async function hashNar(root: Node, services: TreeServices, options?: CallOptions): Promise<NarRecord> {
  const plan = await planNar(root, services, options);
  const hash = new Sha256Tap();
  for await (const bytes of renderNar(plan, services, options)) hash.update(bytes);
  return { narSha256: hash.digest(), narSize: plan.narSize, root };
}

/** A recipe and its blobs to the bytes that they were. */
import { collectBytes } from "../bytes/collect.ts";
import type { BlobRef } from "../castore/blob-service.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { formatDigest } from "../castore/digest.ts";
import { readRecipe } from "../castore/recipe.ts";
import { NarborError } from "../errors.ts";
import type { ReadBlobs, RenderPlan } from "./segments.ts";
import { planSegments } from "./segments.ts";

/** A recipe's bytes. @throws NarborError ERR_DATA_LOSS when it is not stored any more */
export async function loadRecipe(recipe: BlobRef, blobs: Pick<ReadBlobs, "openRead">, options?: CallOptions): Promise<Uint8Array> {
  const content = await blobs.openRead(recipe.digest, options);
  if (content === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot render: recipe ${formatDigest(recipe.digest)} is not stored any more`);
  return await collectBytes(content, recipe.size, "a recipe");
}

/**
 * Look up all that a recipe needs.
 *
 * @param size bytes that it makes
 * @throws NarborError ERR_DATA_LOSS when it, or something that it needs, is not stored any more, and when it makes something else
 */
export async function planRecipe(recipe: BlobRef, size: number, blobs: ReadBlobs, options?: CallOptions): Promise<RenderPlan> {
  const bytes = await loadRecipe(recipe, blobs, options);
  return await planSegments(() => readRecipe(bytes, size), blobs, "ERR_DATA_LOSS", options);
}

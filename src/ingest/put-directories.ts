import { equalBytes } from "../bytes/compare-bytes.ts";
import { formatDigest } from "../castore/digest.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { NarborError } from "../errors.ts";
import type { DirectoryStack } from "./directory-stack.ts";

/** Store the directories of a tree that has ended. @throws NarborError ERR_MISMATCH when the service gives its root another name */
export async function putDirectories(stack: DirectoryStack, directories: Pick<DirectoryService, "putClosure">, signal: AbortSignal): Promise<void> {
  const { root } = stack;
  if (root.type !== "directory") return;
  const stored = await untilAborted(directories.putClosure(stack.finished, { signal }), signal);
  if (!equalBytes(stored, root.digest)) {
    throw new NarborError("ERR_MISMATCH", `Cannot store directories: the service calls the root ${formatDigest(stored)}, expected ${formatDigest(root.digest)}`);
  }
}

import type { CallOptions } from "./call-options.ts";
import { formatDigest } from "./digest.ts";
import { findEntry } from "./directory.ts";
import { decodeDirectory } from "./directory-proto.ts";
import type { DirectoryService } from "./directory-service.ts";
import type { Node } from "./node.ts";
import { NarborError } from "../errors.ts";

/**
 * The node at `path` below `root`, or undefined when there is none. Symbolic links are not followed.
 *
 * @throws NarborError ERR_DATA_LOSS when a directory on the way is not stored
 */
export async function resolvePath(
  root: Node,
  path: readonly Uint8Array[],
  directories: Pick<DirectoryService, "get">,
  options?: CallOptions,
): Promise<Node | undefined> {
  let node: Node | undefined = root;
  for (const name of path) {
    if (node?.type !== "directory") return undefined;
    const bytes = await directories.get(node.digest, options);
    if (bytes === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(node.digest)}: it is not stored`);
    node = findEntry(decodeDirectory(bytes), name)?.node;
  }
  return node;
}

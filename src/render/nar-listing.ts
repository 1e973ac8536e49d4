/**
 * The listing of a NAR, `<hash>.ls` in a binary cache: its tree as JSON, with the place of each file's contents in the NAR.
 * The shape is Nix's (src/libutil/nar-listing.cc), version 1.
 */
import { asBuffer } from "../bytes/as-buffer.ts";
import type { Tree } from "./tree.ts";
import { walkTree } from "./tree.ts";
import { encodeDirectoryEnd, encodeDirectoryStart, encodeFileEnd, encodeFileStart, encodeSymlink, NAR_MAGIC } from "../nar/nar-encoder.ts";

/**
 * The JSON in pieces of a node each.
 *
 * @param toText what is written of a name or a target, as JSON has no bytes. By default bytes that are not UTF-8 are replaced, as no reader of `.ls` files
 * knows of a way to write them; two names may be the same then
 */
export function* narListing(tree: Tree, toText: (bytes: Uint8Array) => string = (bytes) => asBuffer(bytes).toString("utf8")): Generator<string, void, undefined> {
  const text = (bytes: Uint8Array): string => JSON.stringify(toText(bytes));
  yield '{"version":1,"root":';
  let offset = NAR_MAGIC.length;
  let isFirst = true;
  for (const step of walkTree(tree)) {
    if (step.type === "endDirectory") {
      offset += encodeDirectoryEnd(step.isRoot).length;
      yield "}}";
      isFirst = false;
      continue;
    }
    const key = step.name.length === 0 ? "" : `${isFirst ? "" : ","}${text(step.name)}:`;
    isFirst = step.type === "directory";
    switch (step.type) {
      case "directory":
        offset += encodeDirectoryStart(step.name).length;
        yield `${key}{"type":"directory","entries":{`;
        break;
      case "symlink":
        offset += encodeSymlink(step.name, step.node.target).length;
        yield `${key}{"type":"symlink","target":${text(step.node.target)}}`;
        break;
      case "file": {
        const { size, executable } = step.node;
        offset += encodeFileStart(step.name, size, executable).length;
        yield `${key}{"type":"regular","size":${size}${executable ? ',"executable":true' : ""},"narOffset":${offset}}`;
        offset += size + encodeFileEnd(size, step.name.length === 0).length;
        break;
      }
    }
  }
  yield "}";
}

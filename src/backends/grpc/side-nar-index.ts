import type { BlobService } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import type { Node } from "../../castore/node.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../store/nar-index.ts";

/**
 * The NAR index that is kept here for a server that has no place for one. It says nothing of a tree whose root the server does not have: that one may have
 * been emptied, or be another one at the same address, and whoever believed that a NAR is there would not send it again.
 */
export class SideNarIndex implements NarIndex {
  readonly #index: NarIndex;
  readonly #server: { readonly blobs: Pick<BlobService, "stat">; readonly directories: Pick<DirectoryService, "get"> };

  constructor(index: NarIndex, server: { readonly blobs: Pick<BlobService, "stat">; readonly directories: Pick<DirectoryService, "get"> }) {
    this.#index = index;
    this.#server = server;
  }

  async byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined> {
    return await this.#ifThere(await this.#index.byNarHash(narSha256, options), options);
  }

  async byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined> {
    return await this.#ifThere(await this.#index.byFileHash(fileSha256, options), options);
  }

  /** True of a tree wherever it is. */
  async byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined> {
    return await this.#index.byRoot(root, options);
  }

  async put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void> {
    await this.#index.put(nar, file, options);
  }

  async #ifThere<R extends NarRecord>(record: R | undefined, options: CallOptions | undefined): Promise<R | undefined> {
    return record !== undefined && (await this.#isThere(record.root, options)) ? record : undefined;
  }

  async #isThere(root: Node, options: CallOptions | undefined): Promise<boolean> {
    switch (root.type) {
      case "directory":
        return (await this.#server.directories.get(root.digest, options)) !== undefined;
      case "file":
        return (await this.#server.blobs.stat(root.digest, options)) !== undefined;
      case "symlink":
        return true;
    }
  }
}

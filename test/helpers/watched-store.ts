import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import type { DirectoryService } from "../../src/castore/directory-service.ts";
import type { Store } from "../../src/store/store.ts";
import { hexes } from "./bytes.ts";

/** A memory store that knows what was stored in it, and what is under way. */
export class WatchedStore {
  readonly memory = new MemoryStore();
  /** Digests of all blobs and roots that were stored, as base16. */
  readonly storedBlobs = new Set<string>();
  readonly storedRoots = new Set<string>();
  /** Names of calls, as they began. */
  readonly calls: string[] = [];
  /** Writes under way. */
  writing = 0;
  maxWriting = 0;
  /** Called before a call goes on to the store. */
  before: (call: string) => unknown = () => undefined;

  readonly #blobs: Partial<BlobService> = {
    findMissing: async (digests, options) => {
      await this.#begin("findMissing");
      return await this.memory.blobs.findMissing(digests, options);
    },
    putMany: async (blobs, options) => {
      await this.#write("putMany", async () => {
        await this.memory.blobs.putMany(blobs, options);
        this.#remember(this.storedBlobs, ...blobs.map(({ digest }) => digest));
      });
    },
    put: async (content, options) =>
      await this.#write("put", async () => {
        const digest = await this.memory.blobs.put(content, options);
        this.#remember(this.storedBlobs, digest);
        return digest;
      }),
  };

  readonly #directories: Partial<DirectoryService> = {
    putClosure: async (directories, options) =>
      await this.#write("putClosure", async () => {
        const root = await this.memory.directories.putClosure(directories, options);
        this.#remember(this.storedRoots, root);
        return root;
      }),
  };

  /** The store, watched. */
  readonly store: Store = new Proxy(this.memory as Store, {
    get: (target, property) => {
      if (property === "blobs") return overlay(target.blobs, this.#blobs);
      if (property === "directories") return overlay(target.directories, this.#directories);
      const value = Reflect.get(target, property) as unknown;
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });

  async #begin(call: string): Promise<void> {
    this.calls.push(call);
    await this.before(call);
  }

  async #write<T>(call: string, work: () => Promise<T>): Promise<T> {
    await this.#begin(call);
    this.maxWriting = Math.max(this.maxWriting, ++this.writing);
    try {
      return await work();
    } finally {
      this.writing--;
    }
  }

  #remember(set: Set<string>, ...digests: readonly B3Digest[]): void {
    for (const hex of hexes(digests)) set.add(hex);
  }
}

function overlay<Service extends object>(good: Service, methods: Partial<Service>): Service {
  return new Proxy(good, {
    get: (target, property) => {
      const value = (Reflect.get(methods, property) ?? Reflect.get(target, property)) as unknown;
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

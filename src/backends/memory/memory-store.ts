/** A store in memory: for tests, and the plainest reading of what the interfaces ask. */
import { toHex } from "../../bytes/text-encoding.ts";
import { compareBytes } from "../../bytes/compare-bytes.ts";
import { collectBytes, copyBytes } from "../../bytes/collect.ts";
import type { BlobRef, BlobService, BlobStat, ReadOptions, SmallBlob } from "../../castore/blob-service.ts";
import { toSmallBlob } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { digestKey, formatDigest } from "../../castore/digest.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import type { NamedDirectory } from "../../castore/directory-order.ts";
import { ClosureValidator } from "../../castore/directory-order.ts";
import { decodeDirectory, encodeEntry } from "../../castore/directory-proto.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import type { Node } from "../../castore/node.ts";
import { abortable } from "../../concurrency/abortable.ts";
import { NarborError } from "../../errors.ts";
import type { ComputedCache, ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import { checkComputed } from "../../store/computed-cache.ts";
import type { DocumentIndex, DocumentRecord } from "../../store/document-index.ts";
import type { NarFileRecord, NarIndex, NarRecord } from "../../store/nar-index.ts";
import type { PathInfo } from "../../store/path-info.ts";
import { mergePathInfo } from "../../store/path-info.ts";
import type { PathInfoService } from "../../store/path-info-service.ts";
import type { Store, StoreWork } from "../../store/store.ts";

/** Shared by the services of one store: whether it is still open. */
class Lifetime {
  #closed = false;

  close(): void {
    this.#closed = true;
  }

  /** @throws the signal's reason; NarborError ERR_CLOSED */
  check(options: CallOptions | undefined): void {
    if (this.#closed) throw new NarborError("ERR_CLOSED", "The store is closed");
    options?.signal?.throwIfAborted();
  }
}

class MemoryBlobService implements BlobService {
  readonly #lifetime: Lifetime;
  readonly #blobs = new Map<string, Uint8Array>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async findMissing(digests: readonly B3Digest[], options?: CallOptions): Promise<readonly B3Digest[]> {
    this.#lifetime.check(options);
    const missing = new Map<string, B3Digest>();
    for (const digest of digests) if (!this.#blobs.has(digestKey(digest))) missing.set(digestKey(digest), digest);
    return [...missing.values()];
  }

  async stat(digest: B3Digest, options?: CallOptions): Promise<BlobStat | undefined> {
    this.#lifetime.check(options);
    return this.#blobs.has(digestKey(digest)) ? { chunks: [] } : undefined;
  }

  async putMany(blobs: readonly SmallBlob[], options?: CallOptions): Promise<void> {
    this.#lifetime.check(options);
    for (const { digest, bytes } of blobs) this.#blobs.set(digestKey(digest), copyBytes(bytes));
  }

  async put(content: AsyncIterable<Uint8Array>, options?: CallOptions): Promise<B3Digest> {
    this.#lifetime.check(options);
    const bytes = await collectBytes(abortable(content, options?.signal), Number.MAX_SAFE_INTEGER, "a blob");
    this.#lifetime.check(options);
    const { digest } = toSmallBlob(bytes);
    this.#blobs.set(digestKey(digest), bytes);
    return digest;
  }

  async openRead(digest: B3Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    this.#lifetime.check(options);
    const bytes = this.#blobs.get(digestKey(digest));
    return bytes === undefined ? undefined : this.#read(bytes.subarray(options?.start ?? 0, options?.end ?? bytes.length), options);
  }

  async *readMany(blobs: Iterable<BlobRef> | AsyncIterable<BlobRef>, options?: CallOptions): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const { digest, size } of abortable(blobs, options?.signal)) {
      this.#lifetime.check(options);
      const bytes = this.#blobs.get(digestKey(digest));
      if (bytes?.length !== size) throw notStored({ digest, size }, bytes?.length);
      yield bytes;
    }
  }

  async *#read(bytes: Uint8Array, options: CallOptions | undefined): AsyncGenerator<Uint8Array, void, undefined> {
    this.#lifetime.check(options);
    if (bytes.length > 0) yield bytes;
  }
}

function notStored({ digest, size }: BlobRef, found: number | undefined): NarborError {
  const what = found === undefined ? "it is not stored" : `it has ${found} bytes, not ${size}`;
  return new NarborError("ERR_NOT_FOUND", `Cannot read blob ${formatDigest(digest)}: ${what}`);
}

class MemoryDirectoryService implements DirectoryService {
  readonly #lifetime: Lifetime;
  readonly #directories = new Map<string, Uint8Array>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async get(digest: B3Digest, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#lifetime.check(options);
    return this.#directories.get(digestKey(digest));
  }

  async getClosure(root: B3Digest, options?: CallOptions): Promise<AsyncIterable<NamedDirectory> | undefined> {
    this.#lifetime.check(options);
    return this.#directories.has(digestKey(root)) ? this.#walk(root, options) : undefined;
  }

  async putClosure(directories: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options?: CallOptions): Promise<B3Digest> {
    this.#lifetime.check(options);
    const validator = new ClosureValidator();
    const closure: NamedDirectory[] = [];
    for await (const bytes of abortable(directories, options?.signal)) {
      const directory = validator.add(copyBytes(bytes));
      if (directory !== undefined) closure.push(directory);
    }
    const root = validator.finish();
    this.#lifetime.check(options);
    for (const { digest, bytes } of closure) this.#directories.set(digestKey(digest), bytes);
    return root;
  }

  async *#walk(root: B3Digest, options: CallOptions | undefined): AsyncGenerator<NamedDirectory, void, undefined> {
    const queue = [root];
    const seen = new Set([digestKey(root)]);
    for (let digest = queue.shift(); digest !== undefined; digest = queue.shift()) {
      this.#lifetime.check(options);
      const bytes = this.#directories.get(digestKey(digest));
      if (bytes === undefined) throw new NarborError("ERR_DATA_LOSS", `Cannot read directory ${formatDigest(digest)}: it is not stored`);
      yield { digest, bytes };
      for (const { node } of decodeDirectory(bytes)) {
        if (node.type !== "directory" || seen.has(digestKey(node.digest))) continue;
        seen.add(digestKey(node.digest));
        queue.push(node.digest);
      }
    }
  }
}

class MemoryPathInfoService implements PathInfoService {
  readonly #lifetime: Lifetime;
  readonly #pathInfos = new Map<string, PathInfo>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async get(digest: Uint8Array, options?: CallOptions): Promise<PathInfo | undefined> {
    this.#lifetime.check(options);
    return this.#pathInfos.get(digestKey(digest));
  }

  async put(pathInfo: PathInfo, options?: CallOptions): Promise<PathInfo> {
    this.#lifetime.check(options);
    const key = digestKey(pathInfo.storePath.digest);
    const earlier = this.#pathInfos.get(key);
    const stored = earlier === undefined ? pathInfo : mergePathInfo(earlier, pathInfo);
    this.#pathInfos.set(key, stored);
    return stored;
  }

  async *list(options?: CallOptions): AsyncGenerator<PathInfo, void, undefined> {
    this.#lifetime.check(options);
    const sorted = [...this.#pathInfos.values()].sort((a, b) => compareBytes(a.storePath.digest, b.storePath.digest));
    for (const pathInfo of sorted) {
      this.#lifetime.check(options);
      yield pathInfo;
    }
  }

  async delete(digest: Uint8Array, options?: CallOptions): Promise<boolean> {
    this.#lifetime.check(options);
    return this.#pathInfos.delete(digestKey(digest));
  }
}

class MemoryNarIndex implements NarIndex {
  readonly #lifetime: Lifetime;
  readonly #nars = new Map<string, NarRecord>();
  readonly #roots = new Map<string, NarRecord>();
  readonly #files = new Map<string, { readonly file: NarFileRecord; readonly narKey: string }>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async byNarHash(narSha256: Uint8Array, options?: CallOptions): Promise<NarRecord | undefined> {
    this.#lifetime.check(options);
    return this.#nars.get(digestKey(narSha256));
  }

  async byFileHash(fileSha256: Uint8Array, options?: CallOptions): Promise<(NarFileRecord & NarRecord) | undefined> {
    this.#lifetime.check(options);
    const { file, narKey = "" } = this.#files.get(digestKey(fileSha256)) ?? {};
    const nar = this.#nars.get(narKey);
    return file && nar && { ...file, ...nar };
  }

  async byRoot(root: Node, options?: CallOptions): Promise<NarRecord | undefined> {
    this.#lifetime.check(options);
    return this.#roots.get(toHex(encodeEntry(root)));
  }

  async put(nar: NarRecord, file?: NarFileRecord, options?: CallOptions): Promise<void> {
    this.#lifetime.check(options);
    const narKey = digestKey(nar.narSha256);
    this.#nars.set(narKey, nar);
    this.#roots.set(toHex(encodeEntry(nar.root)), nar);
    if (file !== undefined) this.#files.set(digestKey(file.fileSha256), { file, narKey });
  }
}

class MemoryDocumentIndex implements DocumentIndex {
  readonly #lifetime: Lifetime;
  readonly #documents = new Map<string, DocumentRecord>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async get(name: string, options?: CallOptions): Promise<DocumentRecord | undefined> {
    this.#lifetime.check(options);
    return this.#documents.get(name);
  }

  async put(document: DocumentRecord, options?: CallOptions): Promise<void> {
    this.#lifetime.check(options);
    this.#documents.set(document.name, document);
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<DocumentRecord, void, undefined> {
    const names = [...this.#documents.keys()].filter((name) => name.startsWith(prefix));
    for (const name of names.sort((a, b) => compareBytes(Buffer.from(a), Buffer.from(b)))) {
      this.#lifetime.check(options);
      const document = this.#documents.get(name);
      if (document !== undefined) yield document;
    }
    this.#lifetime.check(options);
  }

  async delete(name: string, options?: CallOptions): Promise<boolean> {
    this.#lifetime.check(options);
    return this.#documents.delete(name);
  }
}

class MemoryComputedCache implements ComputedCache {
  readonly #lifetime: Lifetime;
  readonly #values = new Map<string, { readonly kind: string; readonly value: Uint8Array; readonly seconds: number }>();
  readonly #counts = new Map<string, { hits: number; misses: number; secondsSaved: number }>();

  constructor(lifetime: Lifetime) {
    this.#lifetime = lifetime;
  }

  async get(key: ComputedKey, options?: CallOptions): Promise<Uint8Array | undefined> {
    this.#lifetime.check(options);
    checkComputed(key);
    const found = this.#values.get(computedKey(key));
    const counts = this.#counts.get(key.kind) ?? { hits: 0, misses: 0, secondsSaved: 0 };
    this.#counts.set(key.kind, counts);
    if (found === undefined) counts.misses++;
    else {
      counts.hits++;
      counts.secondsSaved += found.seconds;
    }
    return found?.value;
  }

  async put(key: ComputedKey, value: Uint8Array, seconds: number, options?: CallOptions): Promise<void> {
    this.#lifetime.check(options);
    checkComputed(key, value, seconds);
    this.#values.set(computedKey(key), { kind: key.kind, value: copyBytes(value), seconds });
  }

  async stats(options?: CallOptions): Promise<readonly ComputedStats[]> {
    this.#lifetime.check(options);
    const kinds = new Set([...this.#counts.keys(), ...[...this.#values.values()].map(({ kind }) => kind)]);
    return [...kinds].sort().map((kind) => ({
      kind,
      entries: [...this.#values.values()].filter((value) => value.kind === kind).length,
      ...(this.#counts.get(kind) ?? { hits: 0, misses: 0, secondsSaved: 0 }),
    }));
  }

  async clear(options?: CallOptions): Promise<number> {
    this.#lifetime.check(options);
    const { size } = this.#values;
    this.#values.clear();
    this.#counts.clear();
    return size;
  }
}

function computedKey({ kind, digest }: ComputedKey): string {
  return `${digestKey(digest)}${kind}`;
}

export class MemoryStore implements Store {
  readonly #directorySizeProfile: DirectorySizeProfile;
  readonly #lifetime = new Lifetime();
  readonly blobs: BlobService = new MemoryBlobService(this.#lifetime);
  readonly directories: DirectoryService = new MemoryDirectoryService(this.#lifetime);
  readonly pathInfos: PathInfoService = new MemoryPathInfoService(this.#lifetime);
  readonly nars: NarIndex = new MemoryNarIndex(this.#lifetime);
  readonly documents: DocumentIndex = new MemoryDocumentIndex(this.#lifetime);
  readonly computed: ComputedCache = new MemoryComputedCache(this.#lifetime);

  constructor(directorySizeProfile: DirectorySizeProfile = "documented") {
    this.#directorySizeProfile = directorySizeProfile;
  }

  async directorySizeProfile(options?: CallOptions): Promise<DirectorySizeProfile> {
    this.#lifetime.check(options);
    return this.#directorySizeProfile;
  }

  begin(): StoreWork {
    const { blobs, directories, nars } = this;
    return { blobs, directories, nars, commit: async (options) => this.#lifetime.check(options) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifetime.close();
  }
}

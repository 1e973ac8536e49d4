/** A store at the other end of a gRPC connection: another Narbor, or any server of the castore and store protocols. */
import type { BlobService } from "../../castore/blob-service.ts";
import type { CallOptions } from "../../castore/call-options.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import type { DirectoryService } from "../../castore/directory-service.ts";
import type { DescribedStore } from "../../store/described-store.ts";
import type { ComputedCache } from "../../store/computed-cache.ts";
import type { DocumentIndex } from "../../store/document-index.ts";
import type { NarIndex } from "../../store/nar-index.ts";
import type { PathInfoService } from "../../store/path-info-service.ts";
import type { Store, StoreServices, StoreWork } from "../../store/store.ts";
import { GrpcBlobService } from "./blob-service.ts";
import { GrpcComputedCache } from "./computed-cache.ts";
import { GrpcDirectoryService } from "./directory-service.ts";
import { GrpcDocumentIndex } from "./document-index.ts";
import type { GrpcAddress } from "./grpc-address.ts";
import { parseGrpcAddress } from "./grpc-address.ts";
import { GrpcCore } from "./grpc-core.ts";
import { GrpcNarIndex } from "./nar-index.ts";
import { GrpcPathInfoService } from "./path-info-service.ts";
import { SideNarIndex } from "./side-nar-index.ts";
import { ChosenComputedCache, ChosenDocumentIndex, ChosenNarIndex } from "./chosen-index.ts";
import { NarborError } from "../../errors.ts";

/** What a server that is no Narbor has no place for. */
export type SideStore = Pick<StoreServices, "nars" | "documents" | "computed"> & AsyncDisposable;

export interface GrpcStoreOptions {
  /**
   * Opens where to keep the NAR index and the documents when the server is no Narbor; called once, when they are first needed. Without it, what
   * needs them is ERR_UNSUPPORTED there.
   */
  readonly openSideStore?: () => Promise<SideStore>;
}

export class GrpcStore implements Store, DescribedStore {
  readonly address: GrpcAddress;
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
  readonly pathInfos: PathInfoService;
  readonly nars: NarIndex;
  readonly documents: DocumentIndex;
  readonly computed: ComputedCache;
  readonly #core: GrpcCore;
  readonly #openSideStore: GrpcStoreOptions["openSideStore"];
  #sideStore: Promise<SideStore> | undefined;

  /**
   * Nothing is connected to before the first call.
   *
   * @param address such as `grpc://127.0.0.1:7420`; see `parseGrpcAddress`
   * @throws NarborError ERR_INVALID
   */
  constructor(address: string, options: GrpcStoreOptions = {}) {
    this.address = parseGrpcAddress(address);
    this.#openSideStore = options.openSideStore;
    this.#core = new GrpcCore(this.address);
    this.blobs = new GrpcBlobService(this.#core);
    this.directories = new GrpcDirectoryService(this.#core);
    this.pathInfos = new GrpcPathInfoService(this.#core);
    const own = { nars: new GrpcNarIndex(this.#core), documents: new GrpcDocumentIndex(this.#core), computed: new GrpcComputedCache(this.#core) };
    const choose = async (callOptions: CallOptions | undefined): Promise<Omit<SideStore, typeof Symbol.asyncDispose>> =>
      (await this.#core.peer(callOptions)).isNarbor ? own : await this.#side();
    this.nars = new ChosenNarIndex(async (callOptions) => {
      const { nars } = await choose(callOptions);
      return nars === own.nars ? nars : new SideNarIndex(nars, this);
    });
    this.documents = new ChosenDocumentIndex(async (callOptions) => (await choose(callOptions)).documents);
    this.computed = new ChosenComputedCache(async (callOptions) => (await choose(callOptions)).computed);
  }

  /** What the address says, or else the server; a server that is no Narbor says nothing, which is taken for `documented`. */
  async directorySizeProfile(options?: CallOptions): Promise<DirectorySizeProfile> {
    this.#core.channel.check(options);
    return this.address.directorySize ?? (await this.#core.peer(options)).directorySize ?? "documented";
  }

  /** Every write is durable when its call returns: there is nothing left to commit. */
  begin(): StoreWork {
    const { blobs, directories, nars } = this;
    return { blobs, directories, nars, commit: async (options) => this.#core.channel.check(options) };
  }

  get name(): string {
    return this.address.text;
  }

  /** What the server is. */
  async describe(): Promise<Readonly<Record<string, string | number>>> {
    const { version, family, maxBatchBytes, readsBlocks, blockCompression } = await this.#core.peer(undefined);
    return {
      store: this.name,
      server: version === undefined ? `${family} (no Narbor)` : `Narbor ${version}`,
      directorySize: await this.directorySizeProfile(),
      blobs: maxBatchBytes === undefined ? "one at a time" : `in batches of ${maxBatchBytes} bytes${blockCompression === undefined ? "" : ", written in blocks"}${readsBlocks ? ", read in blocks as they are stored" : ""}`,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#core.channel.close();
    const side = await this.#sideStore?.catch(() => undefined);
    await side?.[Symbol.asyncDispose]();
  }

  async #side(): Promise<SideStore> {
    if (this.#openSideStore === undefined) {
      throw new NarborError("ERR_UNSUPPORTED", `${this.address.text} is not a Narbor: it cannot remember what a NAR is, and nothing was opened here that does`);
    }
    this.#sideStore ??= this.#openSideStore();
    return await this.#sideStore.catch((error: unknown) => {
      this.#sideStore = undefined;
      throw error;
    });
  }
}

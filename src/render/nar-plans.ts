/** NARs that are asked for again: by many clients at once, in ranges, or by a client that comes back. */
import pLimit from "p-limit";
import { ByteWriter } from "../bytes/byte-writer.ts";
import type { ArchiveFrames, ArchivePart } from "../castore/archive-frames.ts";
import type { CallOptions } from "../castore/call-options.ts";
import type { Node } from "../castore/node.ts";
import { nextTurn } from "../concurrency/next-turn.ts";
import { isNarborError } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import type { ComputedCache, ComputedKey } from "../store/computed-cache.ts";
import { FRAMED_NAR_KIND } from "../store/computed-cache.ts";
import type { NarRecord } from "../store/nar-index.ts";
import type { FramedForm, FramedNar } from "./framed-nar.ts";
import { planFramedNar, renderFramedNar } from "./framed-nar.ts";
import type { PlanCacheOptions } from "./plan-cache.ts";
import { PlanCache } from "./plan-cache.ts";
import type { TreeServices } from "./render-nar.ts";
import { planTree } from "./render-nar.ts";
import type { RenderOptions, RenderPlan } from "./segments.ts";
import { renderArchive } from "./segments.ts";
import { loadTree, treeBytes } from "./tree.ts";

/** Files that are remembered, what one takes in memory, and how many are read at once to be hashed. */
const MAX_FILES = 65_536;
const FILE_BYTES = 300;
const FILES_HASHED_AT_ONCE = 4;
const SIZE_LENGTH = 8;
const HASH_LENGTH = 32;
/** What a part of a plan takes in memory. */
const PART_BYTES = 500;
/** A NAR of less is served as it is: there is nothing to gain. */
const MIN_FRAMED_BYTES = 16 * 1024;
/** So much of a NAR may lie elsewhere than in stored frames, and be served as it is. */
const MAX_BETWEEN_SHARE = 0.5;

export interface NarPlansServices extends TreeServices {
  readonly computed: Pick<ComputedCache, "get" | "put">;
  readonly frames?: ArchiveFrames | undefined;
}

/** A NAR in frames as a file that is downloaded. */
export interface FramedFile {
  /** Bytes. */
  readonly fileSize: number;
  /** SHA-256, 32 bytes. */
  readonly fileHash: Uint8Array;
}

/** Plans NARs, each once for all who ask for it at the same time, and keeps the plans of the last ones for a while. */
export class NarPlans {
  readonly #services: NarPlansServices;
  readonly #plans: PlanCache<RenderPlan>;
  readonly #framed: PlanCache<FramedNar | undefined>;
  readonly #files = new PlanCache<FramedFile | undefined>({ maxBytes: MAX_FILES * FILE_BYTES, maxAgeMilliseconds: Infinity });
  readonly #hashing = pLimit(FILES_HASHED_AT_ONCE);

  constructor(services: NarPlansServices, options?: PlanCacheOptions) {
    this.#services = services;
    this.#plans = new PlanCache(options);
    this.#framed = new PlanCache(options);
  }

  /** As `planNar`. */
  async plan(root: Node, options?: CallOptions): Promise<RenderPlan> {
    const make = async (): Promise<{ readonly plan: RenderPlan; readonly bytes: number }> => {
      await nextTurn();
      const tree = await loadTree(root, this.#services.directories);
      return { plan: await planTree(tree, this.#services), bytes: treeBytes(tree) };
    };
    return await this.#plans.plan(root, make, options);
  }

  /** As `renderArchive`; a NAR that cannot be rendered is planned anew the next time. */
  async *render(root: Node, plan: RenderPlan, options?: RenderOptions): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* renderArchive(plan, this.#services, options);
    } catch (error) {
      this.#plans.forget(root);
      throw error;
    }
  }

  /** As `planFramedNar`; undefined where more than half of the NAR lies elsewhere, or it is small, or the store has no frames. */
  async planFramed({ root, narSize }: Pick<NarRecord, "root" | "narSize">, options?: CallOptions): Promise<FramedNar | undefined> {
    const { frames, directories } = this.#services;
    if (frames === undefined || narSize < MIN_FRAMED_BYTES) return undefined;
    const make = async (): Promise<{ readonly plan: FramedNar | undefined; readonly bytes: number }> => {
      await nextTurn();
      const plan = await planFramedNar(await loadTree(root, directories), frames, narSize * MAX_BETWEEN_SHARE);
      return { plan, bytes: (plan?.parts ?? []).reduce((sum, part) => sum + partBytes(part), PART_BYTES) };
    };
    return await this.#framed.plan(root, make, options);
  }

  /** What the NAR in frames is as a file; undefined as for `planFramed`. Read once, and remembered. */
  async framedFile(nar: NarRecord, options?: CallOptions): Promise<FramedFile | undefined> {
    const { root, narSize, narSha256 } = nar;
    if (this.#services.frames === undefined || narSize < MIN_FRAMED_BYTES) return undefined;
    const make = async (): Promise<{ readonly plan: FramedFile | undefined; readonly bytes: number }> => {
      const key = { kind: FRAMED_NAR_KIND, digest: narSha256 };
      const known = decodeFile(await this.#services.computed.get(key));
      return { plan: known ?? (await this.#hashing(() => this.#hashFramed(nar, key))), bytes: FILE_BYTES };
    };
    return await this.#files.plan(root, make, options);
  }

  /** As `renderFramedNar`; a NAR that cannot be rendered is planned anew the next time. */
  async *renderFramed(root: Node, plan: FramedNar, form: FramedForm, options?: RenderOptions): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* renderFramedNar(plan, form, this.#services, options);
    } catch (error) {
      this.#framed.forget(root);
      throw error;
    }
  }

  async #hashFramed(nar: NarRecord, key: ComputedKey): Promise<FramedFile | undefined> {
    const start = performance.now();
    const plan = await this.planFramed(nar);
    if (plan === undefined) return undefined;
    const hash = new Sha256Tap();
    for await (const bytes of this.renderFramed(nar.root, plan, "zstd")) hash.update(bytes);
    const file = { fileSize: plan.size, fileHash: hash.digest() };
    try {
      await this.#services.computed.put(key, encodeFile(file), (performance.now() - start) / 1000);
    } catch (error) {
      // A full disk, say. It is hashed again when it is asked for again.
      if (!isNarborError(error)) throw error;
    }
    return file;
  }
}

/** About how much memory it takes. */
function partBytes(part: ArchivePart): number {
  if (!("segments" in part)) return PART_BYTES;
  return part.segments.reduce((sum, segment) => sum + PART_BYTES + (segment instanceof Uint8Array ? segment.length : 0), PART_BYTES);
}

function encodeFile({ fileSize, fileHash }: FramedFile): Uint8Array {
  const writer = new ByteWriter(SIZE_LENGTH + HASH_LENGTH);
  writer.writeUint64(fileSize);
  writer.writeBytes(fileHash);
  return writer.take();
}

function decodeFile(bytes: Uint8Array | undefined): FramedFile | undefined {
  if (bytes?.length !== SIZE_LENGTH + HASH_LENGTH) return undefined;
  return { fileSize: Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)), fileHash: bytes.subarray(SIZE_LENGTH) };
}

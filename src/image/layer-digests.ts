/** The digests of layers: remembered, or computed once and then remembered. */
import type { StreamPiece } from "../bytes/framed-bytes.ts";
import { bytesOf } from "../bytes/framed-bytes.ts";
import { toHex } from "../bytes/text-encoding.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { compress, ENCODER_VERSION } from "../compression/compress.ts";
import { isNarborError, NarborError } from "../errors.ts";
import { Sha256Tap, sha256 } from "../hash/sha256.ts";
import type { TreeServices } from "../render/render-nar.ts";
import { renderArchive, renderChunks } from "../render/segments.ts";
import type { ComputedCache, ComputedKey } from "../store/computed-cache.ts";
import type { LayerSource } from "./image-source.ts";
import type { OciDigest } from "./oci-schema.ts";

export interface LayerCompression {
  readonly codec: "none" | "gzip" | "zstd";
  readonly level: number | undefined;
}

/** A layer's digests: what an image's configuration and its manifest call it. */
export interface LayerDescriptor {
  readonly diffId: OciDigest;
  /** Of the compressed layer. */
  readonly digest: OciDigest;
  /** Bytes of the compressed layer. */
  readonly size: number;
}

export interface LayerServices {
  readonly blobs: TreeServices["blobs"];
  readonly computed: ComputedCache;
}

/** Where nothing is rendered, one in so many remembered digests is computed again, and held against what was remembered: with 50 layers, every fortieth time. */
const ONE_IN = 2048;
const SHA256_LENGTH = 32;
/** What compression may add to a layer of little. */
const MAX_OVERHEAD_BYTES = 64 * 1024;

export interface LayerDigestsOptions extends CallOptions {
  /** Level of zstd with which uncompressed layers are going to be compressed together: then they come with the frames that they lie in. */
  readonly outerLevel?: number | undefined;
  /** Told of uncompressed bytes as layers are rendered. */
  readonly onRendered?: ((bytes: number) => void) | undefined;
}

export class LayerDigests {
  readonly #services: LayerServices;
  readonly #compression: LayerCompression;
  readonly #options: LayerDigestsOptions;
  readonly #isToBeVerified: () => boolean;

  /** @param isToBeVerified whether a remembered digest is to be held against the layer, now and then by default */
  constructor(services: LayerServices, compression: LayerCompression, options: LayerDigestsOptions = {}, isToBeVerified: () => boolean = () => Math.random() * ONE_IN < 1) {
    this.#services = services;
    this.#compression = compression;
    this.#options = options;
    this.#isToBeVerified = isToBeVerified;
  }

  /** Whether a layer's digests need not be looked for: it is uncompressed, and has its diffID. */
  isNamed({ diffId }: LayerSource): boolean {
    return diffId !== undefined && this.#compression.codec === "none";
  }

  /** What is remembered of a layer. */
  async find(layer: LayerSource): Promise<LayerDescriptor | undefined> {
    const plain = layer.diffId === undefined ? await this.#findPlain(layer) : { digest: layer.diffId, size: await layer.size() };
    if (plain === undefined) return undefined;
    const diffId = plain.digest;
    if (this.#compression.codec === "none") return { diffId, ...plain };
    const file = decodeValue(await this.#services.computed.get(this.#fileKey(diffId), this.#options));
    // No compression makes more of it: then it is as good as not known.
    return file !== undefined && file.size <= 2 * plain.size + MAX_OVERHEAD_BYTES ? { diffId, ...file } : undefined;
  }

  /** The layer's bytes as they go into an archive; `digests` is called when they have passed. */
  render(layer: LayerSource): { readonly bytes: AsyncIterable<StreamPiece>; readonly digests: () => LayerDescriptor } {
    const { codec, level } = this.#compression;
    const archive = new Sha256Tap();
    const file = new Sha256Tap();
    const plain = archive.through(this.#renderPlain(layer));
    const bytes = codec === "none" ? plain : file.through(compress(plain, codec, { level, signal: this.#options.signal }));
    return {
      bytes,
      digests: () => {
        const diffId = formatDigest(archive.digest());
        return codec === "none" ? { diffId, digest: diffId, size: archive.size } : { diffId, digest: formatDigest(file.digest()), size: file.size };
      },
    };
  }

  /** The layer's bytes when its digests are known, and are held against them. @throws NarborError ERR_DATA_LOSS when they are others; they are corrected then */
  async *renderKnown(layer: LayerSource, known: LayerDescriptor): AsyncGenerator<StreamPiece, void, undefined> {
    const begun = performance.now();
    const { bytes, digests } = this.render(layer);
    yield* bytes;
    await this.#correct(layer, known, digests(), begun);
  }

  async #correct(layer: LayerSource, known: LayerDescriptor, found: LayerDescriptor, begun: number): Promise<void> {
    if (found.digest === known.digest && found.diffId === known.diffId && found.size === known.size) return;
    await this.remember(layer, found, (performance.now() - begun) / 1000);
    const said = (descriptor: LayerDescriptor): string => `digest ${descriptor.digest}, diffID ${descriptor.diffId} and ${descriptor.size} bytes`;
    throw new NarborError("ERR_DATA_LOSS", `Cannot render a layer: it has ${said(found)}; ${said(known)} were remembered; that is corrected now, try again`);
  }

  /** @param seconds that it took to compute them */
  async remember(layer: LayerSource, { diffId, digest, size }: LayerDescriptor, seconds: number): Promise<void> {
    if (layer.diffId !== undefined && layer.diffId !== diffId) throw new NarborError("ERR_DATA_LOSS", `Cannot render a layer: it has diffID ${diffId}, it was imported with ${layer.diffId}`);
    const isPlain = this.#compression.codec === "none";
    // Where both are asked for, the time that they save is counted once.
    if (layer.treesDigest !== undefined) await this.#put(diffIdKey(layer.treesDigest), { digest: diffId, size: await layer.size() }, isPlain ? seconds : 0);
    if (!isPlain) await this.#put(this.#fileKey(diffId), { digest, size }, seconds);
  }

  /** Whoever may read and not write has no need to. */
  async #put(key: ComputedKey, value: DigestAndSize, seconds: number): Promise<void> {
    try {
      await this.#services.computed.put(key, encodeValue(value), seconds, this.#options);
    } catch (error) {
      if (!isNarborError(error, "ERR_FORBIDDEN", "ERR_READ_ONLY")) throw error;
    }
  }

  /** What a layer's digests are, whatever it takes. @throws as `confirm` */
  async compute(layer: LayerSource): Promise<LayerDescriptor> {
    const known = await this.find(layer);
    if (known !== undefined) {
      await this.confirm(layer, known);
      return known;
    }
    const begun = performance.now();
    const found = await this.#digest(layer);
    await this.remember(layer, found, (performance.now() - begun) / 1000);
    return found;
  }

  /** Now and then, hold what is remembered of a layer against it. @throws NarborError ERR_DATA_LOSS when it was wrong; it is corrected then */
  async confirm(layer: LayerSource, known: LayerDescriptor): Promise<void> {
    if (!this.#isToBeVerified()) return;
    const begun = performance.now();
    await this.#correct(layer, known, await this.#digest(layer), begun);
  }

  async #digest(layer: LayerSource): Promise<LayerDescriptor> {
    const { bytes, digests } = this.render(layer);
    for await (const _ of bytes);
    return digests();
  }

  async *#renderPlain(layer: LayerSource): AsyncGenerator<StreamPiece, void, undefined> {
    const { codec, level } = this.#compression;
    const frameLevel = codec === "zstd" ? level : this.#options.outerLevel;
    const plan = await layer.plan();
    const pieces = frameLevel === undefined ? renderArchive(plan, this.#services, this.#options) : renderChunks(plan, this.#services, frameLevel, this.#options);
    for await (const piece of pieces) {
      this.#options.onRendered?.(bytesOf(piece).length);
      yield piece;
    }
  }

  async #findPlain({ treesDigest }: LayerSource): Promise<DigestAndSize | undefined> {
    return treesDigest === undefined ? undefined : decodeValue(await this.#services.computed.get(diffIdKey(treesDigest), this.#options));
  }

  #fileKey(diffId: OciDigest): ComputedKey {
    const { codec, level } = this.#compression;
    return { kind: "layer-file", digest: sha256(Buffer.from(`${diffId}\0${codec}\0${level ?? ""}\0${ENCODER_VERSION}`)) };
  }
}

function diffIdKey(treesDigest: Uint8Array): ComputedKey {
  return { kind: "layer-diff-id", digest: treesDigest };
}

/** What is remembered: of an uncompressed layer, or of a compressed one. */
interface DigestAndSize {
  readonly digest: OciDigest;
  readonly size: number;
}

/** SHA-256, and eight bytes of size, little-endian. */
function encodeValue({ digest, size }: DigestAndSize): Uint8Array {
  const value = Buffer.alloc(SHA256_LENGTH + 8);
  value.set(parseDigest(digest));
  value.writeBigUInt64LE(BigInt(size), SHA256_LENGTH);
  return value;
}

function decodeValue(value: Uint8Array | undefined): DigestAndSize | undefined {
  if (value?.length !== SHA256_LENGTH + 8) return undefined;
  const size = Number(Buffer.from(value).readBigUInt64LE(SHA256_LENGTH));
  return Number.isSafeInteger(size) ? { digest: formatDigest(value.subarray(0, SHA256_LENGTH)), size } : undefined;
}

function formatDigest(bytes: Uint8Array): OciDigest {
  return `sha256:${toHex(bytes)}`;
}

function parseDigest(digest: OciDigest): Uint8Array {
  return Buffer.from(digest.slice("sha256:".length), "hex");
}

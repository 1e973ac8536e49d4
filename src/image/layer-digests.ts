/** The digests of layers: remembered, or computed once and then remembered. */
import { toHex } from "../bytes/text-encoding.ts";
import type { CallOptions } from "../castore/call-options.ts";
import { compress, ENCODER_VERSION } from "../compression/compress.ts";
import { NarborError } from "../errors.ts";
import { Sha256Tap, sha256 } from "../hash/sha256.ts";
import type { TreeServices } from "../render/render-nar.ts";
import { renderArchive } from "../render/segments.ts";
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

/** One in so many remembered digests is computed again, and held against what was remembered. */
const ONE_IN = 32;
const SHA256_LENGTH = 32;

export interface LayerDigestsOptions extends CallOptions {
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

  /** What is remembered of a layer. */
  async find(layer: LayerSource): Promise<LayerDescriptor | undefined> {
    const diffId = layer.diffId ?? (await this.#findDiffId(layer));
    if (diffId === undefined) return undefined;
    if (this.#compression.codec === "none") return { diffId, digest: diffId, size: layer.plan.size };
    const value = await this.#services.computed.get(this.#fileKey(diffId), this.#options);
    if (value?.length !== SHA256_LENGTH + 8) return undefined;
    return { diffId, digest: formatDigest(value.subarray(0, SHA256_LENGTH)), size: Number(Buffer.from(value).readBigUInt64LE(SHA256_LENGTH)) };
  }

  /** The layer's bytes as they go into an archive; `digests` is called when they have passed. */
  render(layer: LayerSource): { readonly bytes: AsyncIterable<Uint8Array>; readonly digests: () => LayerDescriptor } {
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

  /** The layer's bytes when its digests are known, which now and then are held against them. @throws NarborError ERR_DATA_LOSS when they are others; they are forgotten then */
  async *renderKnown(layer: LayerSource, known: LayerDescriptor): AsyncGenerator<Uint8Array, void, undefined> {
    const { codec, level } = this.#compression;
    if (this.#isToBeVerified()) {
      const begun = performance.now();
      const { bytes, digests } = this.render(layer);
      yield* bytes;
      const found = digests();
      if (found.digest === known.digest && found.diffId === known.diffId) return;
      await this.remember(layer, found, (performance.now() - begun) / 1000);
      throw new NarborError("ERR_DATA_LOSS", `Cannot render a layer: it has digest ${found.digest}, ${known.digest} was remembered; that is corrected now, try again`);
    }
    const plain = this.#renderPlain(layer);
    yield* codec === "none" ? plain : compress(plain, codec, { level, signal: this.#options.signal });
  }

  /** @param seconds that it took to compute them */
  async remember(layer: LayerSource, { diffId, digest, size }: LayerDescriptor, seconds: number): Promise<void> {
    const { computed } = this.#services;
    if (layer.diffId !== undefined && layer.diffId !== diffId) throw new NarborError("ERR_DATA_LOSS", `Cannot render a layer: it has diffID ${diffId}, it was imported with ${layer.diffId}`);
    if (layer.treesDigest !== undefined) await computed.put(diffIdKey(layer.treesDigest), parseDigest(diffId), seconds, this.#options);
    if (this.#compression.codec === "none") return;
    const value = Buffer.alloc(SHA256_LENGTH + 8);
    value.set(parseDigest(digest));
    value.writeBigUInt64LE(BigInt(size), SHA256_LENGTH);
    await computed.put(this.#fileKey(diffId), value, seconds, this.#options);
  }

  /** What a layer's digests are, whatever it takes. */
  async compute(layer: LayerSource): Promise<LayerDescriptor> {
    const known = await this.find(layer);
    if (known !== undefined && !this.#isToBeVerified()) return known;
    const begun = performance.now();
    const { bytes, digests } = this.render(layer);
    for await (const _ of bytes);
    const found = digests();
    await this.remember(layer, found, (performance.now() - begun) / 1000);
    return found;
  }

  async *#renderPlain({ plan }: LayerSource): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of renderArchive(plan, this.#services, this.#options)) {
      this.#options.onRendered?.(bytes.length);
      yield bytes;
    }
  }

  async #findDiffId({ treesDigest }: LayerSource): Promise<OciDigest | undefined> {
    if (treesDigest === undefined) return undefined;
    const value = await this.#services.computed.get(diffIdKey(treesDigest), this.#options);
    return value?.length === SHA256_LENGTH ? formatDigest(value) : undefined;
  }

  #fileKey(diffId: OciDigest): ComputedKey {
    const { codec, level } = this.#compression;
    return { kind: "layer-file", digest: sha256(Buffer.from(`${diffId}\0${codec}\0${level ?? ""}\0${ENCODER_VERSION}`)) };
  }
}

function diffIdKey(treesDigest: Uint8Array): ComputedKey {
  return { kind: "layer-diff-id", digest: treesDigest };
}

function formatDigest(bytes: Uint8Array): OciDigest {
  return `sha256:${toHex(bytes)}`;
}

function parseDigest(digest: OciDigest): Uint8Array {
  return Buffer.from(digest.slice("sha256:".length), "hex");
}

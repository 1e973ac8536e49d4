/** Which images an archive holds, by its manifests; and whether everything in it is what they say. */
import type { LayerFile, LayerRecord } from "./image-record.ts";
import { cleanPath } from "./archive-members.ts";
import type { ImageConfig, OciDescriptor, OciDigest } from "./oci-schema.ts";
import { formatPlatform, parseConfig, parseDockerManifest, parseIndex, parseManifest } from "./oci-schema.ts";
import { NarborError } from "../errors.ts";

/** A file of an archive that has been read. */
export type ReadMember = { readonly size: number } & (
  | {
      /** SHA-256 of its bytes. */
      readonly digest: OciDigest;
      /** Its bytes, when it is small. */
      readonly bytes?: Uint8Array;
      /** When it is a layer; or why it is none, though it began like one. */
      readonly layer?: LayerRecord | Error;
    }
  | { readonly digest?: undefined; readonly bytes?: undefined; readonly layer: Error }
);

/** What came in an archive, by path. */
export type Members = ReadonlyMap<string, ReadMember | { readonly target: string }>;

export interface ResolvedImage {
  readonly id: OciDigest;
  readonly config: Uint8Array;
  readonly platform: string;
  readonly names: readonly string[];
  readonly layers: readonly { readonly layer: LayerRecord; readonly file: LayerFile }[];
}

/** Links that lead to links, and indexes within indexes. */
const MAX_LINKS = 16;
const MAX_INDEX_DEPTH = 4;
/** A tag alone, or a whole name; containerd writes both. */
const NAME_ANNOTATIONS = ["io.containerd.image.name", "org.opencontainers.image.ref.name"] as const;

/**
 * The images of an archive, in the order of its manifests.
 *
 * @throws NarborError ERR_IMAGE_INVALID when there is none, or a manifest cannot be read; ERR_MISMATCH when something is not what a manifest says
 */
export function resolveImages(members: Members): readonly ResolvedImage[] {
  const archive = new Archive(members);
  const found = byId(archive.dockerImages());
  for (const [id, image] of byId(archive.ociImages())) {
    const known = found.get(id);
    // docker writes both kinds of manifest. Its own has the names as a person writes them.
    found.set(id, known === undefined ? image : { ...known, names: known.names.length > 0 ? known.names : image.names });
  }
  if (found.size === 0) {
    throw new NarborError("ERR_IMAGE_INVALID", "Cannot read the image: the archive has neither a manifest.json (docker save) nor an index.json (OCI layout) with an image in it");
  }
  return [...found.values()];
}

/** A manifest may name an image more than once, each time by another name. */
function byId(images: Iterable<ResolvedImage>): Map<OciDigest, ResolvedImage> {
  const found = new Map<OciDigest, ResolvedImage>();
  for (const image of images) found.set(image.id, { ...image, names: [...new Set([...(found.get(image.id)?.names ?? []), ...image.names])] });
  return found;
}

class Archive {
  readonly #members: Members;

  constructor(members: Members) {
    this.#members = members;
  }

  *dockerImages(): Generator<ResolvedImage, void, undefined> {
    const manifest = this.#find("manifest.json");
    if (manifest === undefined) return;
    for (const { Config, RepoTags, Layers } of parseDockerManifest(this.#bytes("manifest.json"), "manifest.json")) {
      const names = RepoTags;
      const config = this.#bytes(Config);
      const id = digestOf(this.#file(Config));
      const [said] = /[0-9a-f]{64}(?=(\.json)?$)/.exec(Config) ?? [];
      if (said !== undefined && id !== `sha256:${said}`) throw new NarborError("ERR_MISMATCH", `Cannot take the image ${nameOf(names, id)}: its configuration has SHA-256 ${id}, its name says ${said}`);
      const files = Layers.map((path) => ({ path, file: this.#file(path) }));
      yield this.#toImage(id, config, Config, names, files.map(({ path, file }) => ({ path, file, mediaType: "" })));
    }
  }

  *ociImages(): Generator<ResolvedImage, void, undefined> {
    if (this.#find("index.json") === undefined) return;
    const descriptors = parseIndex(this.#bytes("index.json"), "index.json").manifests;
    yield* this.#manifests(descriptors, [], 0);
  }

  *#manifests(descriptors: readonly OciDescriptor[], outerNames: readonly string[], depth: number): Generator<ResolvedImage, void, undefined> {
    if (depth > MAX_INDEX_DEPTH) throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: indexes within indexes, more than ${MAX_INDEX_DEPTH} deep`);
    for (const descriptor of descriptors) {
      if (isAttestation(descriptor)) continue;
      const path = blobPath(descriptor.digest);
      // An index may name platforms that were not saved with it.
      if (this.#find(path) === undefined) continue;
      this.#check(path, descriptor, "manifest");
      const names = NAME_ANNOTATIONS.flatMap((key) => descriptor.annotations?.[key] ?? []).slice(0, 1);
      const bytes = this.#bytes(path);
      if (isIndex(descriptor, bytes)) {
        yield* this.#manifests(parseIndex(bytes, path).manifests, names.length > 0 ? names : outerNames, depth + 1);
        continue;
      }
      yield this.#ociImage(path, bytes, names.length > 0 ? names : outerNames);
    }
  }

  #ociImage(path: string, bytes: Uint8Array, names: readonly string[]): ResolvedImage {
    const { config, layers } = parseManifest(bytes, path);
    const configPath = blobPath(config.digest);
    this.#check(configPath, config, "configuration");
    const files = layers.map((layer, index) => {
      const layerPath = blobPath(layer.digest);
      return { path: layerPath, file: this.#check(layerPath, layer, `layer ${index + 1} of ${layers.length}`), mediaType: layer.mediaType };
    });
    return this.#toImage(config.digest, this.#bytes(configPath), configPath, names, files);
  }

  #toImage(id: OciDigest, config: Uint8Array, configPath: string, names: readonly string[], files: readonly { readonly path: string; readonly file: ReadMember; readonly mediaType: string }[]): ResolvedImage {
    const parsed: ImageConfig = parseConfig(config, configPath);
    const { diff_ids: diffIds } = parsed.rootfs;
    const cannot = `Cannot take the image ${nameOf(names, id)}`;
    if (diffIds.length !== files.length) throw new NarborError("ERR_MISMATCH", `${cannot}: its manifest has ${files.length} layers, its configuration ${diffIds.length}`);
    const layers = files.map(({ path, file, mediaType }, index) => {
      const which = `layer ${index + 1} of ${files.length} (${JSON.stringify(path)})`;
      const { layer } = file;
      if (layer === undefined) throw new NarborError("ERR_IMAGE_INVALID", `${cannot}: ${which} is no tar archive`);
      if (layer instanceof Error) throw new NarborError("ERR_IMAGE_INVALID", `${cannot}: ${which}: ${layer.message}`, { cause: layer });
      if (layer.diffId !== diffIds[index]) throw new NarborError("ERR_MISMATCH", `${cannot}: ${which} has diffID ${layer.diffId}, its configuration says ${diffIds[index]}`);
      return { layer, file: { mediaType, digest: digestOf(file), size: file.size } };
    });
    return { id, config, platform: formatPlatform(parsed), names, layers };
  }

  /** @throws NarborError ERR_MISMATCH when a file is not what a descriptor says */
  #check(path: string, descriptor: OciDescriptor, what: string): ReadMember {
    const file = this.#file(path);
    const digest = digestOf(file, `Cannot take the image: its ${what} ${descriptor.digest}`);
    if (digest !== descriptor.digest) throw new NarborError("ERR_MISMATCH", `Cannot take the image: its ${what} ${descriptor.digest} has SHA-256 ${digest}`);
    if (file.size !== descriptor.size) throw new NarborError("ERR_MISMATCH", `Cannot take the image: its ${what} ${descriptor.digest} has ${file.size} bytes, its descriptor says ${descriptor.size}`);
    return file;
  }

  #bytes(path: string): Uint8Array {
    const { bytes } = this.#file(path);
    if (bytes === undefined) throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(path)} is too large for a manifest or a configuration, or comes behind too much else that is no layer`);
    return bytes;
  }

  #file(path: string): ReadMember {
    const file = this.#find(path);
    if (file === undefined) throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(path)} is not in the archive`);
    return file;
  }

  #find(path: string): ReadMember | undefined {
    let current = cleanPath(path);
    for (let links = 0; links <= MAX_LINKS; links++) {
      const member = this.#members.get(current);
      if (member === undefined || !("target" in member)) return member;
      current = member.target;
    }
    throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(path)} is a link to a link, more than ${MAX_LINKS} times`);
  }
}

/** @throws why a layer that could not be read is none */
function digestOf(file: ReadMember, cannot = "Cannot read the image"): OciDigest {
  if (file.digest === undefined) throw new NarborError("ERR_IMAGE_INVALID", `${cannot}: ${file.layer.message}`, { cause: file.layer });
  return file.digest;
}

function blobPath(digest: OciDigest): string {
  return `blobs/sha256/${digest.slice("sha256:".length)}`;
}

/** What buildkit writes beside images: no layers that could be unpacked. */
function isAttestation({ platform, annotations }: OciDescriptor): boolean {
  return annotations?.["vnd.docker.reference.type"] === "attestation-manifest" || (platform?.os === "unknown" && platform.architecture === "unknown");
}

function isIndex({ mediaType }: OciDescriptor, bytes: Uint8Array): boolean {
  if (mediaType !== "") return mediaType.includes("image.index") || mediaType.includes("manifest.list");
  return Buffer.from(bytes).includes('"manifests"');
}

function nameOf([name]: readonly string[], id: OciDigest): string {
  return name === undefined ? id : JSON.stringify(name);
}

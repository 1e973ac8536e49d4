/** Image archives made in the test, right or wrong in any way a test likes. */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { TAR_END, encodeTarHeader, tarPadding } from "../../src/tar/tar-encoder.ts";

export type TarMember =
  | { readonly path: string; readonly bytes: Uint8Array; readonly mode?: number }
  | { readonly path: string; readonly symlink: string }
  | { readonly path: string; readonly hardlink: string }
  | { readonly path: string; readonly directory: true };

/** A tar archive of these members, in this order. */
export function tarOf(members: readonly TarMember[]): Buffer {
  return Buffer.concat([...members.flatMap(encodeMember), TAR_END]);
}

function encodeMember(member: TarMember): Uint8Array[] {
  const path = Buffer.from(member.path);
  if ("bytes" in member) return [encodeTarHeader({ path, kind: "file", mode: member.mode ?? 0o644, size: member.bytes.length }), member.bytes, tarPadding(member.bytes.length)];
  if ("symlink" in member) return [encodeTarHeader({ path, kind: "symlink", mode: 0o777, linkTarget: Buffer.from(member.symlink) })];
  if ("hardlink" in member) return [encodeTarHeader({ path, kind: "hardlink", mode: 0o644, linkTarget: Buffer.from(member.hardlink) })];
  return [encodeTarHeader({ path, kind: "directory", mode: 0o755 })];
}

export interface TestImage {
  readonly config: Buffer;
  /** `sha256:…` of the configuration. */
  readonly id: string;
  /** Uncompressed. */
  readonly layers: readonly Buffer[];
  readonly names: readonly string[];
}

export interface TestImageOptions {
  readonly names?: readonly string[];
  readonly architecture?: string;
  readonly variant?: string;
  readonly diffIds?: readonly string[];
}

export function imageOf(layers: readonly Buffer[], { names = ["hello:latest"], architecture = "amd64", variant, diffIds = layers.map(digestOf) }: TestImageOptions = {}): TestImage {
  const config = Buffer.from(JSON.stringify({ os: "linux", architecture, ...(variant !== undefined && { variant }), config: { Cmd: ["hello"] }, rootfs: { type: "layers", diff_ids: diffIds } }));
  return { config, id: digestOf(config), layers, names };
}

/** What `docker save` of old writes; a manifest may come first or last, and a member may be changed or left out. */
export function dockerMembers(images: readonly TestImage[], change: (members: TarMember[]) => TarMember[] = (members) => members): TarMember[] {
  const members: TarMember[] = [];
  const manifest = images.map((image) => {
    const Config = `${hexOf(image.id)}.json`;
    const Layers = image.layers.map((layer, index) => {
      const path = `${hexOf(digestOf(layer)).slice(0, 40)}-${index}/layer.tar`;
      members.push({ path, bytes: layer });
      return path;
    });
    members.push({ path: Config, bytes: image.config });
    return { Config, RepoTags: image.names.length === 0 ? null : image.names, Layers };
  });
  members.push({ path: "manifest.json", bytes: Buffer.from(JSON.stringify(manifest)) });
  return change(members);
}

export interface OciOptions {
  /** Of every layer. @default "none" */
  readonly compression?: "none" | "gzip";
  /** An index for several platforms within the index. */
  readonly nested?: boolean;
}

/** An OCI layout's files. */
export function ociMembers(images: readonly TestImage[], { compression = "none", nested = false }: OciOptions = {}): TarMember[] {
  const members: TarMember[] = [{ path: "oci-layout", bytes: Buffer.from('{"imageLayoutVersion":"1.0.0"}') }];
  const put = (bytes: Buffer, mediaType: string): Descriptor => {
    const digest = digestOf(bytes);
    const path = `blobs/sha256/${hexOf(digest)}`;
    if (!members.some((member) => member.path === path)) members.push({ path, bytes });
    return { mediaType, digest, size: bytes.length };
  };
  const descriptors = images.map((image) => {
    const config = put(image.config, "application/vnd.oci.image.config.v1+json");
    const layers = image.layers.map((layer) =>
      compression === "gzip" ? put(gzipSync(layer), "application/vnd.oci.image.layer.v1.tar+gzip") : put(layer, "application/vnd.oci.image.layer.v1.tar"),
    );
    const descriptor = put(Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers })), "application/vnd.oci.image.manifest.v1+json");
    const { os, architecture, variant } = JSON.parse(image.config.toString()) as Record<string, string>;
    const [name] = image.names;
    return { ...descriptor, platform: { os, architecture, variant }, ...(name !== undefined && { annotations: { "org.opencontainers.image.ref.name": name } }) };
  });
  const name = images[0]?.names[0];
  const manifests = nested
    ? [{ ...put(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: descriptors.map(({ mediaType, digest, size, platform }) => ({ mediaType, digest, size, platform })) })), "application/vnd.oci.image.index.v1+json"), annotations: { "org.opencontainers.image.ref.name": name } }]
    : descriptors;
  members.push({ path: "index.json", bytes: Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })) });
  return members;
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function hexOf(digest: string): string {
  return digest.slice("sha256:".length);
}

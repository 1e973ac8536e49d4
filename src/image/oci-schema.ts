/**
 * The JSON of image archives: the OCI image specification's index, manifest and configuration, and the `manifest.json` of `docker save`.
 * What is not read here is kept as it came: a configuration is a blob.
 * See https://github.com/opencontainers/image-spec and https://github.com/moby/docker-image-spec
 */
import * as v from "valibot";
import { NarborError } from "../errors.ts";

/** `sha256:` and base16: how images name things. */
export type OciDigest = `sha256:${string}`;

/** Layers of one image. */
const MAX_LAYERS = 1024;
/** Images in one archive. */
const MAX_MANIFESTS = 1024;
/** Names of one image. */
const MAX_NAMES = 1000;
const MAX_TEXT = 4096;

const text = v.pipe(v.string(), v.maxLength(MAX_TEXT));
const digest = v.custom<OciDigest>((value) => typeof value === "string" && /^sha256:[0-9a-f]{64}$/.test(value), "is no SHA-256 digest");
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** Go writes a list of nothing as null. */
const listOf = <S extends v.GenericSchema>(item: S, most: number) =>
  v.pipe(
    v.nullish(v.pipe(v.array(item), v.maxLength(most)), []),
    v.transform((list) => list ?? []),
  );
const annotations = v.optional(v.nullable(v.record(v.string(), v.string())));

const platform = v.object({ os: text, architecture: text, variant: v.optional(text) });

const descriptor = v.object({
  mediaType: v.optional(text, ""),
  digest,
  size,
  platform: v.optional(v.nullable(v.partial(platform))),
  annotations,
});

const index = v.object({ manifests: v.pipe(v.array(descriptor), v.maxLength(MAX_MANIFESTS)) });
const manifest = v.object({ config: descriptor, layers: listOf(descriptor, MAX_LAYERS) });
const config = v.object({
  os: v.optional(text, ""),
  architecture: v.optional(text, ""),
  variant: v.optional(text),
  created: v.optional(v.nullable(text)),
  rootfs: v.object({ diff_ids: listOf(digest, MAX_LAYERS) }),
});
const dockerManifest = v.pipe(
  v.array(
    v.object({
      Config: text,
      RepoTags: listOf(text, MAX_NAMES),
      Layers: listOf(text, MAX_LAYERS),
    }),
  ),
  v.maxLength(MAX_MANIFESTS),
);

export type OciDescriptor = v.InferOutput<typeof descriptor>;
export type OciIndex = v.InferOutput<typeof index>;
export type OciManifest = v.InferOutput<typeof manifest>;
export type ImageConfig = v.InferOutput<typeof config>;
export type DockerManifest = v.InferOutput<typeof dockerManifest>;

/** @throws NarborError ERR_IMAGE_INVALID */
export const parseIndex = parser("an index", index);
/** @throws NarborError ERR_IMAGE_INVALID */
export const parseManifest = parser("a manifest", manifest);
/** @throws NarborError ERR_IMAGE_INVALID */
export const parseConfig = parser("a configuration", config);
/** @throws NarborError ERR_IMAGE_INVALID */
export const parseDockerManifest = parser("docker's manifest.json", dockerManifest);

/** `linux/amd64`, or `linux/arm64/v8`. */
export function formatPlatform({ os, architecture, variant }: Pick<ImageConfig, "os" | "architecture" | "variant">): string {
  return [os || "unknown", architecture || "unknown", ...(variant === undefined || variant === "" ? [] : [variant])].join("/");
}

function parser<S extends v.GenericSchema>(what: string, schema: S): (bytes: Uint8Array, where: string) => v.InferOutput<S> {
  return (bytes, where) => {
    let json: unknown;
    try {
      json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (error) {
      throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(where)} is not JSON`, { cause: error });
    }
    const result = v.safeParse(schema, json);
    if (result.success) return result.output;
    const [issue] = result.issues;
    throw new NarborError("ERR_IMAGE_INVALID", `Cannot read the image: ${JSON.stringify(where)} is not ${what}: ${v.getDotPath(issue) ?? "all of it"}: ${issue.message.slice(0, 300)}`);
  };
}

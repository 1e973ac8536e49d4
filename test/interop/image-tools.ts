/** The programs that others read and write images with: skopeo, umoci, crane, and a registry of crane's. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { gunzipSync } from "node:zlib";
import { expect } from "vitest";
import { findProgram, outputOf } from "../helpers/programs.ts";

const WHAT = "images that are not ours, and ours with programs that are not";
const TOOLS = process.env["NARBOR_TEST_INTEROP_TOOLS"] ?? "";
const SKOPEO = findProgram(["skopeo"], WHAT);
const UMOCI = findProgram(["umoci"], WHAT);
const CRANE = findProgram([join(TOOLS, "crane"), "crane"], WHAT, "version");

/** Whether all are here. Where one is missing, CI fails; elsewhere a line says what is not covered. */
export const HAS_IMAGE_TOOLS = SKOPEO !== undefined && UMOCI !== undefined && CRANE !== undefined;

export async function skopeo(...args: readonly string[]): Promise<Buffer> {
  return await outputOf(SKOPEO ?? "", ["--insecure-policy", ...args]);
}

export async function umoci(...args: readonly string[]): Promise<Buffer> {
  return await outputOf(UMOCI ?? "", args);
}

export async function crane(...args: readonly string[]): Promise<Buffer> {
  return await outputOf(CRANE ?? "", args);
}

/** That crane finds every digest in a docker-archive right. */
export async function expectValidTarball(file: string): Promise<void> {
  expect((await crane("validate", "--tarball", file)).toString()).toMatch(/^PASS/);
}

/**
 * Push an OCI layout and check it, layers and all, as far as crane does: it finds all it needs, and an image that it has pulled out again is valid.
 * That a layer in a registry is not compressed it does not believe.
 */
export async function expectValidLayout(directory: string, reference: string, manifestDigest: string, scratch: string): Promise<void> {
  await crane("push", directory, reference);
  expect((await crane("digest", reference)).toString().trim()).toBe(manifestDigest);
  expect((await crane("validate", "--fast", "--remote", reference)).toString()).toMatch(/^PASS/);
  await crane("pull", "--format", "tarball", reference, scratch);
  await expectValidTarball(scratch);
}

export interface Inspected {
  readonly Digest: string;
  readonly Layers: readonly string[];
  readonly Architecture: string;
}

/** What skopeo says of an image, such as `oci:DIRECTORY:TAG`. */
export async function inspect(reference: string, ...options: readonly string[]): Promise<Inspected> {
  return JSON.parse((await skopeo(...options, "inspect", reference)).toString()) as Inspected;
}

/** The configuration as skopeo reads it, whose digest is the image's ID. */
export async function inspectConfig(reference: string, ...options: readonly string[]): Promise<Buffer> {
  return await skopeo(...options, "inspect", "--config", "--raw", reference);
}

/** Layers as they are unpacked, of a tag in an OCI layout whose layers are compressed with gzip: read without any of our code. */
export function layersInLayout(directory: string, tag: string): Buffer[] {
  const blob = (digest: string): Buffer => readFileSync(join(directory, "blobs", digest.replace(":", "/")));
  const index = JSON.parse(readFileSync(join(directory, "index.json")).toString()) as { manifests: { digest: string; annotations: Record<string, string> }[] };
  const found = index.manifests.find(({ annotations }) => annotations["org.opencontainers.image.ref.name"] === tag);
  const { layers } = JSON.parse(blob(found?.digest ?? "").toString()) as { layers: { digest: string }[] };
  return layers.map(({ digest }) => gunzipSync(blob(digest)));
}

/** A registry that holds everything in memory, until it is disposed. */
export interface Registry extends AsyncDisposable {
  /** Such as `127.0.0.1:12345`. */
  readonly host: string;
}

export async function startRegistry(): Promise<Registry> {
  const child = spawn(CRANE ?? "", ["registry", "serve", "--address", "127.0.0.1:0"], { stdio: ["ignore", "ignore", "pipe"] });
  const exit = once(child, "exit");
  const port = await new Promise<string>((found, failed) => {
    // Read on to the end: whoever writes to a pipe that no one reads stands still.
    createInterface(child.stderr).on("line", (line) => {
      const [, text] = /serving on port (\d+)/.exec(line) ?? [];
      if (text !== undefined) found(text);
    });
    void exit.then(() => failed(new Error("crane registry serve has ended")));
  });
  return {
    host: `127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await exit;
    },
  };
}

/** Images of skopeo, umoci and crane come in, and those programs read what comes out: every digest is the same, and every layer byte for byte. */
import { cp, mkdir, readFile, rm, symlink, link, writeFile, chmod, appendFile, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { dumpFilesystem } from "../../src/ingest/dump-filesystem.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { parseStorePath } from "../../src/nix/store-path.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { digestOf } from "../helpers/image-archives.ts";
import { runNarbor } from "../helpers/narbor-process.ts";
import { findProgram, outputOf } from "../helpers/programs.ts";
import { temporaryDirectory, type TemporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import { buildNarbor } from "./built-narbor.ts";
import { type ClosurePath, sampleClosure, storePathOf } from "./closure.ts";
import { crane, expectValidLayout, expectValidTarball, HAS_IMAGE_TOOLS, inspect, inspectConfig, layersInLayout, type Registry, skopeo, startRegistry, umoci } from "./image-tools.ts";

const PYTHON = findProgram(["python3"], "images as Nix's dockerTools writes them");
const DOCKER_TOOLS = resolve(import.meta.dirname, "docker_tools_image.py");
const TIMEOUT = 120_000;
/** crane makes an index of what is already in a registry, and skopeo asks it without TLS. */
const NO_TLS = "--src-tls-verify=false";

interface ImportedImage {
  readonly name: string;
  readonly platform: string;
  readonly id: string;
  readonly layers: readonly { readonly diffId: string; readonly size: number; readonly digest: string; readonly fileSize: number; readonly newBytes: number; readonly sharedBytes: number }[];
}

interface Exported {
  readonly digest: string;
  readonly size: number;
  readonly writtenBytes: number;
  readonly manifestDigest?: string;
  readonly platforms?: readonly { readonly id: string; readonly layers: readonly { readonly diffId: string; readonly digest: string; readonly size: number }[] }[];
}

/** An image that is to be found in an archive. */
interface Expected {
  readonly name: string;
  /** How skopeo calls it; where it cannot, the ID is not compared. */
  readonly reference?: string;
  readonly options?: readonly string[];
  readonly platform?: string;
  readonly layers: readonly Buffer[];
}

describe.skipIf(!HAS_IMAGE_TOOLS)("images", () => {
  let temporary: TemporaryDirectory;
  let registry: Registry;
  /** umoci's OCI layout: an image and one that is made of it, again and again. */
  let layout: string;
  /** By tag. */
  const layers = new Map<string, Buffer[]>();
  let stores = 0;

  const at = (...names: readonly string[]): string => join(temporary.path, ...names);
  const newStore = (): string => at(`store-${++stores}`);
  const layersOf = (tag: string): Buffer[] => layers.get(tag) as Buffer[];

  async function narbor(store: string, args: readonly string[], input?: Uint8Array): Promise<Buffer> {
    const { code, stdout, stderr } = await runNarbor([...args, "--store", store], { ...(input && { input }) });
    if (code !== 0) throw new Error(`narbor ${args.join(" ")} ended with ${code}: ${stderr}`);
    return stdout;
  }

  async function importImage(store: string, archive: string, input?: Uint8Array): Promise<ImportedImage[]> {
    const lines = (await narbor(store, ["image", "import", "--json", archive], input)).toString().trim().split("\n");
    return lines.map((line) => JSON.parse(line) as ImportedImage);
  }

  async function exportTo(file: string, store: string, args: readonly string[]): Promise<Exported> {
    return JSON.parse((await narbor(store, [...args, "--json", "--output", file])).toString()) as Exported;
  }

  /** Unpack with GNU tar. */
  async function unpack(archive: string, ...options: readonly string[]): Promise<string> {
    const directory = at(`unpacked-${++stores}`);
    await mkdir(directory);
    await outputOf("tar", ["-x", "-f", archive, "-C", directory, ...options]);
    return directory;
  }

  /** That an archive holds these images and no others; its layers, in all formats, are in every case those that are expected. */
  async function expectImported(archive: string, images: readonly Expected[], input?: Uint8Array): Promise<void> {
    const store = newStore();
    const imported = await importImage(store, archive, input);
    expect(imported.map(({ name }) => name).sort()).toEqual(images.map(({ name }) => name).sort());
    for (const image of images) await expectImage(store, imported, image);
  }

  async function expectImage(store: string, imported: readonly ImportedImage[], { name, reference, options = [], platform = "linux/amd64", layers: expected }: Expected): Promise<void> {
    const found = imported.find((image) => image.name === name && image.platform === platform);
    expect(found?.layers.map(({ diffId, size }) => [diffId, size])).toEqual(expected.map((layer) => [digestOf(layer), layer.length]));
    if (reference !== undefined) {
      expect(found?.id).toBe(digestOf(await inspectConfig(reference, ...options)));
      // Of a docker-archive skopeo says the digests of what it unpacks, whatever lies in it.
      if (!reference.startsWith("docker-archive:")) expect(found?.layers.map(({ digest }) => digest)).toEqual((await inspect(reference, ...options)).Layers);
    }
    const file = at(`exported-${++stores}.tar`);
    await exportTo(file, store, ["image", "export", name, "--platform", platform, "--format", "docker"]);
    const unpacked = await unpack(file);
    const [manifest] = JSON.parse((await readFile(join(unpacked, "manifest.json"))).toString()) as [{ Config: string; Layers: string[] }];
    expect(digestOf(await readFile(join(unpacked, manifest.Config)))).toBe(found?.id);
    expect(manifest.Layers).toHaveLength(expected.length);
    for (const [index, layer] of expected.entries()) expectBytes(await readFile(join(unpacked, manifest.Layers[index] ?? "")), layer);
  }

  beforeAll(async () => {
    buildNarbor();
    temporary = await temporaryDirectory();
    registry = await startRegistry();
    layout = at("umoci");
    await makeLayout(layout, at("trees"));
    for (const tag of ["empty", "base", "whiteout", "opaque", "repacked", "arm"]) layers.set(tag, layersInLayout(layout, tag));
    await skopeo("copy", `oci:${layout}:repacked`, `docker-archive:${at("skopeo.tar")}:registry.example/of-skopeo:1`);
    await skopeo("copy", `oci:${layout}:repacked`, `oci-archive:${at("skopeo-oci.tar")}:of-skopeo:2`);
  }, TIMEOUT);
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]();
    await temporary?.[Symbol.asyncDispose]();
  });

  describe("come in", () => {
    test("narbor image import takes umoci's layout, under every tag", { timeout: TIMEOUT }, async () => {
      const tags = ["empty", "base", "whiteout", "opaque", "repacked"];
      await expectImported(layout, [
        ...tags.map((tag) => ({ name: tag, reference: `oci:${layout}:${tag}`, layers: layersOf(tag) })),
        { name: "another-name", reference: `oci:${layout}:repacked`, layers: layersOf("repacked") },
        { name: "arm", reference: `oci:${layout}:arm`, platform: "linux/arm64", layers: layersOf("arm") },
      ]);
    });

    test("narbor image import takes skopeo's docker-archive, from a file and from a pipe, compressed or not", { timeout: TIMEOUT }, async () => {
      const image = { name: "registry.example/of-skopeo:1", reference: `docker-archive:${at("skopeo.tar")}`, layers: layersOf("repacked") };
      await expectImported(at("skopeo.tar"), [image]);
      await expectImported("-", [image], gzipSync(await readFile(at("skopeo.tar"))));
    });

    test("narbor image import takes skopeo's oci-archive and OCI directory", { timeout: TIMEOUT }, async () => {
      await expectImported(at("skopeo-oci.tar"), [{ name: "of-skopeo:2", reference: `oci-archive:${at("skopeo-oci.tar")}`, layers: layersOf("repacked") }]);
      await skopeo("copy", `oci:${layout}:whiteout`, `oci:${at("skopeo-oci")}:of-skopeo:3`);
      await skopeo("copy", `oci:${layout}:opaque`, `oci:${at("skopeo-oci")}:of-skopeo:4`);
      await expectImported(at("skopeo-oci"), [
        { name: "of-skopeo:3", reference: `oci:${at("skopeo-oci")}:of-skopeo:3`, layers: layersOf("whiteout") },
        { name: "of-skopeo:4", reference: `oci:${at("skopeo-oci")}:of-skopeo:4`, layers: layersOf("opaque") },
      ]);
    });

    test.for([
      ["zstd", ["--dest-compress", "--dest-compress-format", "zstd"]],
      ["nothing", ["--dest-oci-accept-uncompressed-layers"]],
    ] as const)("narbor image import takes skopeo's layers that are compressed with %s", { timeout: TIMEOUT }, async ([what, options]) => {
      const directory = at(`skopeo-${what}`);
      await skopeo("copy", ...options, `docker-archive:${at("skopeo.tar")}`, `oci:${directory}:it`);
      await expectImported(directory, [{ name: "it", reference: `oci:${directory}:it`, layers: layersOf("repacked") }]);
    });

    test.for(["tarball", "legacy"] as const)("narbor image import takes several images in one docker-archive, crane's %s", { timeout: TIMEOUT }, async (format) => {
      const names = ["base", "opaque"] as const;
      for (const tag of names) await skopeo("copy", "--dest-tls-verify=false", `oci:${layout}:${tag}`, `docker://${registry.host}/${tag}:1`);
      await crane("pull", "--format", format, ...names.map((tag) => `${registry.host}/${tag}:1`), at(`crane-${format}.tar`));
      await expectImported(at(`crane-${format}.tar`), names.map((tag) => ({ name: `${registry.host}/${tag}:1`, layers: layersOf(tag) })));
    });

    test("narbor image import takes several platforms, of crane and of skopeo", { timeout: TIMEOUT }, async () => {
      for (const tag of ["repacked", "arm"]) await skopeo("copy", "--dest-tls-verify=false", `oci:${layout}:${tag}`, `docker://${registry.host}/platforms:${tag}`);
      const name = `${registry.host}/platforms:both`;
      await crane("index", "append", "-m", `${registry.host}/platforms:repacked`, "-m", `${registry.host}/platforms:arm`, "-t", name);
      await crane("pull", "--format", "oci", "--annotate-ref", name, at("crane-oci"));
      await skopeo("copy", "--all", NO_TLS, `docker://${name}`, `oci-archive:${at("platforms.tar")}:both`);
      for (const [archive, as] of [[at("crane-oci"), name], [at("platforms.tar"), "both"]] as const) {
        const reference = archive.endsWith(".tar") ? `oci-archive:${archive}` : `oci:${archive}`;
        await expectImported(archive, [
          { name: as, reference, options: ["--override-arch", "amd64"], layers: layersOf("repacked") },
          { name: as, reference, options: ["--override-arch", "arm64"], platform: "linux/arm64", layers: layersOf("arm") },
        ]);
      }
    });

    test("narbor image import refuses what has changed on the way, and lists nothing", { timeout: TIMEOUT }, async () => {
      const damaged = at("damaged");
      await cp(layout, damaged, { recursive: true });
      const { Layers } = await inspect(`oci:${layout}:base`);
      const blob = join(damaged, "blobs", (Layers[0] as string).replace(":", "/"));
      await appendFile(blob, "more");
      const store = newStore();
      const { code, stdout, stderr } = await runNarbor(["image", "import", damaged, "--store", store]);
      expect({ code, stdout: stdout.toString() }).toEqual({ code: 4, stdout: "" });
      expect(stderr).toMatch(/^error: Cannot take the image.*layer 1 of 1/);
      expect((await narbor(store, ["image", "ls"])).toString()).toBe("");
    });
  });

  describe("go out", () => {
    let store: string;
    let id: string;
    const diffIds = (): string[] => layersOf("repacked").map(digestOf);

    beforeAll(async () => {
      store = newStore();
      await importImage(store, at("skopeo.tar"));
      id = digestOf(await inspectConfig(`docker-archive:${at("skopeo.tar")}`));
    }, TIMEOUT);

    test("skopeo and crane read an image's docker-archive", { timeout: TIMEOUT }, async () => {
      const file = at("ours.docker.tar");
      await exportTo(file, store, ["image", "export", "registry.example/of-skopeo:1", "--format", "docker"]);
      const reference = `docker-archive:${file}:registry.example/of-skopeo:1`;
      expect((await inspect(reference)).Layers).toEqual(diffIds());
      expect(digestOf(await inspectConfig(reference))).toBe(id);
      await expectValidTarball(file);
      await skopeo("copy", reference, `oci:${at("ours-to-oci")}:it`);
      await expectImported(at("ours-to-oci"), [{ name: "it", reference: `oci:${at("ours-to-oci")}:it`, layers: layersOf("repacked") }]);
      await crane("push", file, `${registry.host}/ours:docker`);
      expect((await crane("validate", "--remote", `${registry.host}/ours:docker`)).toString()).toMatch(/^PASS/);
      expect(digestOf(await crane("config", `${registry.host}/ours:docker`))).toBe(id);
    });

    test("skopeo, umoci and crane read an image's OCI layout", { timeout: TIMEOUT }, async () => {
      const file = at("ours.oci.tar");
      const { manifestDigest } = await exportTo(file, store, ["image", "export", "registry.example/of-skopeo:1", "--format", "oci"]);
      const reference = `oci-archive:${file}:registry.example/of-skopeo:1`;
      expect(await inspect(reference)).toMatchObject({ Digest: manifestDigest, Layers: diffIds() });
      expect(digestOf(await inspectConfig(reference))).toBe(id);
      await skopeo("copy", reference, `docker-archive:${at("ours-to-docker.tar")}:it:1`);
      await expectImported(at("ours-to-docker.tar"), [{ name: "it:1", reference: `docker-archive:${at("ours-to-docker.tar")}`, layers: layersOf("repacked") }]);
      const unpacked = await unpack(file);
      await expectValidLayout(unpacked, `${registry.host}/ours:oci`, manifestDigest as string, at("crane-of-ours.tar"));
      expect(digestOf(await crane("config", `${registry.host}/ours:oci`))).toBe(id);
      await umoci("unpack", "--rootless", "--image", `${unpacked}:registry.example/of-skopeo:1`, at("ours-bundle"));
      await umoci("unpack", "--rootless", "--image", `${layout}:repacked`, at("their-bundle"));
      // A pipe is in no NAR.
      for (const bundle of ["ours-bundle", "their-bundle"]) await rm(at(bundle, "rootfs/pipe"));
      expectBytes(await collect(dumpFilesystem(at("ours-bundle", "rootfs"))), await collect(dumpFilesystem(at("their-bundle", "rootfs"))));
    });

    test("skopeo and crane read an OCI layout of several platforms", { timeout: TIMEOUT }, async () => {
      const both = at("ours-both.tar");
      const several = newStore();
      for (const tag of ["repacked", "arm"]) await skopeo("copy", "--dest-tls-verify=false", `oci:${layout}:${tag}`, `docker://${registry.host}/several:${tag}`);
      await crane("index", "append", "-m", `${registry.host}/several:repacked`, "-m", `${registry.host}/several:arm`, "-t", `${registry.host}/several:both`);
      await skopeo("copy", "--all", NO_TLS, `docker://${registry.host}/several:both`, `oci-archive:${at("several.tar")}:both:1`);
      await importImage(several, at("several.tar"));
      const { manifestDigest } = await exportTo(both, several, ["image", "export", "both:1", "--format", "oci"]);
      for (const [architecture, tag] of [["amd64", "repacked"], ["arm64", "arm"]] as const) {
        expect((await inspect(`oci-archive:${both}`, "--override-arch", architecture)).Layers).toEqual(layersOf(tag).map(digestOf));
      }
      await crane("push", "--index", await unpack(both), `${registry.host}/several:ours`);
      expect((await crane("validate", "--fast", "--remote", `${registry.host}/several:ours`)).toString()).toMatch(/^PASS/);
      expect((await crane("manifest", `${registry.host}/several:ours`)).toString()).toContain(manifestDigest);
    });

    test.for([
      ["gzip", []],
      ["zstd", ["--level", "9"]],
    ] as const)("skopeo reads an OCI layout whose layers are compressed with %s", { timeout: TIMEOUT }, async ([codec, level]) => {
      const file = at(`layers.${codec}`);
      const written = await exportTo(file, store, ["image", "export", "registry.example/of-skopeo:1", "--format", "oci", "--compression", codec, ...level]);
      expect(written).toMatchObject({ digest: digestOf(await readFile(file)) });
      const [platform] = written.platforms ?? [];
      expect(platform?.layers.map(({ diffId }) => diffId)).toEqual(diffIds());
      const reference = `oci-archive:${file}`;
      expect(await inspect(reference)).toMatchObject({ Digest: written.manifestDigest, Layers: platform?.layers.map(({ digest }) => digest) });
      // Whoever unpacks it holds every layer against its digest and its diffID.
      await skopeo("copy", reference, `oci:${file}.copy:it`);
      await expectImported(`${file}.copy`, [{ name: "it", reference: `oci:${file}.copy:it`, layers: layersOf("repacked") }]);
    });

    test.for(["gzip", "zstd"] as const)("skopeo reads an image's docker-archive that is compressed with %s", { timeout: TIMEOUT }, async (codec, { skip }) => {
      const [plain, compressed] = [at("plain.docker"), at(`compressed.docker.${codec}`)];
      const args = ["image", "export", "registry.example/of-skopeo:1", "--format", "docker"];
      const { digest, size } = await exportTo(plain, store, args);
      const written = await exportTo(compressed, store, [...args, "--compression", codec]);
      const bytes = await readFile(compressed);
      expect(written).toMatchObject({ size, digest: digestOf(bytes), writtenBytes: bytes.length });
      expect(digestOf(await readFile(plain))).toBe(digest);
      if (codec === "gzip") expect(digestOf(await outputOf("gzip", ["-dc", compressed]))).toBe(digest);
      if (codec === "gzip" && !(await readsGzip())) {
        console.log("not covered: docker-archives compressed with gzip, which this skopeo does not read, whoever wrote them");
        return skip("skopeo reads none");
      }
      expect((await inspect(`docker-archive:${compressed}`)).Layers).toEqual(diffIds());
    });

    /** skopeo 1.9.3 as Debian 12 has it does not read a docker-archive of its own that gzip has compressed. */
    async function readsGzip(): Promise<boolean> {
      await writeFile(at("skopeo.tar.gz"), await outputOf("gzip", ["-c", at("skopeo.tar")]));
      return await inspect(`docker-archive:${at("skopeo.tar.gz")}`).then(
        () => true,
        () => false,
      );
    }

    test("skopeo and docker's rules find an image by its name, whatever names it came under", { timeout: TIMEOUT }, async () => {
      const tagless = newStore();
      await importImage(tagless, layout);
      await exportTo(at("tagless.tar"), tagless, ["image", "export", "base", "--format", "docker"]);
      expect((await inspect(`docker-archive:${at("tagless.tar")}:base:latest`)).Layers).toEqual(layersOf("base").map(digestOf));
      await exportTo(at("tagless-oci.tar"), tagless, ["image", "export", "base", "--format", "oci"]);
      expect((await inspect(`oci-archive:${at("tagless-oci.tar")}:base`)).Layers).toEqual(layersOf("base").map(digestOf));
    });
  });

  describe.skipIf(PYTHON === undefined)("of Nix's dockerTools", () => {
    const COUNT = 50;
    let root: string;
    let paths: string[];

    beforeAll(async () => {
      root = at("of-nix");
      paths = await makeStorePaths(join(root, "nix/store"), COUNT);
    });

    test.for([["plain", "of-nix.tar"], ["plain", "of-nix.tar.gz"], ["symlinks", "of-nix-symlinks.tar.gz"], ["hardlinks", "of-nix-hardlinks.tar.gz"]] as const)(
      "narbor image import takes an image of 50 store paths, %s, in %s",
      { timeout: TIMEOUT },
      async ([kind, name]) => {
        const file = at(name);
        const digests = JSON.parse((await outputOf(PYTHON ?? "", [DOCKER_TOOLS, root, file, kind])).toString()) as string[];
        expect(digests).toHaveLength(COUNT);
        const store = newStore();
        await narbor(store, ["import", "--add", ...paths]);
        const [image, ...others] = await importImage(store, file);
        expect(others).toEqual([]);
        expect(image?.name).toBe("of-nix:50");
        expect(image?.layers.map(({ diffId }) => diffId)).toEqual(digests);
        // The paths were there as NARs: what is new is what tells how the layers are made of them.
        const sum = (key: "newBytes" | "sharedBytes" | "size"): number => image?.layers.reduce((total, layer) => total + layer[key], 0) ?? 0;
        expect(sum("sharedBytes")).toBeGreaterThan(2_000_000);
        expect(sum("newBytes")).toBeLessThan(300_000);

        const exported = at(`${name}.exported`);
        await exportTo(exported, store, ["image", "export", "of-nix:50"]);
        await expectValidTarball(exported);
        expect((await inspect(`docker-archive:${exported}:of-nix:50`)).Layers).toEqual(digests);
        const [theirs, ours] = [await unpack(file), await unpack(exported)];
        const [{ Layers }] = JSON.parse(await readFile(join(ours, "manifest.json"), "utf8")) as [{ Layers: string[] }];
        for (const [index, digest] of digests.entries()) {
          expectBytes(await readFile(join(ours, Layers[index] as string)), await readFile(join(theirs, digest.slice("sha256:".length), "layer.tar")));
        }
      },
    );
  });

  describe("of store paths", () => {
    const CLOSURE = sampleClosure();
    const TOP = CLOSURE.at(-1) as ClosurePath;
    let store: string;

    beforeAll(async () => {
      store = newStore();
      await putClosure(store, CLOSURE);
    });

    /** That a directory holds these paths, and nothing is in them that should not. */
    async function expectPaths(rootfs: string, paths: readonly ClosurePath[]): Promise<void> {
      expect((await readdir(join(rootfs, "nix/store"))).sort()).toEqual(paths.map(({ path }) => path.slice("/nix/store/".length)).sort());
      for (const { path, nar } of paths) expectBytes(await collect(dumpFilesystem(join(rootfs, path))), nar());
    }

    test.for([
      ["docker", [], [TOP], 1],
      ["docker", ["--closure"], CLOSURE, CLOSURE.length],
      ["docker", ["--closure", "--max-layers", "3"], CLOSURE, 3],
      ["oci", [], [TOP], 1],
      ["oci", ["--closure"], CLOSURE, CLOSURE.length],
      ["oci", ["--closure", "--max-layers", "3"], CLOSURE, 3],
    ] as const)("skopeo, umoci and crane read what narbor export --format %s %s writes", { timeout: TIMEOUT }, async ([format, options, paths, count]) => {
      const file = at(`of-paths-${++stores}.tar`);
      const written = await exportTo(file, store, ["export", TOP.path, "--format", format, "--name", "registry.example/all:1", ...options]);
      const reference = `${format}-archive:${file}:registry.example/all:1`;
      const [platform] = written.platforms ?? [];
      const diffIds = platform?.layers.map(({ diffId }) => diffId);
      expect(diffIds).toHaveLength(count);
      expect(digestOf(await readFile(file))).toBe(written.digest);
      expect((await inspect(reference)).Layers).toEqual(diffIds);
      expect(digestOf(await inspectConfig(reference))).toBe(platform?.id);
      if (format === "docker") await expectValidTarball(file);
      else {
        expect((await inspect(reference)).Digest).toBe(written.manifestDigest);
        await expectValidLayout(await unpack(file), `${registry.host}/of-paths:${stores}`, written.manifestDigest as string, at(`crane-${stores}.tar`));
      }
      // Layers as they are compressed by someone else, and all of them on top of each other.
      const [copy, bundle] = [at(`copied-${++stores}`), at(`bundle-${stores}`)];
      await skopeo("copy", reference, `oci:${copy}:it`);
      await umoci("unpack", "--rootless", "--image", `${copy}:it`, bundle);
      await expectPaths(join(bundle, "rootfs"), paths);
      await expectImported(copy, [{ name: "it", reference: `oci:${copy}:it`, layers: layersInLayout(copy, "it") }]);
      expect(layersInLayout(copy, "it").map(digestOf)).toEqual(diffIds);
    });

    test.for(["none", "gzip", "zstd", "xz"] as const)("GNU tar unpacks what narbor export --format tar --closure writes, compressed with %s", { timeout: TIMEOUT }, async (codec) => {
      const file = at(`closure-${codec}.tar`);
      await exportTo(file, store, ["export", TOP.path, "--format", "tar", "--closure", "--compression", codec]);
      await expectPaths(await unpack(file, ...(codec === "none" ? [] : [`--${codec}`])), CLOSURE);
    });
  });
});

/** An image of all that layers hold, then one that takes something away, and so on; `repacked` has a layer that umoci made of what had changed. */
async function makeLayout(layout: string, trees: string): Promise<void> {
  const [base, other, bundle] = [join(trees, "base"), join(trees, "other"), join(trees, "bundle")];
  await mkdir(join(base, "bin"), { recursive: true });
  await mkdir(join(base, "etc/empty"), { recursive: true });
  await writeFile(join(base, "bin/large"), sampleBytes(2_500_000));
  await writeFile(join(base, "bin/hello"), "#!/bin/sh\necho hello\n");
  await chmod(join(base, "bin/hello"), 0o4755);
  await link(join(base, "bin/hello"), join(base, "bin/hello too"));
  await symlink("hello", join(base, "bin/hi"));
  await writeFile(join(base, "etc/motd"), "welcome\n");
  await writeFile(join(base, `etc/${"long name ".repeat(20)}`), "");
  await writeFile(join(base, "etc/\u00fc\u{1f600}"), "not ASCII");
  await outputOf("mkfifo", [join(base, "pipe")]);
  await mkdir(other, { recursive: true });
  await writeFile(join(other, "only"), "what is left\n");

  await umoci("init", "--layout", layout);
  await umoci("new", "--image", `${layout}:empty`);
  await umoci("insert", "--rootless", "--image", `${layout}:empty`, "--tag", "base", base, "/");
  await umoci("insert", "--rootless", "--image", `${layout}:base`, "--tag", "whiteout", "--whiteout", "/bin/hi");
  await umoci("insert", "--rootless", "--image", `${layout}:whiteout`, "--tag", "opaque", "--opaque", other, "/etc");
  await umoci("config", "--image", `${layout}:opaque`, "--tag", "arm", "--architecture", "arm64", "--config.cmd", "/bin/hello");
  await umoci("unpack", "--rootless", "--image", `${layout}:opaque`, bundle);
  await rm(join(bundle, "rootfs/bin/hello too"));
  await writeFile(join(bundle, "rootfs/bin/new"), "new\n");
  await link(join(bundle, "rootfs/bin/new"), join(bundle, "rootfs/bin/new too"));
  await umoci("repack", "--image", `${layout}:repacked`, bundle);
  await umoci("tag", "--image", `${layout}:repacked`, "another-name");
}

/** Paths as packages are: directories of files of all sizes, some the same in many; and one that is a file, and one that is a symlink. */
async function makeStorePaths(store: string, count: number): Promise<string[]> {
  const paths = Array.from({ length: count }, (_, index) => join(store, storePathOf(`package-${index}`, "dockerTools").slice("/nix/store/".length)));
  await mkdir(store, { recursive: true });
  for (const [index, path] of paths.entries()) {
    if (index === 0) {
      await writeFile(path, "only a file\n");
      continue;
    }
    if (index === 1) {
      await symlink(paths[0] ?? "", path);
      continue;
    }
    await mkdir(join(path, "share/doc"), { recursive: true });
    await mkdir(join(path, "bin"));
    for (let number = 0; number < 20; number++) await writeFile(join(path, "share/doc", `file ${number}`), `file ${number} of ${index % 7}\n`.repeat(number * 10));
    await writeFile(join(path, "bin/program"), sampleBytes(30_000 + index * 1_000, index));
    await chmod(join(path, "bin/program"), 0o555);
    await symlink("program", join(path, "bin/link"));
    if (index === 2) await writeFile(join(path, "large"), sampleBytes(1_500_000, 99));
  }
  return paths;
}

async function putClosure(directory: string, closure: readonly ClosurePath[]): Promise<void> {
  await using store = await PacksStore.open(directory, { create: true });
  for (const { path, nar, references } of closure) {
    const work = store.begin();
    const imported = await importNar(sourceOf(nar()), { blobs: work.blobs, directories: work.directories });
    await work.commit();
    await store.pathInfos.put({ ...imported, storePath: parseStorePath(path), references: references.map(parseStorePath), signatures: [] });
  }
}

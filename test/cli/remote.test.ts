/** Every verb on a store that `narbor serve` serves elsewhere, and `narbor serve` as a bridge to one. */
import { chmod, mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { encodeNix32 } from "../../src/nix/nix32.ts";
import { formatStorePath } from "../../src/nix/store-path.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { downloadNar, getBytes, narInfoText, put, send, sha256Nix32 } from "../helpers/http-cache.ts";
import type { CommandResult, ServerProcess } from "../helpers/narbor-process.ts";
import { runNarbor, startServer } from "../helpers/narbor-process.ts";
import { pathInfoOf, sha256Of } from "../helpers/path-infos.ts";
import { directory, file, referenceNar } from "../helpers/reference-nar.ts";
import { eventually } from "../helpers/promises.ts";
import type { TemporaryDirectory } from "../helpers/temporary-directory.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import { buildNarbor } from "../interop/built-narbor.ts";
import { sampleClosure } from "../interop/closure.ts";
import { findNixInstallations, NixClient } from "../interop/nix-client.ts";

const VECTORS = resolve(import.meta.dirname, "../fixtures/vectors");
const NET_TOOLS = join(VECTORS, "nar/net-tools.nar");
const NET_TOOLS_ENTRY = "CiQSIBiaSg0PlkyVCvq7i4PH-KXjURw8ZXNoQRptCujv0xjbGCI";
const INSTALLATIONS = findNixInstallations("narbor push to a store that is served elsewhere");

let work: TemporaryDirectory;
let server: ServerProcess;
let socket: string;

beforeAll(async () => {
  buildNarbor();
  work = await temporaryDirectory();
  socket = join(work.path, "narbor.sock");
  server = await startServer(join(work.path, "store"), ["--grpc-listen", `unix:${socket}`]);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});

async function narbor(store: string, ...args: readonly string[]): Promise<CommandResult & { readonly text: string }> {
  const result = await runNarbor([...args, "--store", store]);
  return { ...result, text: result.stdout.toString() };
}

function grpcOf({ url }: ServerProcess): string {
  return url.replace(/^http/, "grpc");
}

const ADDRESSES = [
  ["grpc://", () => grpcOf(server)],
  ["grpc+unix:", () => `grpc+unix:${socket}`],
] as const;

describe.for(ADDRESSES)("narbor on a store at %s…", ([scheme, address]) => {
  let storePath: string;
  let tree: string;

  beforeAll(async () => {
    tree = join(work.path, `tree-${scheme.length}`);
    await mkdir(join(tree, "bin"), { recursive: true });
    await writeFile(join(tree, "bin/hello"), `#!/bin/sh\necho ${scheme}\n`);
    await chmod(join(tree, "bin/hello"), 0o755);
    await writeFile(join(tree, "large"), sampleBytes(3_000_000, scheme.length));
    await symlink("bin/hello", join(tree, "link"));
    const { code, text, stderr } = await narbor(address(), "import", "--add", "--json", tree);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    storePath = (JSON.parse(text) as { storePath: string }).storePath;
  });

  test("imports a NAR as it would into a directory", async () => {
    const { code, text, stderr } = await narbor(address(), "import", "--json", NET_TOOLS);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(text)).toMatchObject({ entry: NET_TOOLS_ENTRY, narSize: 464_152 });
  });

  test("lists, prints and exports", async () => {
    expect((await narbor(address(), "ls", storePath)).text).toBe("bin/\nlarge\nlink\n");
    expect((await narbor(address(), "ls", "-R", storePath)).text).toBe("bin/\nbin/hello\nlarge\nlink\n");
    expectBytes((await narbor(address(), "cat", `${storePath}/large`)).stdout, await readFile(join(tree, "large")));
    expectBytes((await narbor(address(), "export", NET_TOOLS_ENTRY)).stdout, await readFile(NET_TOOLS));
  });

  test("says what is known of a path and of the store", async () => {
    expect(JSON.parse((await narbor(address(), "info", "--json", storePath)).text)).toMatchObject({ storePath, references: [], type: "directory" });
    expect(JSON.parse((await narbor(address(), "info", "--json")).text)).toMatchObject({ store: address(), directorySize: "documented", server: expect.stringMatching(/^Narbor \d/) });
  });

  test("verifies by reading every path", async () => {
    const { code, text } = await narbor(address(), "verify");
    expect({ code, text }).toEqual({ code: 0, text: expect.stringMatching(/^ok: \d+ store paths, all whole\n$/) });
  });

  test("pulls a path into a binary cache", async () => {
    const to = join(work.path, `cache-${scheme.length}`);
    const { code, stderr } = await runNarbor(["pull", storePath, "--from", address(), "--to", to]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [, hash] = /([0-9a-z]{32})-/.exec(storePath) ?? [];
    expect(await readFile(join(to, `${hash}.narinfo`), "utf8")).toContain(`StorePath: ${storePath}\n`);
    expect(await readdir(join(to, "nar"))).toHaveLength(1);
  });

  test("takes its address from NARBOR_STORE", async () => {
    const { code, stdout } = await runNarbor(["ls", storePath], { env: { NARBOR_STORE: address() } });
    expect({ code, text: stdout.toString() }).toEqual({ code: 0, text: "bin/\nlarge\nlink\n" });
  });

  test("exits with the code and error that a directory would give for what is wrong", async () => {
    expect(await narbor(address(), "ls", "/nix/store/00000000000000000000000000000000-none")).toMatchObject({ code: 3, stderr: expect.stringMatching(/^error: /) });
    expect((await narbor(address(), "import", join(VECTORS, "nar/invalid/dot.nar"))).code).toBe(4);
    expect((await narbor(address(), "cat", `${storePath}/bin`)).code).toBe(4);
  });

  test.skipIf(INSTALLATIONS.length === 0)("takes what narbor push brings from a Nix store", async () => {
    await using nix = await NixClient.open(INSTALLATIONS[0] as (typeof INSTALLATIONS)[number]);
    const closure = sampleClosure();
    const source = nix.newStore();
    await nix.import(source, closure);
    const path = closure.at(-1)?.path ?? "";
    const { code, stderr } = await runNarbor(["push", "--to", address(), path], { env: nix.environment(source, []) });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const each of closure) expect(JSON.parse((await narbor(address(), "info", "--json", each.path)).text)).toMatchObject({ storePath: each.path });
  });
});

describe("narbor on an address with no server", () => {
  test("exits with 8 after some seconds and names the address", async () => {
    const started = Date.now();
    const { code, stderr } = await narbor("grpc://127.0.0.1:1", "info");
    expect({ code, stderr }).toEqual({ code: 8, stderr: expect.stringContaining("grpc://127.0.0.1:1") });
    expect(Date.now() - started).toBeLessThan(15_000);
  });

});

describe("narbor serve --grpc-listen unix:…", () => {
  test.for(["with space.sock", "100%20%.sock", "ö#&.sock"])("is reached at the address that it prints, by a path that is given relative: %s", async (name) => {
    const path = join(work.path, name);
    await using own = await startServer(join(work.path, "store"), ["--grpc-listen", `unix:${relative(process.cwd(), path)}`]);
    const address = `grpc+unix:${path}`;
    await eventually(() => own.stderr().includes(`, ${address}\n`));
    expect(JSON.parse((await narbor(address, "info", "--json")).text)).toMatchObject({ store: address });
    expect(await own.stop("SIGTERM")).toBe(0);
    expect(await readdir(work.path)).not.toContain(name);
  });
});

describe("narbor exits with 2 and names the address", () => {
  const NAMED = "/nix/store/00000000000000000000000000000000-none";

  test.for(["grpc://", "grpc://:abc", "grpc://host:0", "grpc://host:99999", "grpc://host?nope=1", "grpcs://host?cert=/c.pem", "grpc+unix:relative", `grpc+unix:/${"x".repeat(120)}`, "unix:/run/narbor.sock", "http://127.0.0.1:7420", ""])(
    "of a store that no store can have: %s",
    async (address) => {
      expect(await narbor(address, "info")).toMatchObject({ code: 2, stderr: expect.stringContaining(JSON.stringify(address)) });
    },
  );

  test.for([
    ["serve", ["serve", "--listen", "127.0.0.1:0", "--store"]],
    ["push, before it asks Nix", ["push", NAMED, "--to"]],
    ["pull", ["pull", NAMED, "--to", "unused", "--from"]],
    ["import", ["import", NET_TOOLS, "--store"]],
    ["export", ["export", NET_TOOLS_ENTRY, "--store"]],
    ["ls", ["ls", NET_TOOLS_ENTRY, "--store"]],
    ["cat", ["cat", NET_TOOLS_ENTRY, "--store"]],
    ["verify", ["verify", "--store"]],
  ] as const)("that no store can have: %s", async ([, args]) => {
    const { code, stderr } = await runNarbor([...args, "grpc://host:99999"], { env: { PATH: "" } });
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^error: Cannot read the address "grpc:\/\/host:99999": /) });
  });

  test("in NARBOR_STORE that no store can have", async () => {
    const { code, stderr } = await runNarbor(["info"], { env: { NARBOR_STORE: "grpc://host:99999" } });
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('"grpc://host:99999"') });
  });

  test.for([
    ["verify --rebuild-index", ["verify", "--rebuild-index"]],
    ["import --compression", ["import", "--compression", "3", NET_TOOLS]],
    ["serve --compression", ["serve", "--compression", "3"]],
    ["serve --directory-size", ["serve", "--directory-size", "doubled"]],
  ] as const)("of a store elsewhere that is given an option of a directory: %s", async ([, args]) => {
    const { code, stderr } = await narbor(grpcOf(server), ...args);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(`error: Cannot open the store ${JSON.stringify(grpcOf(server))}: `) });
  });

  test.for(["grpc://host", "https://cache.example.org", ""])("that pull is to write to, which is no directory: %s", async (to) => {
    const { code, stderr } = await runNarbor(["pull", NAMED, "--from", grpcOf(server), "--to", to]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(`'--to <dir>' argument '${to}' is invalid. It is a directory.`) });
  });
});

describe("narbor serve", () => {
  const NAR = referenceNar(directory({ hello: file("hello, bridge"), large: file(sampleBytes(2_000_000)) }));

  async function openBridge(): Promise<ServerProcess> {
    const bridge = await startServer(grpcOf(server));
    onTestFinished(async () => await bridge[Symbol.asyncDispose]());
    return bridge;
  }

  async function openClient(): Promise<GrpcStore> {
    const store = new GrpcStore(grpcOf(server));
    onTestFinished(async () => await store[Symbol.asyncDispose]());
    return store;
  }

  test("with --store grpc://… is a bridge: a NAR that comes by one and its narinfo by another meet", async () => {
    const [one, other] = await Promise.all([openBridge(), openBridge()]);
    const hash = sha256Nix32(NAR);
    const storePath = formatStorePath(pathInfoOf("bridged").storePath);
    const hashPart = storePath.slice("/nix/store/".length, "/nix/store/".length + 32);
    expect((await put(`${one.url}/nar/${hash}.nar`, NAR)).status).toBe(201);
    expect((await put(`${other.url}/${hashPart}.narinfo`, narInfoText(NAR, storePath))).status).toBe(201);
    for (const { url } of [one, other, server]) {
      const { text } = await send(`${url}/${hashPart}.narinfo`);
      expect(text).toContain(`StorePath: ${storePath}\nURL: nar/${hash}.nar`);
      expectBytes(await downloadNar(url, text), NAR);
      expectBytes((await getBytes(`${url}/nar/${hash}.nar`)).bytes, NAR);
    }
    expect(await one.stop("SIGTERM")).toBe(0);
  });

  test("serves over HTTP a path info that came over gRPC, whose NAR no one has ever seen, and not one that lies", async () => {
    const [store, bridge] = await Promise.all([openClient(), openBridge()]);
    const unseen = referenceNar(directory({ only: file("by gRPC"), more: directory({ file: file(sampleBytes(100_000, 7)) }) }));
    const imported = await importNar(sourceOf(unseen), { blobs: store.blobs, directories: store.directories });
    const honest = pathInfoOf("honest", imported);
    await store.pathInfos.put(honest);
    for (const { url } of [server, bridge]) {
      const narInfo = await send(`${url}/${encodeNix32(honest.storePath.digest)}.narinfo`);
      expect(narInfo.status).toBe(200);
      expect(narInfo.text).toContain(`NarHash: sha256:${sha256Nix32(unseen)}\nNarSize: ${unseen.length}\n`);
      expectBytes(await downloadNar(url, narInfo.text), unseen);
    }
    const liars = [pathInfoOf("lies-about-hash", { ...imported, narSha256: sha256Of("another NAR") }), pathInfoOf("lies-about-tree", { ...imported, root: { type: "symlink", target: Buffer.from("elsewhere") }, narSha256: sha256Of("third") })];
    for (const liar of liars) {
      await store.pathInfos.put(liar);
      for (const { url } of [server, bridge]) expect((await send(`${url}/${encodeNix32(liar.storePath.digest)}.narinfo`)).status).toBe(404);
    }
  });

  test("does not serve a path info that lies about the size of a NAR that is known", async () => {
    const store = await openClient();
    const imported = await importNar(sourceOf(NAR), { blobs: store.blobs, directories: store.directories });
    await store.nars.put(imported);
    const liar = pathInfoOf("lies-about-size", { ...imported, narSize: imported.narSize + 8 });
    await store.pathInfos.put(liar);
    expect((await send(`${server.url}/${encodeNix32(liar.storePath.digest)}.narinfo`)).status).toBe(404);
  });

  test("stops at SIGTERM while a gRPC client stays connected", async () => {
    const directory = await temporaryDirectory();
    onTestFinished(async () => await directory[Symbol.asyncDispose]());
    const own = await startServer(join(directory.path, "store"));
    const store = new GrpcStore(grpcOf(own));
    onTestFinished(async () => await store[Symbol.asyncDispose]());
    await store.describe();
    const started = Date.now();
    expect(await own.stop("SIGTERM")).toBe(0);
    expect(Date.now() - started).toBeLessThan(10_000);
  });
});

/**
 * gRPC clients that are not ours, against `narbor serve`: grpcurl, grpc-health-probe, the Remote Execution API's Go client, and gRPC's Go and C
 * implementations with messages made of what reflection says. `scripts/get-interop-tools.sh` installs them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { blake3 } from "../../src/hash/blake3.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { narInfoText, put, sha256Nix32 } from "../helpers/http-cache.ts";
import { runNarbor, startServer, type ServerProcess } from "../helpers/narbor-process.ts";
import { frameOf, RawGrpcClient } from "../helpers/raw-grpc.ts";
import { directory, file, referenceNar, symlink as link } from "../helpers/reference-nar.ts";
import { temporaryDirectory, type TemporaryDirectory } from "../helpers/temporary-directory.ts";
import { buildNarbor } from "./built-narbor.ts";
import { hashPartOf, storePathOf } from "./closure.ts";

const PROGRAMS = { grpcurl: "grpcurl", probe: "grpc-health-probe", go: "narbor-grpc-clients", python: "python/bin/python" } as const;
const TOOLS = findTools();
const PYTHON_CLIENT = resolve(import.meta.dirname, "grpc-client.py");
const TIMEOUT = 120_000;

const FAMILIES = ["snix", "tvix"] as const;
/** All that reflection is to list. */
const SERVICES = [
  "build.bazel.remote.execution.v2.Capabilities",
  "build.bazel.remote.execution.v2.ContentAddressableStorage",
  "google.bytestream.ByteStream",
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "narbor.store.v1.StoreService",
  ...FAMILIES.flatMap((family) => [`${family}.castore.v1.BlobService`, `${family}.castore.v1.DirectoryService`, `${family}.store.v1.PathInfoService`]),
].sort();

/** grpcurl ends with 64 and a status. */
const GRPCURL_ENDS = { INVALID_ARGUMENT: 64 + 3, NOT_FOUND: 64 + 5, PERMISSION_DENIED: 64 + 7, OUT_OF_RANGE: 64 + 11 } as const;
const PROBE_ENDS = { SERVING: 0, NO_CONNECTION: 2, CALL_FAILED: 3 } as const;

/** Where the clients are. Where one is missing, CI fails; elsewhere a line says what is not covered. */
function findTools(): string | undefined {
  const directoryName = process.env["NARBOR_TEST_INTEROP_TOOLS"] ?? "";
  const missing = Object.values(PROGRAMS).filter((program) => !existsSync(join(directoryName, program)));
  if (directoryName !== "" && missing.length === 0) return resolve(directoryName);
  if (directoryName !== "") throw new Error(`NARBOR_TEST_INTEROP_TOOLS names ${directoryName}, with no ${missing.join(" and ")} in it`);
  if (process.env["CI"] === "true") throw new Error("NARBOR_TEST_INTEROP_TOOLS is not set, and CI must test with other people's gRPC clients");
  console.log("not covered: gRPC clients that are not ours, as NARBOR_TEST_INTEROP_TOOLS names no directory that scripts/get-interop-tools.sh has made");
  return undefined;
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(program: keyof typeof PROGRAMS, args: readonly string[], input = ""): Promise<Ended> {
  const child = spawn(join(TOOLS ?? "", PROGRAMS[program]), args, { timeout: TIMEOUT, killSignal: "SIGKILL" });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (data: Buffer) => (output.stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (output.stderr += data.toString()));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...output };
}

/** The output of a program that must end well. */
async function output(program: keyof typeof PROGRAMS, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, input);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}: ${stderr}${stdout}`);
  return stdout;
}

/** What a client of ours in another language found. */
async function report<T>(program: "go" | "python", args: readonly string[]): Promise<T> {
  return JSON.parse(await output(program, args)) as T;
}

/** The JSON objects that stand one after the other. */
function jsonObjects<T>(text: string): T[] {
  const trimmed = text.trim();
  return trimmed === "" ? [] : (JSON.parse(`[${trimmed.replaceAll("}\n{", "},\n{")}]`) as T[]);
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const base64Of = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

describe.skipIf(TOOLS === undefined)("gRPC clients that are not ours", () => {
  const content = sampleBytes(3_000_003, 5);
  const digest = base64Of(blake3(content));
  const unknownDigest = base64Of(blake3(Buffer.from("never stored")));
  const nar = referenceNar(directory({ content: file(content), run: file("#!/bin/sh\n", true), link: link("run") }));
  const storePath = storePathOf("for-grpc");
  let temporary: TemporaryDirectory;
  let server: ServerProcess;
  let addresses: Record<"TCP" | "a Unix socket", string>;

  beforeAll(async () => {
    buildNarbor();
    temporary = await temporaryDirectory();
    const socket = join(temporary.path, "grpc.socket");
    server = await startServer(join(temporary.path, "store"), ["--grpc-listen", `unix:${socket}`]);
    addresses = { TCP: server.url.slice("http://".length), "a Unix socket": `unix://${socket}` };
    expect((await put(`${server.url}/nar/${sha256Nix32(nar)}.nar`, nar)).status).toBe(201);
    expect((await put(`${server.url}/${hashPartOf(storePath)}.narinfo`, narInfoText(nar, storePath))).status).toBe(201);
  });
  afterAll(async () => {
    // The one that all of this was done to, without a word of complaint.
    const said = server?.stderr();
    const code = await server?.stop("SIGTERM");
    await temporary?.[Symbol.asyncDispose]();
    expect(said).not.toMatch(/error/i);
    expect(code).toBe(0);
  });

  describe.for(["TCP", "a Unix socket"] as const)("over %s", (way) => {
    const grpcurl = (...args: readonly string[]): readonly string[] => ["-plaintext", ...args.slice(0, -1), addresses[way], ...args.slice(-1)];
    const callArgs = (method: string, request: unknown): readonly string[] => ["-plaintext", "-d", JSON.stringify(request), addresses[way], method];
    const call = async <T>(method: string, request: unknown): Promise<T[]> => jsonObjects<T>(await output("grpcurl", callArgs(method, request)));

    test("grpcurl lists every service, and describes every one", async () => {
      expect((await output("grpcurl", grpcurl("list"))).trim().split("\n").sort()).toEqual(SERVICES);
      const described = await output("grpcurl", grpcurl("describe"));
      for (const service of SERVICES) expect(described).toContain(`${service} is a service:`);
    });

    test.for(FAMILIES)("grpcurl describes the messages and methods of %s by that name, and by that alone", async (family) => {
      const describeSymbol = async (symbol: string): Promise<string> => await output("grpcurl", ["-plaintext", addresses[way], "describe", symbol]);
      expect(await describeSymbol(`${family}.castore.v1.Entry`)).toMatch(
        new RegExp(`oneof entry \\{\\s*\\.${family}\\.castore\\.v1\\.DirectoryEntry directory = 1;\\s*\\.${family}\\.castore\\.v1\\.FileEntry file = 2;\\s*\\.${family}\\.castore\\.v1\\.SymlinkEntry symlink = 3;`),
      );
      expect(await describeSymbol(`${family}.store.v1.NARInfo.CA`)).toContain("message CA {");
      const pathInfo = await describeSymbol(`${family}.store.v1.PathInfoService`);
      expect(pathInfo).toContain(`rpc CalculateNAR ( .${family}.castore.v1.Entry ) returns ( .${family}.store.v1.CalculateNARResponse );`);
      const other = family === "snix" ? "tvix" : "snix";
      for (const text of [pathInfo, await describeSymbol(`${family}.store.v1.PathInfo`)]) expect(text).not.toContain(other);
    });

    test.for(["v1", "v1alpha"])("grpcurl calls reflection %s itself, and is told of the services and of what is unknown", async (version) => {
      const [answer] = await call<{ listServicesResponse: { service: { name: string }[] } }>(`grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, { listServices: "*" });
      expect(answer?.listServicesResponse.service.map(({ name }) => name).sort()).toEqual(SERVICES);
      const [failed] = await call<{ errorResponse: unknown }>(`grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`, { fileContainingSymbol: "snix.castore.v1.Nothing" });
      expect(failed?.errorResponse).toMatchObject({ errorCode: 5 });
    });

    test.for(FAMILIES)("grpcurl finds and reads a stored blob of %s, whole and chunk by chunk", async (family) => {
      const read = async (name: string): Promise<Buffer> => Buffer.concat((await call<{ data?: string }>(`${family}.castore.v1.BlobService/Read`, { digest: name })).map(({ data = "" }) => Buffer.from(data, "base64")));
      const [stat] = await call<{ chunks: { digest: string; size: string }[] }>(`${family}.castore.v1.BlobService/Stat`, { digest, sendChunks: true });
      expect(await call(`${family}.castore.v1.BlobService/Stat`, { digest })).toEqual([{}]);
      expectBytes(await read(digest), content);
      const chunks = stat?.chunks ?? [];
      expect(chunks.length).toBeGreaterThan(1);
      expectBytes(Buffer.concat(await Promise.all(chunks.map((chunk) => read(chunk.digest)))), content);
      expect(chunks.reduce((sum, { size }) => sum + Number(size), 0)).toBe(content.length);
    });

    test("grpcurl stores a blob that it sends in many messages", async () => {
      const bytes = sampleBytes(100_000, way === "TCP" ? 21 : 22);
      const messages = Array.from({ length: 10 }, (_, index) => JSON.stringify({ data: base64Of(bytes.subarray(index * 10_000, (index + 1) * 10_000)) }));
      const said = await output("grpcurl", ["-plaintext", "-d", "@", addresses[way], "tvix.castore.v1.BlobService/Put"], messages.join("\n"));
      expect(jsonObjects(said)).toEqual([{ digest: base64Of(blake3(bytes)) }]);
      expect(await call("snix.castore.v1.BlobService/Stat", { digest: base64Of(blake3(bytes)) })).toEqual([{}]);
    });

    test.for(FAMILIES)("grpcurl lists what Nix knows of a path that was pushed over HTTP, and has its NAR calculated, by the names of %s", async (family) => {
      interface Listed {
        readonly entry: { readonly directory: { readonly name: string; readonly digest: string; readonly size: string } };
        readonly narinfo: { readonly narSize: string; readonly narSha256: string };
      }
      const listed = await call<Listed>(`${family}.store.v1.PathInfoService/List`, {});
      expect(listed).toHaveLength(1);
      const [{ entry, narinfo }] = listed as [Listed];
      expect(Buffer.from(entry.directory.name, "base64").toString()).toBe(storePath.slice("/nix/store/".length));
      expect(Number(narinfo.narSize)).toBe(nar.length);
      const { name: _, ...unnamed } = entry.directory;
      expect(await call(`${family}.store.v1.PathInfoService/CalculateNAR`, { directory: unnamed })).toEqual([narinfo]);
      const [root] = await call<{ files: { name: string; executable?: boolean }[] }>(`${family}.castore.v1.DirectoryService/Get`, { digest: unnamed.digest });
      expect(root?.files.map(({ name, executable = false }) => [Buffer.from(name, "base64").toString(), executable])).toEqual([["content", false], ["run", true]]);
    });

    test("grpcurl asks after the server's health", async () => {
      for (const service of ["", "tvix.castore.v1.BlobService"]) expect(await call("grpc.health.v1.Health/Check", { service })).toEqual([{ status: "SERVING" }]);
      const [all] = await call<{ statuses: Record<string, unknown> }>("grpc.health.v1.Health/List", {});
      expect(all?.statuses).toMatchObject({ "": { status: "SERVING" }, "build.bazel.remote.execution.v2.ContentAddressableStorage": { status: "SERVING" } });
    });

    test.for([
      ["NOT_FOUND", "snix.castore.v1.BlobService/Stat", { digest: unknownDigest }, "is not stored"],
      ["NOT_FOUND", "tvix.castore.v1.BlobService/Read", { digest: unknownDigest }, "is not stored"],
      ["NOT_FOUND", "snix.castore.v1.DirectoryService/Get", { digest: unknownDigest }, "is not stored"],
      ["NOT_FOUND", "tvix.store.v1.PathInfoService/Get", { byOutputHash: base64Of(new Uint8Array(20)) }, "There is no store path"],
      ["NOT_FOUND", "grpc.health.v1.Health/Check", { service: "no.such.Service" }, "There is no service"],
      ["INVALID_ARGUMENT", "snix.castore.v1.BlobService/Stat", { digest: "AAAA" }, "3 bytes"],
      ["INVALID_ARGUMENT", "tvix.store.v1.PathInfoService/Get", {}, "no output hash"],
      ["INVALID_ARGUMENT", "google.bytestream.ByteStream/Read", { resourceName: "blobs/blake3/00/0" }, "base16"],
      ["OUT_OF_RANGE", "google.bytestream.ByteStream/Read", { resourceName: `blobs/blake3/${hexOf(blake3(content))}/${content.length}`, readOffset: content.length + 1 }, "has 3000003"],
    ] as const)("grpcurl is told %s by %s of %j", async ([status, method, request, words]) => {
      const { code, stdout, stderr } = await run("grpcurl", callArgs(method, request));
      expect({ code, stdout }).toEqual({ code: GRPCURL_ENDS[status], stdout: "" });
      expect(stderr).toContain(words);
    });

    test("grpc-health-probe finds the server and its services serving, and no others", async () => {
      for (const service of ["", ...SERVICES.filter((name) => !name.startsWith("grpc."))]) {
        expect(await run("probe", [`-addr=${addresses[way]}`, `-service=${service}`])).toMatchObject({ code: PROBE_ENDS.SERVING, stderr: expect.stringContaining("status: SERVING") as unknown });
      }
      expect(await run("probe", [`-addr=${addresses[way]}`, "-service=no.such.Service"])).toMatchObject({ code: PROBE_ENDS.CALL_FAILED, stderr: expect.stringContaining("NotFound") as unknown });
    });

    test.for(FAMILIES.flatMap((family) => ["v1", "v1alpha"].map((version) => [family, version] as const)))(
      "Go's gRPC puts a blob and a closure of directories and gets them back by the names of %s, with messages from reflection %s",
      { timeout: TIMEOUT },
      async ([family, version]) => {
        const found = await report<{ services: string[]; files: string[]; directories: number; blob: string; blobSize: number; chunks: number; codes: unknown; rootDigest: string }>("go", ["castore", addresses[way], family, version, way]);
        expect(found.services.sort()).toEqual(SERVICES);
        expect(found.files).toEqual(expect.arrayContaining(FAMILIES.flatMap((each) => [`${each}/castore/v1/castore.proto`, `${each}/store/v1/rpc_pathinfo.proto`])));
        expect(found).toMatchObject({ directories: 1032, blobSize: expect.any(Number) as unknown });
        expect(found.chunks).toBeGreaterThan(1);
        expect(found.codes).toEqual({
          "BlobService/Read, 31 bytes of digest": "InvalidArgument",
          "BlobService/Read, unknown": "NotFound",
          "DirectoryService/Get, no digest": "InvalidArgument",
          "DirectoryService/Get, unknown": "NotFound",
          "DirectoryService/Put, nothing": "InvalidArgument",
          "DirectoryService/Put, one is missing": "InvalidArgument",
          "DirectoryService/Put, root not last": "InvalidArgument",
        });
        // The other name has it too.
        const other = family === "snix" ? "tvix" : "snix";
        expect(await call(`${other}.castore.v1.BlobService/Stat`, { digest: Buffer.from(found.blob, "hex").toString("base64") })).toEqual([{}]);
        const [root] = await call<{ directories: unknown[] }>(`${other}.castore.v1.DirectoryService/Get`, { digest: Buffer.from(found.rootDigest, "hex").toString("base64") });
        expect(root?.directories).toHaveLength(31);
      },
    );

    test("gRPC's C core puts and gets 201 blobs on one connection, 32 at once, and leaves reads and uploads in the middle", { timeout: TIMEOUT }, async () => {
      const found = await report<{ services: string[]; stored: number; chunks: number; chunkedBytes: number; directoryBytes: number; codes: unknown }>("python", [PYTHON_CLIENT, addresses[way]]);
      expect(found.services).toEqual(SERVICES);
      expect(found).toMatchObject({ stored: 20_000_000 + 1_111 * ((200 * 199) / 2), chunkedBytes: 20_000_000, directoryBytes: 2_450_000 });
      expect(found.chunks).toBeGreaterThan(1);
      expect(found.codes).toEqual({
        "Stat of what was cut off": "NOT_FOUND",
        "Read of an unknown blob": "NOT_FOUND",
        "Read with a short digest": "INVALID_ARGUMENT",
        "Put of a directory whose child is missing": "INVALID_ARGUMENT",
      });
    });

    test("the Remote Execution API's Go client is told what it did wrong", { timeout: TIMEOUT }, async () => {
      expect(await report("go", ["cas-codes", addresses[way]])).toEqual({
        "Read of an unknown blob": "NotFound",
        "Read of a name that is none": "InvalidArgument",
        "Read of an SHA-256": "InvalidArgument",
        "Read from beyond the end": "OutOfRange",
        "Read of a stored blob": "OK",
        "Write of other bytes": "InvalidArgument",
        "Write of too few bytes": "InvalidArgument",
        "Write of what is not zstd": "InvalidArgument",
        "Write of brotli": "InvalidArgument",
        "QueryWriteStatus of nothing": "NotFound",
        "BatchUpdateBlobs of other bytes": "InvalidArgument",
        "BatchUpdateBlobs of a byte too many": "InvalidArgument",
        "BatchReadBlobs, stored": "OK",
        "BatchReadBlobs, unknown": "NotFound",
        "BatchReadBlobs of a full batch": "OK",
        "FindMissingBlobs by SHA-256": "InvalidArgument",
        "FindMissingBlobs of an instance": "InvalidArgument",
        GetTree: "Unimplemented",
        GetActionResult: "Unimplemented",
        "stored of what was refused": "0",
      });
    });
  });

  interface CasPut {
    readonly hash: string;
    readonly size: number;
    readonly files: number;
    readonly directories: number;
    readonly blobs: number;
    readonly missingBefore: number;
    readonly missingAfter: number;
    readonly batches: number;
    readonly compressedBlobs: number;
    readonly writes: readonly { readonly size: number; readonly way: string; readonly sent: number; readonly committed: number; readonly resumedAt: number; readonly again: number }[];
  }

  test("the Remote Execution API's Go client uploads a tree in batches and streams, resumed and compressed, and downloads it after the server was killed", { timeout: TIMEOUT }, async () => {
    await using own = await temporaryDirectory();
    const [source, store] = [join(own.path, "source"), join(own.path, "store")];
    const made = await makeTree(source);
    let uploaded: CasPut;
    {
      await using first = await startServer(store);
      const address = first.url.slice("http://".length);
      uploaded = await report<CasPut>("go", ["cas-put", address, source]);
      expect(uploaded).toMatchObject({ files: made.files, directories: made.directories, missingBefore: uploaded.blobs, missingAfter: 0 });
      expect(uploaded.batches).toBeGreaterThan(1);
      expect(uploaded.compressedBlobs).toBeGreaterThan(10);
      expect(uploaded.writes.map(({ way }) => way).sort()).toEqual(["plain", "plain, resumed", "zstd", "zstd, resumed"]);
      for (const { size, way, sent, committed, resumedAt, again } of uploaded.writes) {
        expect(committed).toBe(sent);
        if (way.startsWith("zstd")) expect(again).toBe(-1);
        else expect([sent, again]).toEqual([size, size]);
        // What it had sent before it broke off was not sent again.
        if (way.endsWith("resumed")) expect(resumedAt).toBeGreaterThan(0);
        expect(resumedAt).toBeLessThanOrEqual(sent / 2);
      }
      // A second time, all is there.
      expect(await report<CasPut>("go", ["cas-put", address, source])).toMatchObject({ hash: uploaded.hash, missingBefore: 0, batches: 0, writes: [] });
      // Castore's services have the same blobs.
      const path = join(source, "large", "large-0");
      const read = jsonObjects<{ data: string }>(await output("grpcurl", ["-plaintext", "-d", JSON.stringify({ digest: base64Of(blake3(await readFile(path))) }), address, "snix.castore.v1.BlobService/Read"]));
      expectBytes(Buffer.concat(read.map(({ data }) => Buffer.from(data, "base64"))), await readFile(path));
      expect(first.stderr()).not.toMatch(/error/i);
      await first.stop("SIGKILL");
    }
    await using second = await startServer(store);
    const target = join(own.path, "target");
    const downloaded = await report<{ files: number; directories: number; batches: number; compressedBlobs: number; compressedReads: number; partialReads: number }>("go", ["cas-get", second.url.slice("http://".length), uploaded.hash, String(uploaded.size), target]);
    expect(downloaded).toMatchObject({ files: made.files, directories: made.directories });
    for (const count of [downloaded.batches, downloaded.compressedBlobs, downloaded.compressedReads, downloaded.partialReads]) expect(count).toBeGreaterThan(0);
    expect(await treeOf(target)).toEqual(await treeOf(source));
    expect(second.stderr()).not.toMatch(/error/i);
    expect(await second.stop("SIGTERM")).toBe(0);
    expect(await runNarbor(["verify", "--store", store])).toMatchObject({ code: 0 });
  });

  test("grpcurl may read and not write where others than this machine could", async () => {
    await using own = await temporaryDirectory();
    await using open = await startServer(own.path, ["--listen", "0.0.0.0:0"]);
    const address = `127.0.0.1:${new URL(open.url).port}`;
    for (const method of ["snix.castore.v1.BlobService/Put", "tvix.castore.v1.DirectoryService/Put", "snix.store.v1.PathInfoService/Put", "google.bytestream.ByteStream/Write", "build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs"]) {
      const { code, stderr } = await run("grpcurl", ["-plaintext", "-d", "{}", address, method]);
      expect({ method, code }).toEqual({ method, code: GRPCURL_ENDS.PERMISSION_DENIED });
      expect(stderr).toContain("--allow-anonymous-writes");
    }
    expect(await output("grpcurl", ["-plaintext", "-d", "{}", address, "snix.store.v1.PathInfoService/List"])).toBe("");
  });

  test("grpcurl, which watches the server's health, sees it stop, and grpc-health-probe finds it gone while an upload is still let end", { timeout: TIMEOUT }, async () => {
    await using own = await temporaryDirectory();
    const socket = join(own.path, "grpc.socket");
    const store = join(own.path, "store");
    await using stopping = await startServer(store, ["--grpc-listen", `unix:${socket}`]);
    const address = stopping.url.slice("http://".length);
    await using client = new RawGrpcClient(Number(new URL(stopping.url).port));
    const upload = client.begin("/snix.castore.v1.BlobService/Put");
    // Field 1 with 5 bytes.
    const piece = Buffer.from("\x0a\x05piece", "latin1");
    upload.send(piece);
    const watcher = spawn(join(TOOLS ?? "", PROGRAMS.grpcurl), ["-plaintext", address, "grpc.health.v1.Health/Watch"]);
    let watched = "";
    const seen = (status: string): Promise<void> =>
      new Promise((found) => {
        const look = (): void => (watched.includes(`"${status}"`) ? found() : undefined);
        watcher.stdout.on("data", look);
        look();
      });
    watcher.stdout.on("data", (data: Buffer) => (watched += data.toString()));
    const watcherEnded = once(watcher, "close") as Promise<[number | null]>;
    await seen("SERVING");
    const ended = stopping.stop("SIGTERM");
    await seen("NOT_SERVING");
    expect(await watcherEnded).toEqual([0, null]);
    expect(jsonObjects(watched)).toEqual([{ status: "SERVING" }, { status: "NOT_SERVING" }]);
    for (const at of [address, `unix://${socket}`]) expect(await run("probe", [`-addr=${at}`, "-connect-timeout=1s"])).toMatchObject({ code: PROBE_ENDS.NO_CONNECTION });
    // It was told to stop, and has not ended before what was under way has.
    expect(stopping.child.exitCode).toBeNull();
    upload.stream.end(frameOf(piece));
    const answer = await upload.answer;
    expect(answer.status).toBe(0);
    client.session.close();
    expect(await ended).toBe(0);
    await using again = await startServer(store);
    const stat = ["-plaintext", "-d", JSON.stringify({ digest: base64Of(blake3(Buffer.from("piecepiece"))) }), again.url.slice("http://".length), "snix.castore.v1.BlobService/Stat"];
    expect(jsonObjects(await output("grpcurl", stat))).toEqual([{}]);
  });
});

/** Files small, large and empty, executable or not, the same in several places; directories deep, wide and empty; links. */
async function makeTree(path: string): Promise<{ readonly files: number; readonly directories: number }> {
  const directories = ["", "large", "small", "empty", "deep", ...Array.from({ length: 20 }, (_, depth) => `deep/${Array.from({ length: depth + 1 }, () => "d").join("/")}`)];
  for (const name of directories) await mkdir(join(path, name));
  let files = 0;
  const add = async (name: string, bytes: Uint8Array | string, executable = false): Promise<void> => {
    files++;
    await writeFile(join(path, name), bytes);
    if (executable) await chmod(join(path, name), 0o755);
  };
  // More than what goes in a batch: one for each way of writing. Half of each can be compressed.
  for (let index = 0; index < 4; index++) await add(`large/large-${index}`, Buffer.concat([sampleBytes(4_000_000, 40 + index), Buffer.alloc(2_000_000, `${index} and so on, `)]));
  // Just what goes in one.
  await add("large/batch", sampleBytes(3 * 1024 * 1024, 50));
  for (let index = 0; index < 500; index++) await add(`small/${index}`, sampleBytes(index * 30, 100 + index), index % 7 === 0);
  for (let index = 0; index < 50; index++) await add(`small/text-${index}`, `the line ${index} over and over\n`.repeat(index * 20));
  await add("empty-file", "");
  await add("deep/d/again", sampleBytes(3_000, 200));
  await add("deep/d/d/again", sampleBytes(3_000, 200), true);
  await symlink("../small/1", join(path, "deep/link"));
  await symlink("nowhere at all", join(path, "\u{1f600}"));
  return { files, directories: directories.length };
}

/** All of a tree, in the form that is easiest to compare. */
async function treeOf(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await readdir(root, { recursive: true })) {
    const path = join(root, name);
    const stats = await lstat(path);
    if (stats.isSymbolicLink()) found[name] = `-> ${await readlink(path)}`;
    else if (stats.isDirectory()) found[name] = "directory";
    else found[name] = `${(stats.mode & 0o100) === 0 ? "file" : "program"} ${hexOf(blake3(await readFile(path)))}`;
  }
  return found;
}

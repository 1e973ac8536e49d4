/** grpc.health.v1 and server reflection, by the bytes of their messages. */
import { getEventListeners } from "node:events";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import type { FileRegistry } from "@bufbuild/protobuf";
import type { FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { healthService } from "../../src/grpc/health-service.ts";
import { RpcCalls } from "../../src/grpc/rpc-call.ts";
import { addRpcService } from "../../src/grpc/rpc-service.ts";
import { createGrpcServer } from "../../src/grpc/server.ts";
import { only } from "../helpers/castore-messages.ts";
import type { TestGrpcServer } from "../helpers/grpc-store.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { RawGrpcClient, STATUS, unframe } from "../helpers/raw-grpc.ts";
import { UNKNOWN_FIELDS, bytesOf, lengthField, message, numberField, numberOf } from "../helpers/raw-protobuf.ts";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";

let server: TestGrpcServer;
let client: RawGrpcClient;

beforeAll(async () => {
  server = await serveGrpc(new MemoryStore());
  client = new RawGrpcClient(server.port);
});

afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const SERVICES = [
  "build.bazel.remote.execution.v2.Capabilities",
  "build.bazel.remote.execution.v2.ContentAddressableStorage",
  "google.bytestream.ByteStream",
  "grpc.health.v1.Health",
  "narbor.store.v1.StoreService",
  "snix.castore.v1.BlobService",
  "snix.castore.v1.DirectoryService",
  "snix.store.v1.PathInfoService",
  "tvix.castore.v1.BlobService",
  "tvix.castore.v1.DirectoryService",
  "tvix.store.v1.PathInfoService",
];
const ALL_SERVICES = [...SERVICES, "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"].sort();

const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

describe("grpc.health.v1.Health", () => {
  test("Check() says SERVING of the server and of every service, and NOT_FOUND of what there is none of", async () => {
    for (const name of ["", ...SERVICES.filter((name) => !name.startsWith("grpc."))]) {
      expect([name, numberOf(await client.ask("/grpc.health.v1.Health/Check", message(only(name), UNKNOWN_FIELDS)), 1)]).toEqual([name, SERVING]);
    }
    expect((await client.call("/grpc.health.v1.Health/Check", [only("snix.castore.v1.Nothing")])).status).toBe(STATUS.NOT_FOUND);
  });

  test("List() names what Check() knows", async () => {
    const statuses = bytesOf(await client.ask("/grpc.health.v1.Health/List", UNKNOWN_FIELDS), 1);
    const entries = statuses.map((entry) => [bytesOf(entry, 1)[0]?.toString() ?? "", numberOf(bytesOf(entry, 2)[0] as Buffer, 1)] as const);
    expect(entries.map(([name]) => name).sort()).toEqual(["", ...SERVICES.filter((name) => !name.startsWith("grpc."))].sort());
    expect(new Set(entries.map(([, status]) => status))).toEqual(new Set([SERVING]));
  });

  test("Watch() tells at once, tells of the end, and then ends; Check() on the same connection does so too", async () => {
    const stopped = createGrpcServer({ store: new MemoryStore(), allowWrites: true, version: "test" });
    const listener = createServer((socket) => stopped.accept(socket));
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    await using watcher = new RawGrpcClient((listener.address() as AddressInfo).port);
    const watches = ["", "snix.castore.v1.BlobService", "nothing.like.it"].map((name) => {
      const call = watcher.begin("/grpc.health.v1.Health/Watch");
      const body: Buffer[] = [];
      call.stream.on("data", (data: Buffer) => body.push(data));
      call.stream.end(Buffer.concat([Buffer.of(0, 0, 0, 0, only(name).length), only(name)]));
      return { call, statuses: () => unframe(Buffer.concat(body)).messages.map((each) => numberOf(each, 1)) };
    });
    await expect.poll(() => watches.map(({ statuses }) => statuses())).toEqual([[SERVING], [SERVING], [SERVICE_UNKNOWN]]);
    const end = stopped.stop(5000);
    const answers = await Promise.all(watches.map(({ call }) => call.answer));
    expect(watches.map(({ statuses }) => statuses())).toEqual([[SERVING, NOT_SERVING], [SERVING, NOT_SERVING], [SERVICE_UNKNOWN, SERVICE_UNKNOWN]]);
    expect(answers.map(({ status }) => status)).toEqual([0, 0, 0]);
    await end;
    await new Promise((resolve) => listener.close(resolve));
  });

  test("Watch() of many at once warns of nothing, and keeps nothing of those that have ended", async () => {
    const warnings: Error[] = [];
    const listen = (warning: Error): void => void warnings.push(warning);
    process.on("warning", listen);
    onTestFinished(() => void process.off("warning", listen));
    const stopping = new AbortController();
    const health = new Server();
    addRpcService(health, healthService(() => [], stopping.signal), new RpcCalls({ idleMilliseconds: 5000, maxCalls: 100, onFault: () => undefined }));
    onTestFinished(() => health.forceShutdown());
    const port = await new Promise<number>((resolve, reject) =>
      health.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error))),
    );
    await using watcher = new RawGrpcClient(port);
    const listening = (): number => getEventListeners(stopping.signal, "abort").length;
    const watches = Array.from({ length: 20 }, () => watcher.begin("/grpc.health.v1.Health/Watch"));
    for (const { stream } of watches) stream.end(Buffer.alloc(5));
    await expect.poll(listening).toBe(20);
    for (const { stream } of watches) stream.close(8);
    await expect.poll(listening).toBe(0);
    expect(warnings).toEqual([]);
  });
});

describe.for(["v1", "v1alpha"])("grpc.reflection.%s.ServerReflection", (version) => {
  const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
  const FILE = 4;
  const LIST = 6;
  const ERROR = 7;
  const ask = async (...requests: Uint8Array[]): Promise<Buffer[]> => {
    const { status, messages } = await client.call(path, requests);
    expect({ status, count: messages.length }).toEqual({ status: STATUS.OK, count: requests.length });
    return messages;
  };
  const filesIn = (answer: Buffer): FileDescriptorProto[] => bytesOf(bytesOf(answer, FILE)[0] as Buffer, 1).map((file) => fromBinary(FileDescriptorProtoSchema, file));
  const registryOf = (files: readonly FileDescriptorProto[]): FileRegistry => createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(files) }));

  test("lists every service under every name", async () => {
    const [answer] = await ask(message(lengthField(1, "host"), lengthField(7, "*"), UNKNOWN_FIELDS));
    const names = bytesOf(bytesOf(answer as Buffer, LIST)[0] as Buffer, 1).map((service) => bytesOf(service, 1)[0]?.toString());
    expect(names).toEqual(ALL_SERVICES);
  });

  test.for(ALL_SERVICES)("gives files for %s that name nothing but each other and make a service of that name", async (name) => {
    const [answer] = await ask(lengthField(4, name));
    const files = filesIn(answer as Buffer);
    expect(new Set(files.map((file) => file.name)).size).toBe(files.length);
    const service = registryOf(files).getService(name);
    expect(service?.typeName).toBe(name);
    for (const method of service?.methods ?? []) {
      // A message of the family that was asked for, and not of the one it was made from.
      expect([method.input.typeName, method.output.typeName].filter((type) => /^(?:snix|tvix)\./.test(type) && type.split(".")[0] !== name.split(".")[0])).toEqual([]);
      const [byMethod] = await ask(lengthField(4, `${name}.${method.name}`));
      expect(filesIn(byMethod as Buffer)[0]?.name).toBe(files[0]?.name);
      const [byMessage] = await ask(lengthField(4, method.input.typeName));
      expect(registryOf(filesIn(byMessage as Buffer)).getMessage(method.input.typeName)?.typeName).toBe(method.input.typeName);
    }
  });

  test("gives all files together as one registry, in which no name stands twice", async () => {
    const answers = await ask(...ALL_SERVICES.map((name) => lengthField(4, name)));
    const files = new Map(answers.flatMap(filesIn).map((file) => [file.name, file]));
    const registry = registryOf([...files.values()]);
    expect(ALL_SERVICES.filter((name) => registry.getService(name) === undefined)).toEqual([]);
    for (const family of ["snix", "tvix"]) expect(registry.getMessage(`${family}.castore.v1.StatBlobResponse`)?.fields.map(({ number }) => number)).toEqual([2, 3]);
    expect(registry.getMessage("tvix.store.v1.PathInfo")?.fields[0]?.message?.typeName).toBe("tvix.castore.v1.Entry");
  });

  test("gives a file by its name, and again by a nested message, an enum and a field in it", async () => {
    for (const family of ["snix", "tvix"]) {
      const [answer, nested, enumeration, field] = await ask(
        lengthField(3, `${family}/store/v1/pathinfo.proto`),
        lengthField(4, `${family}.store.v1.NARInfo.CA`),
        lengthField(4, `${family}.store.v1.NARInfo.CA.Hash`),
        lengthField(4, `${family}.store.v1.NARInfo.nar_size`),
      );
      const [file] = filesIn(answer as Buffer);
      expect([file?.name, file?.package]).toEqual([`${family}/store/v1/pathinfo.proto`, `${family}.store.v1`]);
      for (const other of [nested, enumeration, field]) expect(filesIn(other as Buffer)[0]).toEqual(file);
    }
  });

  test("answers an error for what it does not know, and goes on with the next question", async () => {
    const requests = [lengthField(3, "nothing.proto"), lengthField(4, "no.such.Symbol"), lengthField(5, message(only("snix.castore.v1.Directory"), numberField(2, 5))), Buffer.alloc(0), lengthField(6, "no.such.Type"), lengthField(7, "")];
    const answers = await ask(...requests.slice(0, 5), lengthField(7, "*"));
    const codes = answers.slice(0, 5).map((answer) => numberOf(bytesOf(answer, ERROR)[0] as Buffer, 1));
    expect(codes).toEqual([STATUS.NOT_FOUND, STATUS.NOT_FOUND, STATUS.NOT_FOUND, STATUS.INVALID_ARGUMENT, STATUS.NOT_FOUND]);
    expect(bytesOf(answers[5] as Buffer, LIST)).toHaveLength(1);
    // What was asked comes back with the answer.
    expect(bytesOf(answers[0] as Buffer, 2)[0]?.toString("hex")).toBe(requests[0]?.toString("hex"));
  });

  test("ends with INVALID_ARGUMENT at what is no message", async () => {
    expect((await client.call(path, [Buffer.from("3aff", "hex")])).status).toBe(STATUS.INVALID_ARGUMENT);
  });
});

/** Each file after those that it imports, as a registry wants them. */
function inOrder(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const byName = new Map(files.map((file) => [file.name, file]));
  const ordered = new Set<FileDescriptorProto>();
  const add = (name: string): void => {
    const file = byName.get(name);
    if (file === undefined) throw new Error(`${name} was imported and did not come`);
    for (const dependency of file.dependency) add(dependency);
    ordered.add(file);
  };
  for (const name of byName.keys()) add(name);
  return [...ordered];
}

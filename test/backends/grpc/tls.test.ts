/** grpcs:// through a proxy that ends TLS, as it stands in front of a server. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import type { TLSSocket, TlsOptions } from "node:tls";
import { join } from "node:path";
import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../../src/backends/memory/memory-store.ts";
import { toB3Digest } from "../../../src/castore/digest.ts";
import type { TestGrpcServer } from "../../helpers/grpc-store.ts";
import { serveGrpc } from "../../helpers/grpc-store.ts";
import { collect, expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { expectCode } from "../../helpers/promises.ts";
import type { TemporaryDirectory } from "../../helpers/temporary-directory.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf } from "../../helpers/tracked-source.ts";

let directory: TemporaryDirectory;
let server: TestGrpcServer;

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", [...args], { cwd: directory.path, stdio: "pipe" });
}

function makeCa(name: string): void {
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.pem`, "-days", "2", "-subj", `/CN=${name}`);
}

async function makeCertificate(name: string, ca: string, alternative: string): Promise<void> {
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
  await writeFile(join(directory.path, `${name}.ext`), `subjectAltName=${alternative}\n`);
  openssl("x509", "-req", "-in", `${name}.csr`, "-CA", `${ca}.pem`, "-CAkey", `${ca}.key`, "-CAcreateserial", "-out", `${name}.pem`, "-days", "2", "-extfile", `${name}.ext`);
}

function pem(name: string): Buffer {
  return readFileSync(join(directory.path, name));
}

/** A proxy with this server certificate; what it hands on is plain. */
async function openProxy(options: TlsOptions = {}, certificate = "server"): Promise<number> {
  const sockets = new Set<{ destroy(): void }>();
  const proxy = createServer({ cert: pem(`${certificate}.pem`), key: pem(`${certificate}.key`), ALPNProtocols: ["h2"], ...options }, (outer: TLSSocket) => {
    const inner = connect(server.port, "127.0.0.1");
    for (const socket of [outer, inner]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    outer.pipe(inner).pipe(outer);
  });
  proxy.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => proxy.close(resolve));
  });
  return (proxy.address() as AddressInfo).port;
}

function openClient(address: string): GrpcStore {
  const store = new GrpcStore(address);
  onTestFinished(async () => await store[Symbol.asyncDispose]());
  return store;
}

beforeAll(async () => {
  directory = await temporaryDirectory();
  server = await serveGrpc(new MemoryStore());
  makeCa("ca");
  makeCa("other-ca");
  await makeCertificate("server", "ca", "DNS:localhost,IP:127.0.0.1");
  await makeCertificate("elsewhere", "ca", "DNS:elsewhere.example.org");
  await makeCertificate("client", "ca", "DNS:client");
  await makeCertificate("stranger", "other-ca", "DNS:client");
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

describe("grpcs://", () => {
  const file = (name: string): string => encodeURIComponent(join(directory.path, name));

  test.for(["127.0.0.1", "localhost"])("speaks to a server at %s whose certificate comes from ca=", async (host) => {
    const port = await openProxy();
    const store = openClient(`grpcs://${host}:${port}?ca=${file("ca.pem")}`);
    const bytes = sampleBytes(2_000_000);
    const digest = await store.blobs.put(sourceOf(bytes));
    expectBytes(await collect((await store.blobs.openRead(digest)) as AsyncIterable<Uint8Array>), bytes);
  });

  test("shows cert= and key= to a server that asks", async () => {
    const port = await openProxy({ requestCert: true, rejectUnauthorized: true, ca: pem("ca.pem") });
    const store = openClient(`grpcs://127.0.0.1:${port}?ca=${file("ca.pem")}&cert=${file("client.pem")}&key=${file("client.key")}`);
    expect(await store.blobs.stat(toB3Digest(new Uint8Array(32)))).toBeUndefined();
  });

  test("is a clear error that names the address: another authority, another name, no client certificate or a stranger's, no TLS at all", async () => {
    const [plain, strict, elsewhere] = [await openProxy(), await openProxy({ requestCert: true, rejectUnauthorized: true, ca: pem("ca.pem") }), await openProxy({}, "elsewhere")];
    const cases: readonly (readonly [string, RegExp])[] = [
      [`grpcs://127.0.0.1:${plain}?ca=${file("other-ca.pem")}`, /certificate/i],
      [`grpcs://127.0.0.1:${plain}`, /certificate/i],
      [`grpcs://127.0.0.1:${elsewhere}?ca=${file("ca.pem")}`, /altnames|certificate/i],
      [`grpcs://127.0.0.1:${strict}?ca=${file("ca.pem")}`, /./],
      [`grpcs://127.0.0.1:${strict}?ca=${file("ca.pem")}&cert=${file("stranger.pem")}&key=${file("stranger.key")}`, /./],
      [`grpcs://127.0.0.1:${server.port}?ca=${file("ca.pem")}`, /./],
      [`grpc://127.0.0.1:${plain}`, /./],
    ];
    await Promise.all(
      cases.map(async ([address, message]) => {
        const asked = openClient(address).blobs.stat(toB3Digest(new Uint8Array(32)));
        await expectCode(asked, "ERR_UNAVAILABLE", message);
        await expectCode(asked, "ERR_UNAVAILABLE", address.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").slice(0, 5));
        expect(((await asked.catch((error: unknown) => error)) as Error).message).toContain(address);
      }),
    );
  });

  test("is ERR_INVALID with the address for files that are not there, or are not what they should be", async () => {
    for (const parameters of [`ca=/nonexistent.pem`, `ca=${file("server.ext")}&cert=${file("server.ext")}&key=${file("server.ext")}`, `cert=${file("client.pem")}&key=${file("stranger.key")}`]) {
      const store = openClient(`grpcs://127.0.0.1:1?${parameters}`);
      await expectCode(store.blobs.stat(toB3Digest(new Uint8Array(32))), "ERR_INVALID", /grpcs:\/\/127\.0\.0\.1:1/);
    }
  });
});

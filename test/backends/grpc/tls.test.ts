/** grpcs:// through a proxy that ends TLS, as it stands in front of a server. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import type { SecureVersion, TLSSocket, TlsOptions } from "node:tls";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { GrpcStore } from "../../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../../src/backends/memory/memory-store.ts";
import { toB3Digest } from "../../../src/castore/digest.ts";
import type { TestGrpcServer } from "../../helpers/grpc-store.ts";
import { serveGrpc } from "../../helpers/grpc-store.ts";
import { collect, expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { expectCode, rejection } from "../../helpers/promises.ts";
import type { TemporaryDirectory } from "../../helpers/temporary-directory.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf } from "../../helpers/tracked-source.ts";

let directory: TemporaryDirectory;
let server: TestGrpcServer;
const HAS_IPV6 = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === "::1"));
if (!HAS_IPV6) console.log("not covered: grpcs:// at an IPv6 address, of which this machine has none");
const NO_DIGEST = toB3Digest(new Uint8Array(32));
/** Those of the whole file: Node.js warns of some things once only. */
const warnings: Error[] = [];
process.on("warning", (warning) => warnings.push(warning));

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", [...args], { cwd: directory.path, stdio: "pipe" });
}

function makeCa(name: string): void {
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.pem`, "-days", "2", "-subj", `/CN=${name}`);
}

async function makeCertificate(name: string, ca: string, alternative: string, days = 2): Promise<void> {
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
  await writeFile(join(directory.path, `${name}.ext`), `subjectAltName=${alternative}\n`);
  openssl("x509", "-req", "-in", `${name}.csr`, "-CA", `${ca}.pem`, "-CAkey", `${ca}.key`, "-CAcreateserial", "-out", `${name}.pem`, "-days", `${days}`, "-extfile", `${name}.ext`);
}

function pem(name: string): Buffer {
  return readFileSync(join(directory.path, name));
}

interface ProxyOptions {
  readonly certificate?: string;
  readonly host?: string;
  readonly tls?: TlsOptions;
  /** Told what name a client calls it by. */
  readonly onName?: (name: unknown) => void;
}

/** A proxy that ends TLS; what it hands on is plain. */
async function openProxy({ certificate = "server", host = "127.0.0.1", tls = {}, onName = () => undefined }: ProxyOptions = {}): Promise<number> {
  const sockets = new Set<{ destroy(): void }>();
  const proxy = createServer({ cert: pem(`${certificate}.pem`), key: pem(`${certificate}.key`), ALPNProtocols: ["h2"], ...tls }, (outer: TLSSocket) => {
    onName(outer.servername);
    const inner = connect(server.port, "127.0.0.1");
    for (const socket of [outer, inner]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    outer.pipe(inner).pipe(outer);
  });
  proxy.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => proxy.listen(0, host.replace(/[[\]]/g, ""), resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => proxy.close(resolve));
  });
  return (proxy.address() as AddressInfo).port;
}

/** That it cannot be reached, and that this is the whole of what is said of it, the address aside. */
async function expectUnreachable(address: string, message: string | RegExp): Promise<void> {
  const error = await rejection(openClient(address).blobs.stat(NO_DIGEST));
  expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
  if (typeof message === "string") expect((error as Error).message).toBe(`Cannot reach ${address}: ${message}`);
  else expect((error as Error).message).toMatch(message);
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
  await makeCertificate("server", "ca", "DNS:localhost,IP:127.0.0.1,IP:::1");
  await makeCertificate("other-addresses", "ca", "DNS:localhost,IP:127.0.0.2,IP:::2");
  await makeCertificate("names-only", "ca", "DNS:localhost,DNS:127.0.0.1");
  await makeCertificate("127.0.0.1", "ca", "email:a@example.org");
  await makeCertificate("expired", "ca", "IP:127.0.0.1", 0);
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
    const port = await openProxy({ tls: { requestCert: true, rejectUnauthorized: true, ca: pem("ca.pem") } });
    const store = openClient(`grpcs://127.0.0.1:${port}?ca=${file("ca.pem")}&cert=${file("client.pem")}&key=${file("client.key")}`);
    expect(await store.blobs.stat(NO_DIGEST)).toBeUndefined();
  });

  test.for([
    ["localhost", "localhost"],
    ["127.0.0.1", false],
    ["[::1]", false],
  ] as const)("calls a server at %s by its name only where it has one", async ([host, expected], { skip }) => {
    skip(host === "[::1]" && !HAS_IPV6);
    const names: unknown[] = [];
    const port = await openProxy({ host, onName: (name) => names.push(name) });
    const store = openClient(`grpcs://${host}:${port}?ca=${file("ca.pem")}`);
    expect(await store.blobs.stat(NO_DIGEST)).toBeUndefined();
    expect(names).toEqual([expected]);
  });

  test("refuses a certificate that is for someone else, over, or of an authority that it does not trust, and says so", async () => {
    const otherAddresses = "its certificate is for DNS:localhost, IP Address:127.0.0.2, IP Address:0:0:0:0:0:0:0:2, and not for";
    const cases: readonly (readonly [certificate: string, host: string, message: string, parameters?: string])[] = [
      ["other-addresses", "127.0.0.1", `${otherAddresses} 127.0.0.1`],
      ...(HAS_IPV6 ? ([["other-addresses", "[::1]", `${otherAddresses} ::1`]] as const) : []),
      // An address is no name, and the subject does not count for one.
      ["names-only", "127.0.0.1", "its certificate is for DNS:localhost, DNS:127.0.0.1, and not for 127.0.0.1"],
      ["127.0.0.1", "127.0.0.1", "its certificate is for email:a@example.org, and not for 127.0.0.1"],
      ["elsewhere", "localhost", "its certificate is for DNS:elsewhere.example.org, and not for localhost"],
      ["expired", "127.0.0.1", "its certificate has expired"],
      ["server", "127.0.0.1", "its certificate is from no authority that is trusted here; ?ca=FILE trusts another one", ""],
      ["server", "127.0.0.1", `its certificate is from no authority in ca=${join(directory.path, "other-ca.pem")}`, `?ca=${file("other-ca.pem")}`],
    ];
    await Promise.all(
      cases.map(async ([certificate, host, message, parameters = `?ca=${file("ca.pem")}`]) => await expectUnreachable(`grpcs://${host}:${await openProxy({ certificate, host })}${parameters}`, message)),
    );
  });

  test("says how to show a client certificate to a server that asks for one", async () => {
    const check = async (maxVersion: SecureVersion): Promise<void> => {
      const port = await openProxy({ tls: { requestCert: true, rejectUnauthorized: true, ca: pem("ca.pem"), maxVersion } });
      // Whether the server's word or the end of the connection is seen first is chance.
      await Promise.all([
        expectUnreachable(`grpcs://127.0.0.1:${port}?ca=${file("ca.pem")}`, /: it (?:asks for a|(?:refuses|hangs up in) the TLS handshake; .*) client certificate.*\?cert=FILE&key=FILE/),
        expectUnreachable(
          `grpcs://127.0.0.1:${port}?ca=${file("ca.pem")}&cert=${file("stranger.pem")}&key=${file("stranger.key")}`,
          new RegExp(`: it (?:does not accept|hangs up in).* the client certificate cert=${directory.path}/stranger\\.pem$`),
        ),
      ]);
    };
    await Promise.all([check("TLSv1.2"), check("TLSv1.3")]);
  });

  test("and grpc:// say of a server that does not speak so how to speak to it", async () => {
    const [tls, http1] = [await openProxy(), await openProxy({ tls: { ALPNProtocols: ["http/1.1"] } })];
    await Promise.all([
      expectUnreachable(`grpcs://127.0.0.1:${server.port}?ca=${file("ca.pem")}`, "it does not speak TLS; without it, its address begins with grpc://"),
      expectUnreachable(`grpc://127.0.0.1:${tls}`, "it hangs up at once; if it speaks TLS, its address begins with grpcs://"),
      expectUnreachable(`grpcs://127.0.0.1:${http1}?ca=${file("ca.pem")}`, "it speaks TLS, but not HTTP/2, which gRPC needs"),
    ]);
  });

  test.for([
    ["there is none", (): string => "ca=/nonexistent.pem", "ERR_NOT_FOUND", /: there is no "\/nonexistent\.pem"$/],
    ["they hold something else", (): string => `ca=${file("server.ext")}&cert=${file("server.ext")}&key=${file("server.ext")}`, "ERR_INVALID", /: there is no (?:CERTIFICATE|PRIVATE KEY) in "\S+server\.ext"/],
    ["a key is named for the authority", (): string => `ca=${file("client.key")}`, "ERR_INVALID", /: there is no CERTIFICATE in "\S+client\.key"/],
    ["the key is another one's", (): string => `cert=${file("client.pem")}&key=${file("stranger.key")}`, "ERR_INVALID", /: the key in key=\S+stranger\.key is not that of the certificate in cert=\S+client\.pem$/],
  ] as const)("says of files what is wrong with them: %s", async ([, parameters, code, message]) => {
    const address = `grpcs://127.0.0.1:1?${parameters()}`;
    const store = openClient(address);
    await expectCode(store.blobs.stat(NO_DIGEST), code, message);
    await expectCode(store.blobs.stat(NO_DIGEST), code, /grpcs:\/\/127\.0\.0\.1:1/);
  });

  test("has Node.js warn of nothing", () => {
    expect(warnings).toEqual([]);
  });
});

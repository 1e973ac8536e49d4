/** What servers that are not at hand make grpc-js say; what those do that are is in tls.test.ts. */
import { describe, expect, test } from "vitest";
import { parseGrpcAddress } from "../../../src/backends/grpc/grpc-address.ts";
import { explainUnreachable } from "../../../src/backends/grpc/unreachable.ts";

const PLAIN = parseGrpcAddress("grpc://host");
const TLS = parseGrpcAddress("grpcs://host");
const SHOWN = parseGrpcAddress("grpcs://host?cert=/c.pem&key=/k.pem");

function lastError(text: string): string {
  return `No connection established. Last error: ${text}. Resolution note: `;
}

/** As OpenSSL 3.0 and 3.5 write it. */
function alerts(name: string, number: number): readonly string[] {
  return [
    `Error: 801C0321527F0000:error:0A000412:SSL routines:ssl3_read_bytes:sslv3 alert ${name}:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1601:SSL alert number ${number}\n`,
    `80FCE7F6:error:0A000412:SSL routines:ssl3_read_bytes:ssl/tls alert ${name}:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:916:SSL alert number ${number}\n (2026-11-21T15:33:37.476Z)`,
  ].map(lastError);
}

describe("explainUnreachable()", () => {
  test.for([
    ["bad certificate", 42],
    ["unsupported certificate", 43],
    ["certificate expired", 45],
    ["unknown ca", 48],
    ["certificate required", 116],
  ] as const)("takes the alert %s for a word on client certificates", ([name, number]) => {
    for (const details of alerts(name, number)) {
      expect(explainUnreachable(details, TLS)).toBe("it asks for a client certificate; ?cert=FILE&key=FILE shows one");
      expect(explainUnreachable(details, SHOWN)).toBe("it does not accept the client certificate cert=/c.pem");
    }
  });

  test("gives OpenSSL's reason alone where it knows none better", () => {
    for (const details of alerts("unrecognized name", 112)) expect(explainUnreachable(details, TLS)).toMatch(/^TLS failed: \S+ alert unrecognized name$/);
  });

  test.for([
    ["Error: unable to get local issuer certificate", TLS, "its certificate is from no authority that is trusted here; ?ca=FILE trusts another one"],
    ["Error: self signed certificate in certificate chain", TLS, "its certificate is from no authority that is trusted here; ?ca=FILE trusts another one"],
    ["Error: certificate is not yet valid", TLS, "its certificate is not yet valid"],
    ["Protocol error (2026-11-21T15:33:37.476Z)", PLAIN, "it answers in something that is not gRPC; if it speaks TLS, its address begins with grpcs://"],
    ["Protocol error (2026-11-21T15:33:37.476Z)", TLS, "it speaks TLS, and answers in something that is not gRPC"],
    ["Error: connect ECONNREFUSED 127.0.0.1:1", TLS, "connect ECONNREFUSED 127.0.0.1:1"],
    ["read ECONNRESET (2026-11-21T15:33:37.476Z)", PLAIN, "read ECONNRESET"],
  ] as const)("says of %s what a person can use", ([text, address, expected]) => {
    expect(explainUnreachable(lastError(text), address)).toBe(expected);
  });

  test.for(["undefined", "null", "Error: undefined", "undefined (2026-11-21T15:33:37.476Z)", "Error: ", ""])("never says %j, of which a person learns nothing", (text) => {
    for (const address of [PLAIN, TLS]) {
      for (const details of [lastError(text), text]) expect(explainUnreachable(details, address)).toBe("no connection could be made, and nothing says why");
    }
  });

  test("leaves alone what is said of a connection that there was", () => {
    for (const address of [PLAIN, TLS]) expect(explainUnreachable("read ECONNRESET", address)).toBe("read ECONNRESET");
  });
});

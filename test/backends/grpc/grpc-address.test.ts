import { describe, expect, test } from "vitest";
import { isGrpcAddress, parseGrpcAddress } from "../../../src/backends/grpc/grpc-address.ts";
import { MAX_SOCKET_PATH_BYTES } from "../../../src/backends/grpc/socket-path.ts";
import { NarborError } from "../../../src/errors.ts";

describe("parseGrpcAddress()", () => {
  test.for([
    ["grpc://127.0.0.1:7420", "127.0.0.1:7420"],
    ["grpc://127.0.0.1", "127.0.0.1:7420"],
    ["grpc://cache.example.org", "cache.example.org:7420"],
    ["grpc://cache.example.org:1/", "cache.example.org:1"],
    ["grpc://localhost:65535", "localhost:65535"],
    ["grpc://[::1]:7420", "[::1]:7420"],
    ["grpc://[::1]", "[::1]:7420"],
    ["grpc://[2001:DB8::7]:80", "[2001:DB8::7]:80"],
    ["GRPC://Host:80", "Host:80"],
    ["grpcs://cache.example.org:443", "cache.example.org:443"],
    ["grpc+unix:/run/narbor.sock", "unix:/run/narbor.sock"],
    ["grpc+unix:///run/narbor.sock", "unix:/run/narbor.sock"],
    ["grpc+unix:/run/with space and ö", "unix:/run/with space and ö"],
    ["grpc+unix:/run/a:b", "unix:/run/a:b"],
    ["grpc+unix:/run/100%20%", "unix:/run/100%20%"],
    [`grpc+unix:/${"x".repeat(MAX_SOCKET_PATH_BYTES - 1)}`, `unix:/${"x".repeat(MAX_SOCKET_PATH_BYTES - 1)}`],
  ])("takes %s for %s", ([text, target]) => {
    expect(parseGrpcAddress(text as string)).toMatchObject({ text, target, directorySize: undefined, timeoutMilliseconds: 60_000 });
  });

  test("reads every parameter, in any order", () => {
    const address = parseGrpcAddress("grpcs://host?timeout=2.5&key=/k.pem&cert=/c%20d.pem&ca=/ca.pem&directory-size=doubled");
    expect(address).toEqual({
      text: "grpcs://host?timeout=2.5&key=/k.pem&cert=/c%20d.pem&ca=/ca.pem&directory-size=doubled",
      target: "host:7420",
      host: "host",
      tls: { ca: "/ca.pem", certificate: "/c d.pem", key: "/k.pem" },
      directorySize: "doubled",
      timeoutMilliseconds: 2500,
    });
    expect(parseGrpcAddress("grpc+unix:/s?directory-size=documented").directorySize).toBe("documented");
  });

  test("takes a plus in a file's name for what it is", () => {
    expect(parseGrpcAddress("grpcs://host?ca=/c++%20%2B/ca.pem").tls?.ca).toBe("/c++ +/ca.pem");
  });

  test.for([
    ["grpc://Cache.example.org:1", "Cache.example.org"],
    ["grpcs://127.0.0.1", "127.0.0.1"],
    ["grpcs://[2001:DB8::7]:80", "2001:DB8::7"],
    ["grpc+unix:/s", undefined],
  ] as const)("knows the host of %s", ([text, host]) => {
    expect(parseGrpcAddress(text).host).toBe(host);
  });

  test("has TLS with grpcs:// only", () => {
    expect(parseGrpcAddress("grpcs://host").tls).toEqual({ ca: undefined, certificate: undefined, key: undefined });
    for (const text of ["grpc://host", "grpc+unix:/s"]) expect(parseGrpcAddress(text).tls).toBeUndefined();
  });

  test.for([
    ["", /expected HOST:PORT/],
    ["grpc:", /expected HOST:PORT/],
    ["grpc://", /expected HOST:PORT/],
    ["grpc:host:1", /expected HOST:PORT/],
    ["grpc:///path", /expected HOST:PORT/],
    ["grpc://host:0", /expected HOST:PORT/],
    ["grpc://host:65536", /expected HOST:PORT/],
    ["grpc://host:port", /expected HOST:PORT/],
    ["grpc://host:-1", /expected HOST:PORT/],
    ["grpc://host:", /expected HOST:PORT/],
    ["grpc://host:1:2", /expected HOST:PORT/],
    ["grpc://::1:7420", /expected HOST:PORT/],
    ["grpc://[::1", /expected HOST:PORT/],
    ["grpc://[host]:1", /expected HOST:PORT/],
    ["grpc://user@host", /expected HOST:PORT/],
    ["grpc://user:password@host", /expected HOST:PORT/],
    ["grpc://host/path", /expected HOST:PORT/],
    ["grpc://ho st", /expected HOST:PORT/],
    ["grpc+unix:relative.sock", /expected an absolute path/],
    ["grpc+unix:", /expected an absolute path/],
    ["grpc+unix://host/path", /expected an absolute path/],
    ["grpc+unix:////run/x", /expected an absolute path/],
    ["grpc+unix:/", /expected an absolute path/],
    ["grpc+unix:/run/two\nlines", /expected an absolute path/],
    [`grpc+unix:/${"x".repeat(MAX_SOCKET_PATH_BYTES)}`, `the path has ${MAX_SOCKET_PATH_BYTES + 1} bytes, a Unix socket's has at most ${MAX_SOCKET_PATH_BYTES}`],
    [`grpc+unix:/${"ö".repeat(54)}?timeout=1`, "the path has 109 bytes"],
    ["grpc://host?color=red", /found parameter "color"/],
    ["grpc://host?timeout=1&timeout=2", /found parameter "timeout"/],
    ["grpc://host?Timeout=1", /found parameter "Timeout"/],
    ["grpc://host?directory-size=tripled", /documented or doubled/],
    ["grpc://host?directory-size=", /documented or doubled/],
    ["grpc://host?timeout=0", /number of seconds/],
    ["grpc://host?timeout=-1", /number of seconds/],
    ["grpc://host?timeout=", /number of seconds/],
    ["grpc://host?timeout=soon", /number of seconds/],
    ["grpc://host?timeout=Infinity", /number of seconds/],
    ["grpc://host?timeout=86401", /number of seconds/],
    ["grpc://host?ca=/ca.pem", /go with grpcs/],
    ["grpc+unix:/s?key=/k&cert=/c", /go with grpcs/],
    ["grpcs://host?cert=/c.pem", /go together/],
    ["grpcs://host?key=/k.pem", /go together/],
  ] as const)("refuses %j", ([text, message]) => {
    let error: unknown;
    try {
      parseGrpcAddress(text);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(NarborError);
    expect(error).toMatchObject({ code: "ERR_INVALID" });
    expect((error as NarborError).message).toMatch(message);
    // Whoever reads it sees which address is meant.
    expect((error as NarborError).message).toContain(JSON.stringify(text));
  });

  test.for([
    ["grpc://host", true],
    ["GRPCS://host", true],
    ["grpc+unix:/s", true],
    ["grpc:nonsense", true],
    ["/var/lib/grpc", false],
    ["grpc", false],
    ["./grpc://host", false],
    ["http://host", false],
    ["", false],
  ] as const)("isGrpcAddress(%j) is %j", ([text, expected]) => {
    expect(isGrpcAddress(text)).toBe(expected);
  });
});

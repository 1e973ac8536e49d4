import { expect, test } from "vitest";
import { formatListenAddress, isLocal, parseListenAddress } from "../../src/composition/listen-address.ts";
import { MAX_SOCKET_PATH_BYTES } from "../../src/backends/grpc/socket-path.ts";
import { isNarborError } from "../../src/errors.ts";

test.for([
  ["127.0.0.1:7420", { host: "127.0.0.1", port: 7420 }, true],
  ["127.9.8.7:1", { host: "127.9.8.7", port: 1 }, true],
  ["localhost:0", { host: "localhost", port: 0 }, true],
  ["[::1]:7420", { host: "::1", port: 7420 }, true],
  ["[::]:7420", { host: "::", port: 7420 }, false],
  ["0.0.0.0:65535", { host: "0.0.0.0", port: 65_535 }, false],
  ["192.168.0.1:80", { host: "192.168.0.1", port: 80 }, false],
  ["cache.example.org:80", { host: "cache.example.org", port: 80 }, false],
  ["127.evil.example.org:80", { host: "127.evil.example.org", port: 80 }, false],
  ["localhost.example.org:80", { host: "localhost.example.org", port: 80 }, false],
  ["unix:/run/narbor.sock", { path: "/run/narbor.sock" }, true],
  ["unix:relative.sock", { path: "relative.sock" }, true],
  ["unix:/run/with space, 100%20% and ö", { path: "/run/with space, 100%20% and ö" }, true],
  [`unix:/${"x".repeat(MAX_SOCKET_PATH_BYTES - 1)}`, { path: `/${"x".repeat(MAX_SOCKET_PATH_BYTES - 1)}` }, true],
] as const)("parseListenAddress() reads %s, formatListenAddress() writes it, and isLocal() knows who can reach it", ([text, address, local]) => {
  expect(parseListenAddress(text)).toEqual(address);
  expect(formatListenAddress(address)).toBe(text);
  expect(isLocal(address)).toBe(local);
});

test("parseListenAddress() takes unix:///PATH for unix:/PATH", () => {
  expect(parseListenAddress("unix:///run/narbor.sock")).toEqual({ path: "/run/narbor.sock" });
});

test("formatListenAddress() writes the port that was picked", () => {
  expect(formatListenAddress({ host: "::1", port: 0 }, 4711)).toBe("[::1]:4711");
});

test.for(["", "7420", ":7420", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:100000", "localhost:-1", "::1:7420", "[::1]", "[localhost]:80", "http://localhost:80", "unix:", "unix://host/run/narbor.sock", "a:b:80", "[::1]:80 "])(
  "parseListenAddress() refuses %j",
  (text) => {
    let error: unknown;
    try {
      parseListenAddress(text);
    } catch (caught) {
      error = caught;
    }
    expect(isNarborError(error, "ERR_INVALID")).toBe(true);
  },
);

test("parseListenAddress() says how long the path of a socket is, and how long it may be", () => {
  for (const path of [`/${"x".repeat(MAX_SOCKET_PATH_BYTES)}`, "ö".repeat(54)]) {
    expect(() => parseListenAddress(`unix:${path}`)).toThrow(`the path has ${Buffer.byteLength(path)} bytes, a Unix socket's has at most ${MAX_SOCKET_PATH_BYTES}`);
  }
});

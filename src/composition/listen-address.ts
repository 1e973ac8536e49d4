import { socketPathProblem } from "../backends/grpc/socket-path.ts";
import { NarborError } from "../errors.ts";

/** Where a server listens: at a host and a port, or at a Unix socket. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** Read `HOST:PORT`, `[IPV6]:PORT`, or `unix:/PATH`. @throws NarborError ERR_INVALID */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith("unix:")) {
    // `unix:///run/…`, as gRPC's other clients write it, is the same path.
    const path = text.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    // A host, which no socket has.
    const problem = path === "" || path.startsWith("//") ? "expected a path, as in unix:/run/narbor.sock" : socketPathProblem(path);
    if (problem !== undefined) throw new NarborError("ERR_INVALID", `Cannot listen there: ${problem}`);
    return { path };
  }
  const [, bracketed, plain, portText] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(portText);
  if (host === undefined || !(port <= 65_535)) throw new NarborError("ERR_INVALID", "It is HOST:PORT, such as 127.0.0.1:7420 or [::1]:7420.");
  return { host, port };
}

/** Whether only this machine can reach an address. */
export function isLocal(address: ListenAddress): boolean {
  return "path" in address || address.host === "localhost" || address.host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address.host);
}

/** As people and clients write it. @param port the one that was picked, where 0 was given */
export function formatListenAddress(address: ListenAddress, port?: number): string {
  if ("path" in address) return `unix:${address.path}`;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${port ?? address.port}`;
}

import { NarborError } from "../../errors.ts";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import { socketPathProblem } from "./socket-path.ts";

/** Where a gRPC store is and how to speak to it. */
export interface GrpcAddress {
  /** As it was given, for people. */
  readonly text: string;
  /** As grpc-js names it: `host:port` or `unix:/path`. */
  readonly target: string;
  /** Its name or IP address, without brackets; undefined for a Unix socket. */
  readonly host: string | undefined;
  readonly tls: TlsFiles | undefined;
  /** What the address says of how the store counts the sizes of directories. */
  readonly directorySize: DirectorySizeProfile | undefined;
  /** A call that makes no progress for so long is given up. */
  readonly timeoutMilliseconds: number;
}

/** PEM files. */
export interface TlsFiles {
  /** Whom to trust, instead of the well-known authorities. */
  readonly ca: string | undefined;
  /** What to show the server, both or none. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

const DEFAULT_PORT = 7420;
const DEFAULT_TIMEOUT_SECONDS = 60;
const MIN_TIMEOUT_SECONDS = 0.001;
const MAX_TIMEOUT_SECONDS = 86_400;
const PARAMETERS = ["directory-size", "timeout", "ca", "cert", "key"];

/** Whether a text is meant to be such an address at all. */
export function isGrpcAddress(text: string): boolean {
  return /^(grpcs?:|grpc\+unix:)/i.test(text);
}

/**
 * Read `grpc://HOST[:PORT]`, `grpcs://HOST[:PORT]` or `grpc+unix:/PATH`, with `?directory-size=documented|doubled`, `timeout=SECONDS`,
 * and, for grpcs, `ca=FILE`, `cert=FILE` and `key=FILE`.
 *
 * @throws NarborError ERR_INVALID
 */
export function parseGrpcAddress(text: string): GrpcAddress {
  const [, scheme = "", rest = "", query] = /^([a-z+]+):([^?]*)(?:\?(.*))?$/is.exec(text) ?? [];
  // A plus in a file's name is no space, as it would be in a form.
  const parameters = new URLSearchParams((query ?? "").replaceAll("+", "%2B"));
  for (const name of parameters.keys()) {
    if (!PARAMETERS.includes(name) || parameters.getAll(name).length > 1) throw invalid(text, `found parameter ${JSON.stringify(name)}, expected each of ${PARAMETERS.join(", ")} once at most`);
  }
  const tls = { ca: parameters.get("ca") ?? undefined, certificate: parameters.get("cert") ?? undefined, key: parameters.get("key") ?? undefined };
  const isTls = scheme.toLowerCase() === "grpcs";
  if (!isTls && (tls.ca ?? tls.certificate ?? tls.key) !== undefined) throw invalid(text, "ca, cert and key go with grpcs://");
  if ((tls.certificate === undefined) !== (tls.key === undefined)) throw invalid(text, "cert and key go together");
  return {
    text,
    ...parseTarget(scheme.toLowerCase(), rest, text),
    tls: isTls ? tls : undefined,
    directorySize: parseDirectorySize(parameters.get("directory-size"), text),
    timeoutMilliseconds: parseTimeout(parameters.get("timeout"), text) * 1000,
  };
}

function parseTarget(scheme: string, rest: string, text: string): Pick<GrpcAddress, "target" | "host"> {
  if (scheme === "grpc+unix") {
    // Written with an empty host, `grpc+unix:///run/…`, it is the same path.
    const path = rest.replace(/^\/\/(?=\/)/, "");
    // grpc-js (1.14.7) cannot read a target of more than one line.
    if (!/^\/(?!\/).+$/.test(path)) throw invalid(text, "expected an absolute path, as in grpc+unix:/run/narbor.sock");
    const problem = socketPathProblem(path);
    if (problem !== undefined) throw invalid(text, problem);
    return { target: `unix:${path}`, host: undefined };
  }
  const [, host, bracketed, portText] = /^\/\/((?:\[([0-9a-f:.]+)\])|[^/:[\]@\s]+)(?::(\d{1,5}))?\/?$/i.exec(rest) ?? [];
  const port = portText === undefined ? DEFAULT_PORT : Number(portText);
  if (host === undefined || port < 1 || port > 65_535) throw invalid(text, "expected HOST:PORT, as in grpc://127.0.0.1:7420");
  return { target: `${host}:${port}`, host: bracketed ?? host };
}

function parseDirectorySize(value: string | null, text: string): DirectorySizeProfile | undefined {
  if (value === null) return undefined;
  if (value !== "documented" && value !== "doubled") throw invalid(text, "directory-size is documented or doubled");
  return value;
}

function parseTimeout(value: string | null, text: string): number {
  if (value === null) return DEFAULT_TIMEOUT_SECONDS;
  const seconds = Number(value);
  if (!(seconds >= MIN_TIMEOUT_SECONDS && seconds <= MAX_TIMEOUT_SECONDS)) throw invalid(text, `timeout is a number of seconds, ${MIN_TIMEOUT_SECONDS} to ${MAX_TIMEOUT_SECONDS}`);
  return seconds;
}

function invalid(text: string, what: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot read the address ${JSON.stringify(text)}: ${what}`);
}

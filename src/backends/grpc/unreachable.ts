/** Why a server cannot be reached, and what to do: what grpc-js, Node.js and OpenSSL say of it is for those who wrote them. */
import type { GrpcAddress, TlsFiles } from "./grpc-address.ts";

/** The first that matches is said. */
type Explanations<T> = readonly (readonly [pattern: RegExp, explain: (address: T, found: string) => string])[];

/** What comes of a connection that TLS was not asked for. */
const PLAIN: Explanations<GrpcAddress> = [
  // A TLS server does not say what it is to one who does not speak TLS. It hangs up before HTTP/2 has begun, or answers in HTTP/1.1.
  [/^Failed to connect/, () => "it hangs up at once; if it speaks TLS, its address begins with grpcs://"],
  [/^Protocol error/, () => "it answers in something that is not gRPC; if it speaks TLS, its address begins with grpcs://"],
];

const TLS: Explanations<TlsFiles> = [
  [
    /unable to (?:verify|get)|self.signed certificate/,
    ({ ca }) => (ca === undefined ? "its certificate is from no authority that is trusted here; ?ca=FILE trusts another one" : `its certificate is from no authority in ca=${ca}`),
  ],
  [/^certificate (.*)$/, (_files, found) => `its certificate ${found}`],
  [/wrong version number|packet length too long|record layer failure/, () => "it does not speak TLS; without it, its address begins with grpc://"],
  // The alerts by which RFC 8446, section 6.2, has a server refuse a certificate, or the lack of one.
  [
    /SSL alert number (?:4[2-689]|116)\b/,
    ({ certificate }) => (certificate === undefined ? "it asks for a client certificate; ?cert=FILE&key=FILE shows one" : `it does not accept the client certificate cert=${certificate}`),
  ],
  // In TLS 1.2, that is also how OpenSSL asks for a client certificate.
  [
    /SSL alert number 40\b/,
    ({ certificate }) =>
      certificate === undefined
        ? "it refuses the TLS handshake; if it asks for a client certificate, ?cert=FILE&key=FILE shows one"
        : `it refuses the TLS handshake, maybe for the client certificate cert=${certificate}`,
  ],
  [/SSL alert number 120\b/, () => "it speaks TLS, but not HTTP/2, which gRPC needs"],
  [/:error:[0-9A-F]+:SSL routines:[^:]*:([^:]*):/, (_files, found) => `TLS failed: ${found}`],
  [/^Protocol error/, () => "it speaks TLS, and answers in something that is not gRPC"],
  [
    /^Client network socket disconnected|ECONNRESET|^Failed to connect/,
    ({ certificate }) =>
      certificate === undefined
        ? "it hangs up in the TLS handshake; it may ask for a client certificate (?cert=FILE&key=FILE), or not speak TLS (grpc://)"
        : `it hangs up in the TLS handshake, maybe for the client certificate cert=${certificate}`,
  ],
];

/** @param details what grpc-js says */
export function explainUnreachable(details: string, address: GrpcAddress): string {
  const [, failure] = /^No connection established\. Last error: (?:Error: )?(.*?)\.? Resolution note: /s.exec(details) ?? [];
  // When it was is no news.
  const reason = (failure ?? details).replace(/ ?\(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, "").trim();
  // What is written of an error that is not there.
  if (/^(?:Error:? ?)?(?:undefined|null)?$/.test(reason)) return "no connection could be made, and nothing says why";
  // A connection that there was, or a name that no one knows.
  if (failure === undefined) return details;
  return address.tls === undefined ? explain(reason, PLAIN, address) : explain(reason, TLS, address.tls);
}

/** @param details what grpc-js says of a call that failed otherwise */
export function explainStatus(details: string): string {
  const [, length] = /^Received message larger than max \((\d+) vs/.exec(details) ?? [];
  // A message begins with its length. Where that is four letters, it is text.
  const isText = length !== undefined && [24, 16, 8, 0].every((shift) => isLetter((Number(length) >>> shift) & 0xff));
  return isText ? "it answers in something that is not gRPC" : details;
}

function isLetter(byte: number): boolean {
  return byte === 0x0a || byte === 0x0d || (byte >= 0x20 && byte < 0x7f);
}

function explain<T>(reason: string, explanations: Explanations<T>, address: T): string {
  for (const [pattern, say] of explanations) {
    const match = pattern.exec(reason);
    if (match !== null) return say(address, match[1] ?? "");
  }
  return reason;
}

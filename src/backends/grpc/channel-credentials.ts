import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import type { PeerCertificate } from "node:tls";
import { checkServerIdentity } from "node:tls";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { credentials } from "@grpc/grpc-js";
import { NarborError, errorMessage } from "../../errors.ts";
import type { GrpcAddress, TlsFiles } from "./grpc-address.ts";

/** What is said of the names in a certificate, in characters. There may be thousands of them. */
const NAMES_LIMIT = 300;

/** @throws NarborError ERR_NOT_FOUND when there is no such file, ERR_INVALID when one cannot be read or is not what it should be */
export async function channelCredentials({ ca, certificate, key }: TlsFiles, address: GrpcAddress): Promise<ChannelCredentials> {
  const [caPem, keyPem, certificatePem] = await Promise.all([
    readPem(ca, "CERTIFICATE", address),
    readPem(key, "PRIVATE KEY", address),
    readPem(certificate, "CERTIFICATE", address),
  ]);
  const host = address.host ?? "";
  try {
    const tls = credentials.createSsl(caPem, keyPem, certificatePem, { checkServerIdentity: (_name, found) => checkName(host, found) });
    return isIP(host) === 0 ? tls : withoutServerName(tls);
  } catch (error) {
    const isMismatch = /key values mismatch/.test(errorMessage(error));
    const why = isMismatch ? `the key in key=${key} is not that of the certificate in cert=${certificate}` : errorMessage(error);
    throw new NarborError("ERR_INVALID", `Cannot use the certificates of ${address.text}: ${why}`, { cause: error });
  }
}

/** The check that Node.js makes, with the address's own host, which may be an IP address. */
function checkName(host: string, certificate: PeerCertificate): Error | undefined {
  if (checkServerIdentity(host, certificate) === undefined) return undefined;
  const names = certificate.subjectaltname ?? JSON.stringify(certificate.subject.CN ?? "");
  return new Error(`its certificate is for ${names.length > NAMES_LIMIT ? `${names.slice(0, NAMES_LIMIT)}…` : names}, and not for ${host}`);
}

/**
 * TLS tells the server which name it is called by, and that cannot be an IP address (RFC 6066): Node.js warns of one. grpc-js (1.14.7) always
 * sends what its target is called, so the target is given no name here. What is in the certificate is checked by `checkName` all the same.
 */
function withoutServerName(tls: ChannelCredentials): ChannelCredentials {
  const createConnector = tls._createSecureConnector.bind(tls);
  tls._createSecureConnector = (target, ...rest) => createConnector({ ...target, path: "" }, ...rest);
  return tls;
}

/** @param label what must be in it; OpenSSL takes anything else for none of it, and says so when it is too late */
async function readPem(file: string | undefined, label: string, address: GrpcAddress): Promise<Buffer | null> {
  if (file === undefined) return null;
  const pem = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    const isMissing = error.code === "ENOENT";
    const what = isMissing ? `there is no ${JSON.stringify(file)}` : error.code === "EISDIR" ? `${JSON.stringify(file)} is a directory, expected a file in PEM` : error.message;
    throw new NarborError(isMissing ? "ERR_NOT_FOUND" : "ERR_INVALID", `Cannot use the address ${address.text}: ${what}`, { cause: error });
  });
  if (!new RegExp(`^-----BEGIN [A-Z ]*${label}-----`, "m").test(pem.toString("latin1"))) {
    throw new NarborError("ERR_INVALID", `Cannot use the address ${address.text}: there is no ${label} in ${JSON.stringify(file)}, which begins a line with -----BEGIN in PEM`);
  }
  return pem;
}

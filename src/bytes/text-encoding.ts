import { asBuffer } from "./as-buffer.ts";

/** Lower-case base16. */
export function toHex(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("hex");
}

/** Bytes of a base16 text, or undefined when it is not one. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  return Uint8Array.from(Buffer.from(text, "hex"));
}

/** Base64 with padding, as in SRI hashes and signatures. */
export function toBase64(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("base64");
}

/** Bytes of a base64 text (padding required), or undefined when it is not one. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[0-9A-Za-z+/]*={0,2}$/.test(text)) return undefined;
  return Uint8Array.from(Buffer.from(text, "base64"));
}

/** Base64 for URLs, without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("base64url");
}

/** Bytes of a base64url text (padding allowed), or undefined when it is not one. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  // One character beyond a multiple of four is no whole byte.
  if (!/^[0-9A-Za-z_-]*={0,2}$/.test(text) || text.replace(/=+$/, "").length % 4 === 1) return undefined;
  return Uint8Array.from(Buffer.from(text, "base64url"));
}

/** Bytes from outside as they may be shown: a JSON string, so that no control character reaches a terminal. */
export function quoteBytes(bytes: Uint8Array): string {
  return JSON.stringify(asBuffer(bytes).toString("utf8"));
}

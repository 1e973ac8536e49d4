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

/** Bytes as Latin-1 text: runs of whole UTF-8 characters, and single bytes that are part of none. */
const UTF8_RUNS =
  /((?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+)|([\x80-\xff])/g;

/**
 * A name as text from which `unescapeBytes` makes the same bytes: those that are not UTF-8 are written as `\xff`, and the backslash of a name that holds
 * such a text already, or one of a control character (`\x0a`), as `\x5c`. All other names, also those that systemd escapes (`\x2d`), are as they are.
 */
export function escapeBytes(bytes: Uint8Array): string {
  return asBuffer(bytes)
    .toString("latin1")
    .replace(UTF8_RUNS, (_, text: string | undefined, byte: string) =>
      text === undefined ? `\\x${byte.charCodeAt(0).toString(16)}` : Buffer.from(text, "latin1").toString().replace(/\\(?=x(?:[0189a-f][0-9a-f]|7f|5c))/g, "\\x5c"),
    );
}

/** Bytes of a text as `escapeBytes` writes it; a control character may be written as a byte is. */
export function unescapeBytes(text: string): Uint8Array {
  const latin1 = Buffer.from(text).toString("latin1").replace(/\\x([0189a-f][0-9a-f]|7f|5c)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Uint8Array.from(Buffer.from(latin1, "latin1"));
}

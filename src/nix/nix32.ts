/**
 * Nix32: Nix's base 32. The alphabet lacks e, o, t and u, and the digits run from the last bits to the first:
 * the first character holds the high bits of the last byte.
 * See https://nix.dev/manual/nix/latest/protocols/nix32
 */
import { NarborError } from "../errors.ts";

const ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz";

const DIGITS: ReadonlyMap<string, number> = new Map(Array.from(ALPHABET, (character, digit) => [character, digit]));

/** The number of characters that `byteLength` bytes take. */
export function nix32Length(byteLength: number): number {
  return Math.ceil((byteLength * 8) / 5);
}

/** Bytes as Nix32 text. */
export function encodeNix32(bytes: Uint8Array): string {
  let text = "";
  for (let position = nix32Length(bytes.length) - 1; position >= 0; position--) {
    const bit = position * 5;
    const index = bit >> 3;
    // Five bits may lie across two bytes; past the last byte there are zeros.
    const pair = (bytes[index] ?? 0) | ((bytes[index + 1] ?? 0) << 8);
    text += ALPHABET.charAt((pair >> (bit & 7)) & 31);
  }
  return text;
}

/**
 * Bytes of a Nix32 text. Each byte string has one text only: spare bits must be zero.
 *
 * @throws NarborError ERR_NIX_INVALID for another alphabet, an impossible length or spare bits that are set
 */
export function decodeNix32(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  if (nix32Length(bytes.length) !== text.length) {
    throw invalid(`${text.length} characters, which no number of bytes takes`);
  }
  for (let position = 0; position < text.length; position++) {
    const at = text.length - 1 - position;
    const digit = DIGITS.get(text.charAt(at));
    if (digit === undefined) {
      throw invalid(`${JSON.stringify(text.charAt(at))} at character ${at + 1}`);
    }
    const bit = position * 5;
    const index = bit >> 3;
    const pair = digit << (bit & 7);
    // The assignment keeps the low eight bits only.
    bytes[index] = (bytes[index] ?? 0) | pair;
    if (pair > 255) {
      if (index + 1 === bytes.length) {
        throw invalid(`${JSON.stringify(text.charAt(0))} at character 1, whose spare bits are not zero`);
      }
      bytes[index + 1] = pair >> 8;
    }
  }
  return bytes;
}

function invalid(found: string): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot decode Nix32: found ${found}`);
}

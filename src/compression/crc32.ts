import * as zlib from "node:zlib";

/** CRC-32 of gzip and xz. `previous` is that of the bytes before, for bytes that come in pieces. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  // Node.js has its own, which is much faster, since 20.15.
  return "crc32" in zlib ? zlib.crc32(bytes, previous) : crc32ByTable(bytes, previous);
}

/** `crc32()` where Node.js has none. */
export function crc32ByTable(bytes: Uint8Array, previous: number): number {
  let crc = ~previous;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** What the decoder and the encoder of bzip2 have in common. */

/** Begins a block: the digits of pi, in two halves. */
export const BLOCK_MAGIC = [0x314159, 0x265359] as const;
/** Ends a stream: the digits of the square root of pi. */
export const END_MAGIC = [0x177245, 0x385090] as const;

/** Symbols coded with the same Huffman table before the next selector. */
export const GROUP_SYMBOLS = 50;

/** CRC-32 with the highest bit first, other than gzip's: `crc = (crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ byte]`. */
export const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});

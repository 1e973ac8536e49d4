/** Deterministic bytes that do not compress and do not repeat; another seed gives others. */
export function sampleBytes(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = (0x9e37_79b9 ^ Math.imul(seed, 0x85eb_ca6b)) | 1;
  for (let index = 0; index < size; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state >>> 11;
  }
  return bytes;
}

/** Deterministic bytes that compress about as text does; another seed gives others. */
export function textBytes(size: number, seed = 1): Uint8Array {
  const noise = sampleBytes(Math.ceil(size / 8), seed);
  return Uint8Array.from({ length: size }, (_, index) => 97 + ((noise[index >>> 3] ?? 0) % 16));
}

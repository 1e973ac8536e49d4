/** Small damages to a NAR, the kinds that a decoder may fall over. */

/** A number below `below`; the same seed gives the same ones. */
export type Random = (below: number) => number;

export function seededRandom(seed: number): Random {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const INTERESTING = [0n, 1n, 7n, 8n, 9n, 31n, 32n, 33n, 255n, 256n, 4095n, 4096n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
const WORDS = ["(", ")", "type", "entry", "name", "node", "regular", "symlink", "directory", "executable", "contents", "target", "nix-archive-1"];

/** One to three mutations of `nar`, which stays as it is. */
export function mutateNar(nar: Uint8Array, random: Random): Uint8Array {
  let mutant: Uint8Array = nar.slice();
  for (let count = 1 + random(3); count > 0; count--) mutant = mutateOnce(mutant, random);
  return mutant;
}

function mutateOnce(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random(bytes.length + 1);
  const word = Math.floor(at / 8) * 8;
  switch (random(8)) {
    case 0:
      return with_(bytes, at, Uint8Array.of(random(256)));
    case 1:
      return with_(bytes, at, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random(8))));
    case 2: {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(INTERESTING[random(INTERESTING.length)] as bigint);
      return with_(bytes, word, length);
    }
    case 3: {
      const text = WORDS[random(WORDS.length)] as string;
      const token = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8);
      token.writeBigUInt64LE(BigInt(text.length));
      token.write(text, 8);
      return random(2) === 0 ? with_(bytes, word, token) : insert(bytes, word, token);
    }
    case 4:
      return bytes.slice(0, at);
    case 5:
      return Buffer.concat([bytes.subarray(0, word), bytes.subarray(word + 8 * (1 + random(8)))]);
    case 6:
      return insert(bytes, word, bytes.subarray(random(bytes.length + 1)).subarray(0, 8 * random(20)));
    default: {
      // Letters only: names, targets and contents, so that some mutants are NARs.
      const letters = [...bytes.keys()].filter((index) => /[a-z]/.test(String.fromCharCode(bytes[index] as number)));
      return letters.length === 0 ? bytes : with_(bytes, letters[random(letters.length)] as number, Uint8Array.of(97 + random(26)));
    }
  }
}

function with_(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array {
  const copy = new Uint8Array(Math.max(bytes.length, at + part.length));
  copy.set(bytes);
  copy.set(part, at);
  return copy;
}

function insert(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array {
  return Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at)]);
}

/** Small damages to a tar archive, most of them with checksums made right again: the kinds that a decoder may fall over. */
import { base256, END, fixChecksum, GNU, longName, pax, put, type TarField, USTAR } from "../helpers/reference-tar.ts";
import type { Random } from "../nar/mutate-nar.ts";

const TYPES = ["\0", "0", "1", "2", "3", "4", "5", "6", "7", "D", "K", "L", "M", "N", "S", "V", "X", "g", "x", "Z"];
const OCTALS = ["", "0", "00000001000", "777", "0000", "   644 ", "1\x002", "8", "-1", "00000000000", "00000000777", "77777777777"];
const BIG = [-(2n ** 60n), -513n, -1n, 0n, 1n, 511n, 512n, 513n, 2n ** 31n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 62n];
const NUMBERS: readonly TarField[] = ["mode", "uid", "gid", "size", "mtime", "deviceMajor", "deviceMinor", "realSize"];
const TEXTS: readonly TarField[] = ["name", "linkName", "prefix"];
const KEYS = ["path", "linkpath", "size", "uid", "mtime", "uname", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.map", "GNU.sparse.numblocks", "GNU.sparse.size", "GNU.sparse.name", "SCHILY.xattr.user.a"];
const VALUES = ["", "0", "1", "5", "-1", "1.5", "0,5", "0,0,5,5", "a", "d/", "a\0b", "512", "99999999999999999999", "x=y\n"];

/** One to three mutations of `archive`, which stays as it is. */
export function mutateTar(archive: Buffer, random: Random): Buffer {
  let mutant: Buffer = Buffer.from(archive);
  for (let count = 1 + random(3); count > 0; count--) mutant = mutateOnce(mutant, random);
  return mutant;
}

function mutateOnce(bytes: Buffer, random: Random): Buffer {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const start = 512 * random(Math.ceil(bytes.length / 512) + 1);
  switch (random(10)) {
    case 0:
      return changed(bytes, start, (block) => put(block, "type", pick(TYPES)));
    case 1:
      return changed(bytes, start, (block) => put(block, pick(NUMBERS), pick(OCTALS).slice(0, 8)));
    case 2:
      return changed(bytes, start, (block) => {
        const field = pick(NUMBERS);
        put(block, field, base256(pick(BIG), field === "size" || field === "mtime" || field === "realSize" ? 12 : 8));
      });
    case 3:
      return changed(bytes, start, (block) => put(block, pick(TEXTS), pick(["", "d/", "\0", "/", "..", "\xff", "n".repeat(99)])));
    case 4:
      return changed(bytes, start, (block) => put(block, "magic", pick([USTAR, GNU, "\0\0\0\0\0\0\0\0", "ustar\0zz"])));
    case 5:
      return changed(bytes, start, (block) => {
        block[random(512)] = random(256);
      });
    case 6: {
      // Contents as well as headers, and no checksum made right.
      const at = random(bytes.length + 1);
      const copy = Buffer.from(bytes);
      if (at < copy.length) copy[at] = pick([0, 0x0a, 0x20, 0x30, 0x39, 0x3d, 0xff, random(256)]);
      return copy;
    }
    case 7:
      return Buffer.from(bytes.subarray(0, random(bytes.length + 1)));
    case 8: {
      const other = pick<Buffer>([pax([[pick(KEYS), pick(VALUES)]]), pax([[pick(KEYS), pick(VALUES)], [pick(KEYS), pick(VALUES)]], pick(["x", "g"])), longName(pick(VALUES), pick(["L", "K"])), END.subarray(512)]);
      return Buffer.concat([bytes.subarray(0, start), other, bytes.subarray(start)]);
    }
    default:
      return Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + 512 * (1 + random(2)))]);
  }
}

/** A block changed, and its checksum made right. */
function changed(bytes: Buffer, start: number, change: (block: Buffer) => void): Buffer {
  const copy = Buffer.from(bytes);
  const block = copy.subarray(start, start + 512);
  if (block.length < 512) return copy;
  change(block);
  fixChecksum(block);
  return copy;
}

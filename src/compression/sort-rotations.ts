/**
 * The order of a text's rotations, for the Burrows-Wheeler transform.
 *
 * By prefix doubling (Larsson and Sadakane): what is sorted by its first h bytes is sorted by the first 2h with the ranks of
 * the rotations h further on. Only groups that are still equal are looked at, and each doubling takes O(n log n) at most, of
 * which there are log n: there is no input that makes it quadratic, as comparing rotations byte by byte would be.
 */

/** Rotations are sorted by this many bytes before the first doubling. */
const FIRST_PREFIX = 4;
/** Groups up to this size are sorted here; for larger ones it pays to call the engine's sort. */
const SMALL_GROUP = 24;
const INDEX_RANGE = 2 ** 24;

/** The starts of the rotations of `text` (at most 2^24 bytes), ascending. Equal rotations may be in any order. */
export function sortRotations(text: Uint8Array): Int32Array {
  const size = text.length;
  const pairs = Uint16Array.from(text, (byte, index) => (byte << 8) | (text[(index + 1) % size] ?? 0));
  const order = sortByFirstBytes(pairs);
  /** By start of rotation: the place in `order` where its group begins. */
  const ranks = new Int32Array(size);
  /** Begin and end in `order` of each group of two or more. */
  let groups = new Int32Array(size + 1);
  let groupsLength = findFirstGroups(pairs, order, ranks, groups);
  let nextGroups = new Int32Array(size + 1);
  const keys = new Float64Array(size);
  for (let prefix = FIRST_PREFIX; prefix < size && groupsLength > 0; prefix *= 2) {
    let nextLength = 0;
    let hasSplit = false;
    for (let at = 0; at < groupsLength; at += 2) {
      const begin = groups[at] ?? 0;
      const end = groups[at + 1] ?? 0;
      // A key is the rank to sort by and, behind it, the rotation's start.
      for (let place = begin; place < end; place++) {
        const start = order[place] ?? 0;
        const further = start + prefix;
        keys[place] = (ranks[further >= size ? further - size : further] ?? 0) * INDEX_RANGE + start;
      }
      sortKeys(keys, begin, end);
      let groupBegin = begin;
      let groupRank = -1;
      for (let place = begin; place < end; place++) {
        const key = keys[place] ?? 0;
        const rank = Math.floor(key / INDEX_RANGE);
        const start = key - rank * INDEX_RANGE;
        if (rank !== groupRank) {
          if (place - groupBegin > 1) {
            nextGroups[nextLength++] = groupBegin;
            nextGroups[nextLength++] = place;
          }
          groupBegin = place;
          groupRank = rank;
        }
        order[place] = start;
        ranks[start] = groupBegin;
      }
      if (groupBegin > begin) hasSplit = true;
      if (end - groupBegin > 1) {
        nextGroups[nextLength++] = groupBegin;
        nextGroups[nextLength++] = end;
      }
    }
    // If twice as many bytes tell no more rotations apart then no number of bytes does: the text is periodic.
    if (!hasSplit) break;
    [groups, nextGroups, groupsLength] = [nextGroups, groups, nextLength];
  }
  return order;
}

/** By the first four bytes: sorted by the second pair of bytes, then by the first, each by counting. */
function sortByFirstBytes(pairs: Uint16Array): Int32Array {
  const size = pairs.length;
  const counts = new Int32Array(65_537);
  for (const pair of pairs) counts[pair + 1] = (counts[pair + 1] ?? 0) + 1;
  for (let pair = 1; pair < counts.length; pair++) counts[pair] = (counts[pair] ?? 0) + (counts[pair - 1] ?? 0);
  const places = counts.slice();
  const bySecond = new Int32Array(size);
  for (let index = 0; index < size; index++) {
    const pair = pairs[(index + 2) % size] ?? 0;
    const place = places[pair] ?? 0;
    places[pair] = place + 1;
    bySecond[place] = index;
  }
  const order = new Int32Array(size);
  for (const index of bySecond) {
    const pair = pairs[index] ?? 0;
    const place = counts[pair] ?? 0;
    counts[pair] = place + 1;
    order[place] = index;
  }
  return order;
}

/** Fill in the ranks by the first four bytes, and the groups. Returns the length of the latter. */
function findFirstGroups(pairs: Uint16Array, order: Int32Array, ranks: Int32Array, groups: Int32Array): number {
  const size = pairs.length;
  const firstBytes = (place: number): number => {
    const start = order[place] ?? 0;
    return ((pairs[start] ?? 0) << 16) | (pairs[(start + 2) % size] ?? 0);
  };
  let length = 0;
  for (let begin = 0; begin < size; ) {
    const bytes = firstBytes(begin);
    let end = begin;
    do {
      ranks[order[end] ?? 0] = begin;
      end++;
    } while (end < size && firstBytes(end) === bytes);
    if (end - begin > 1) {
      groups[length++] = begin;
      groups[length++] = end;
    }
    begin = end;
  }
  return length;
}

function sortKeys(keys: Float64Array, begin: number, end: number): void {
  if (end - begin > SMALL_GROUP) {
    keys.subarray(begin, end).sort();
    return;
  }
  for (let sorted = begin + 1; sorted < end; sorted++) {
    const key = keys[sorted] ?? 0;
    let place = sorted;
    for (; place > begin; place--) {
      const before = keys[place - 1] ?? 0;
      if (before <= key) break;
      keys[place] = before;
    }
    keys[place] = key;
  }
}

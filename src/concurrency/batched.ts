/**
 * Items in groups, in order: each as large as it may be, or as much as is there when the source has nothing more at the moment.
 * The source is closed on every way out.
 *
 * @param maxSize most that the sizes of a group's items come to; a larger item is a group of its own
 * @param maxCount most items in a group
 * @param firstSize as `maxSize`, for the first group; those that follow may be twice as large as the one before
 */
export async function* batched<T extends { readonly size: number }>(
  source: Iterable<T> | AsyncIterable<T>,
  maxSize: number,
  maxCount: number,
  firstSize = maxSize,
): AsyncGenerator<readonly T[], void, undefined> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let batch: T[] = [];
  let size = 0;
  let sizeLimit = Math.min(firstSize, maxSize);
  let next: IteratorResult<T> | Promise<IteratorResult<T>> | undefined;
  let isDone = false;
  const take = (): readonly T[] => {
    const taken = batch;
    batch = [];
    size = 0;
    sizeLimit = Math.min(2 * sizeLimit, maxSize);
    return taken;
  };
  try {
    for (;;) {
      next ??= iterator.next();
      const isSlow = next instanceof Promise && batch.length > 0;
      const result = isSlow ? await Promise.race([next, turn()]) : await next;
      if (result === undefined) {
        yield take();
        continue;
      }
      next = undefined;
      if (result.done === true) break;
      if (batch.length > 0 && (size + result.value.size > sizeLimit || batch.length >= maxCount)) yield take();
      batch.push(result.value);
      size += result.value.size;
    }
    isDone = true;
    if (batch.length > 0) yield take();
  } finally {
    // Raced against a turn, a failure may come when no one listens any more.
    if (next instanceof Promise) next.catch(() => undefined);
    if (!isDone) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}

/** Not `nextTurn`: of the many that are not waited for to the end, each would keep its place before others who wait. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

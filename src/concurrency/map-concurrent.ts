/**
 * `transform` of every item, in order, with up to `ahead` of them under way. The first failure ends the loop; what is
 * still under way then is left to finish on its own.
 */
export async function* mapConcurrent<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  ahead: number,
  transform: (item: T) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const underway: Promise<R>[] = [];
  try {
    for await (const item of source) {
      const promise = transform(item);
      // It is awaited below, in its turn; until then a rejection must not count as unhandled.
      promise.catch(() => undefined);
      underway.push(promise);
      if (underway.length >= ahead) yield await (underway.shift() as Promise<R>);
    }
    for (let next = underway.shift(); next !== undefined; next = underway.shift()) yield await next;
  } finally {
    await Promise.allSettled(underway);
  }
}

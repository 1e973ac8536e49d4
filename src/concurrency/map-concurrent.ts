/**
 * `transform` of every item, in order, with up to `ahead` of them under way. What is ready is given out while the source has nothing more
 * to give yet. How many may be under way is asked each time where it is a function. The first failure ends the loop, when what is still under way has ended too; the source is closed on every way out.
 */
export async function* mapConcurrent<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  ahead: number | (() => number),
  transform: (item: T) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  const underway: Promise<R>[] = [];
  let next: IteratorResult<T> | Promise<IteratorResult<T>> | undefined;
  let isDone = false;
  const take = (result: IteratorResult<T>): void => {
    next = undefined;
    if (result.done === true) isDone = true;
    else underway.push(quiet(transform(result.value)));
  };
  try {
    for (;;) {
      if (isDone && underway.length === 0) return;
      if (!isDone && underway.length < (typeof ahead === "number" ? ahead : ahead())) {
        next ??= iterator.next();
        if (!(next instanceof Promise)) {
          take(next);
          continue;
        }
        const [first] = underway;
        const came = await (first === undefined ? next : Promise.race([quiet(next), first.then(() => undefined)]));
        if (came !== undefined) {
          take(came);
          continue;
        }
      }
      yield await (underway.shift() as Promise<R>);
    }
  } finally {
    // A source that ended or failed needs no closing, but does not mind.
    if (!isDone) void Promise.resolve(iterator.return?.()).catch(() => undefined);
    await Promise.allSettled(underway);
  }
}

/** It is awaited later, in its turn; until then a rejection must not count as unhandled. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

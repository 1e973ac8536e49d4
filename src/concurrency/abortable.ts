/**
 * The items of `source`, until `signal` fires: then the loop rejects with its reason at once, even while `source` is stuck,
 * and `source` is told to close.
 */
export async function* abortable<T>(source: AsyncIterable<T> | Iterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T, void, undefined> {
  if (signal === undefined) {
    yield* source;
    return;
  }
  signal.throwIfAborted();
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  // One listener for the whole loop: racing every item against one long-lived promise would keep a reaction for each.
  let rejectItem: ((reason: unknown) => void) | undefined;
  const abort = (): void => rejectItem?.(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const result = await new Promise<IteratorResult<T, unknown>>((resolve, reject) => {
        rejectItem = reject;
        Promise.resolve(iterator.next()).then(resolve, reject);
      });
      if (result.done === true) return;
      yield result.value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    // A stuck iterator answers `return` only when it moves again, so its answer is not waited for after an abort.
    const closed = Promise.resolve(iterator.return?.());
    if (signal.aborted) closed.catch(() => undefined);
    else await closed;
  }
}

/** `transform` of every item, one after the other. The source is closed on every way out. */
export async function* mapItems<T, R>(source: AsyncIterable<T>, transform: (item: T) => R): AsyncGenerator<R, void, undefined> {
  for await (const item of source) yield transform(item);
}

/** How a source goes on after its last item. */
export type SourceEnd = "end" | "stuck" | { readonly fail: unknown };

/** A stream that remembers what became of it. */
export class TrackedSource<T = Uint8Array> implements AsyncIterable<T> {
  /** How often someone began to read it. */
  opened = 0;
  /** Items handed out. */
  taken = 0;
  /** Whether it was told to close. */
  returned = false;
  /** Whether it has ended or failed by itself. */
  ended = false;
  readonly #items: readonly T[];
  readonly #end: SourceEnd;
  readonly #beforeItem: (index: number) => unknown;
  #reachedEnd: () => void = () => undefined;
  /** Resolves when someone asks for more than there is. */
  readonly atEnd = new Promise<void>((resolve) => {
    this.#reachedEnd = resolve;
  });

  /** @param beforeItem called, and awaited, before each item is handed out */
  constructor(items: readonly T[], end: SourceEnd = "end", beforeItem: (index: number) => unknown = () => undefined) {
    this.#items = items;
    this.#end = end;
    this.#beforeItem = beforeItem;
  }

  /** Whether nothing is left open: it was never opened, or ended, or told to close. */
  get closed(): boolean {
    return this.opened === 0 || this.ended || this.returned;
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    this.opened++;
    let index = 0;
    return {
      next: async () => {
        if (this.returned) return { done: true, value: undefined };
        const item = this.#items[index];
        if (index < this.#items.length) {
          await this.#beforeItem(index);
          index++;
          this.taken++;
          return { done: false, value: item as T };
        }
        this.#reachedEnd();
        if (this.#end === "stuck") return await new Promise<never>(() => undefined);
        this.ended = true;
        if (this.#end === "end") return { done: true, value: undefined };
        throw this.#end.fail;
      },
      return: async () => {
        this.returned = true;
        return { done: true, value: undefined };
      },
    };
  }
}

/** A stream of `items` that ends. */
export async function* sourceOf<T>(...items: readonly T[]): AsyncGenerator<T, void, undefined> {
  yield* items;
}

/** A stream of a list's items, of which there may be many. */
export async function* streamOf<T>(items: Iterable<T>): AsyncGenerator<T, void, undefined> {
  yield* items;
}

/**
 * A stream of `pieces` in memory that is used again: each is spoilt when as many more are asked for as there are memories.
 *
 * @param count memories; with two, a piece is good until the next but one is asked for
 */
export async function* reusingMemory(pieces: readonly Uint8Array[], count = 1): AsyncGenerator<Uint8Array, void, undefined> {
  const length = Math.max(0, ...pieces.map((piece) => piece.length));
  const memories = Array.from({ length: count }, () => new Uint8Array(length));
  for (const piece of pieces) {
    const memory = memories.shift() as Uint8Array<ArrayBuffer>;
    memory.set(piece);
    memories.push(memory);
    yield memory.subarray(0, piece.length);
    memories[0]?.fill(0xaa);
  }
}

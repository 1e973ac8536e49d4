/**
 * Hands items from one who gives to one who takes, one at a time: whoever gives waits until the item is taken. What was begun by one caller can
 * so be gone on with by another.
 */
export class HandOff<T> implements AsyncIterable<T> {
  #items: { readonly item: T; readonly taken: () => void }[] = [];
  #wake: (() => void) | undefined;
  #state: "open" | "ended" | "closed" | { readonly failure: unknown } = "open";

  /** Resolves when it was taken, or at once when the taker has closed. */
  give(item: T): Promise<void> {
    if (this.#state !== "open") return Promise.resolve();
    return new Promise((resolve) => {
      this.#items.push({ item, taken: resolve });
      this.#wake?.();
    });
  }

  /** There is no more. */
  end(): void {
    if (this.#state === "open") this.#state = "ended";
    this.#wake?.();
  }

  /** The taker is to fail with `error`. */
  fail(error: unknown): void {
    if (this.#state === "open") this.#state = { failure: error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        if (typeof this.#state === "object") throw this.#state.failure;
        const next = this.#items.shift();
        if (next !== undefined) {
          // Taken when the taker comes back, for more or to stop: until then it may still be using it.
          try {
            yield next.item;
          } finally {
            next.taken();
          }
          continue;
        }
        if (this.#state !== "open") return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      this.#state = "closed";
      for (const { taken } of this.#items.splice(0)) taken();
    }
  }
}

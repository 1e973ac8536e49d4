/**
 * A semaphore counted in weights (bytes, usually), first come first served.
 */
export class Semaphore {
  readonly #capacity: number;
  #free: number;
  readonly #waiting: { readonly weight: number; readonly grant: () => void }[] = [];

  /** @param capacity the weight that may be held at once */
  constructor(capacity: number) {
    if (!(capacity > 0)) throw new RangeError(`Semaphore capacity must be positive, found ${capacity}`);
    this.#capacity = capacity;
    this.#free = capacity;
  }

  /** Weight held at this moment. */
  get held(): number {
    return this.#capacity - this.#free;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Take `weight`, waiting until it is free; more than the capacity takes all of it.
   *
   * @returns a function that gives it back; calling it again does nothing
   * @throws the signal's reason when it fires while waiting
   */
  async acquire(weight: number, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const taken = Math.min(weight, this.#capacity);
    if (this.#waiting.length > 0 || this.#free < taken) await this.#wait(taken, signal);
    else this.#free -= taken;
    return this.#releaser(taken);
  }

  /** The same without waiting: undefined when it is not free now, or more than the capacity. */
  tryAcquire(weight: number): (() => void) | undefined {
    if (this.#waiting.length > 0 || this.#free < weight) return undefined;
    this.#free -= weight;
    return this.#releaser(weight);
  }

  #releaser(taken: number): () => void {
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#free += taken;
      this.#grantNext();
    };
  }

  #wait(weight: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = {
        weight,
        grant: () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        },
      };
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal?.reason as Error);
        this.#grantNext();
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  #grantNext(): void {
    for (let [next] = this.#waiting; next !== undefined && next.weight <= this.#free; [next] = this.#waiting) {
      this.#waiting.shift();
      this.#free -= next.weight;
      next.grant();
    }
  }
}

/** What came first goes first, however many wait: an array of more than some thousand items moves all of them when its first is taken away. */
export class Fifo<T> {
  /** Those before `#next` have gone. */
  #going: (T | undefined)[] = [];
  #next = 0;
  #coming: T[] = [];

  /** Items that wait. */
  get length(): number {
    return this.#going.length - this.#next + this.#coming.length;
  }

  push(item: T): void {
    this.#coming.push(item);
  }

  /** The first one, which stays. */
  peek(): T | undefined {
    this.#turn();
    return this.#going[this.#next];
  }

  /** The first one, which goes. */
  shift(): T | undefined {
    this.#turn();
    const item = this.#going[this.#next];
    if (this.#next < this.#going.length) this.#going[this.#next++] = undefined;
    return item;
  }

  #turn(): void {
    if (this.#next < this.#going.length) return;
    this.#going = this.#coming;
    this.#next = 0;
    this.#coming = [];
  }
}

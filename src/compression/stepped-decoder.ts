import type { Decoder } from "./decoder.ts";

/** What one step came to. */
export interface Step {
  /** Bytes of output. */
  readonly length: number;
  /** Input that is not needed any more, in the order in which it came. */
  readonly consumed: readonly Uint8Array<ArrayBuffer>[];
  /** Whether all of the input is decoded. */
  readonly isEnd: boolean;
}

const NO_BYTES = new Uint8Array(0);

/** A decoder that is given input whenever there is some, and decodes as much at a time as there is room for. */
export class SteppedDecoder {
  readonly #decoder: Decoder;
  /** The first is being decoded. */
  readonly #inputs: Uint8Array<ArrayBuffer>[] = [];
  #isDecoding = false;
  #isLast = false;
  #hasEnded = false;
  #isEnd = false;
  #failure: { readonly error: unknown } | undefined;
  /** What is decoded and had no room. */
  #rest: Uint8Array = NO_BYTES;

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
  }

  /**
   * Fill `output`, as far as the input goes.
   *
   * @param input what comes behind the input before, if there is some
   * @param isLast whether no more input comes
   * @throws what the decoder does, and that again each time
   */
  step(output: Uint8Array, input: Uint8Array<ArrayBuffer> | undefined, isLast: boolean): Step {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (input !== undefined) this.#inputs.push(input);
    if (isLast) this.#isLast = true;
    try {
      return this.#fill(output);
    } catch (error) {
      this.#failure = { error };
      throw error;
    }
  }

  close(): void {
    this.#decoder.close();
  }

  #fill(output: Uint8Array): Step {
    const consumed: Uint8Array<ArrayBuffer>[] = [];
    for (let length = 0; ; ) {
      const part = this.#rest.subarray(0, output.length - length);
      output.set(part, length);
      length += part.length;
      this.#rest = this.#rest.subarray(part.length);
      if (length === output.length || this.#isEnd) return { length, consumed, isEnd: this.#isEnd };
      const decoded = this.#decoder.next(output.subarray(length));
      if (decoded?.buffer === output.buffer) {
        length += decoded.length;
        continue;
      }
      if (decoded !== undefined) {
        this.#rest = decoded;
        continue;
      }
      if (this.#isDecoding) consumed.push(this.#inputs.shift() as Uint8Array<ArrayBuffer>);
      const [input] = this.#inputs;
      this.#isDecoding = input !== undefined;
      if (input !== undefined) this.#decoder.push(input);
      else if (!this.#isLast) return { length, consumed, isEnd: false };
      else if (this.#hasEnded) this.#isEnd = true;
      else {
        this.#decoder.end();
        this.#hasEnded = true;
      }
    }
  }
}

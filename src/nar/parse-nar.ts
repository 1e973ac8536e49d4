import { NarDecoder } from "./nar-decoder.ts";
import type { NarEvent } from "./nar-event.ts";

/**
 * The thin asynchronous shell around `NarDecoder`. `next` gives the events that are at hand without a promise for each;
 * when it has none, `fill` waits for more bytes.
 */
export class NarReader {
  readonly #decoder = new NarDecoder();
  readonly #iterator: AsyncIterator<Uint8Array>;

  /** @param source the NAR's bytes; read once, closed by `close` */
  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** The next event at hand. @throws NarborError ERR_NAR_INVALID */
  next(): NarEvent | undefined {
    return this.#decoder.next();
  }

  /** Wait for more bytes. False when the NAR has ended, and rightly so. @throws NarborError ERR_NAR_INVALID */
  async fill(): Promise<boolean> {
    const result = await this.#iterator.next();
    if (result.done === true) {
      this.#decoder.end();
      return false;
    }
    this.#decoder.push(result.value);
    return true;
  }

  /** Close the source. */
  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

/**
 * The events of a NAR. Every `data` event must be used before the next event is taken.
 *
 * @throws NarborError ERR_NAR_INVALID at the first byte that breaks a rule
 */
export async function* parseNar(source: AsyncIterable<Uint8Array>): AsyncGenerator<NarEvent, void, undefined> {
  const reader = new NarReader(source);
  try {
    do {
      for (let event = reader.next(); event !== undefined; event = reader.next()) yield event;
    } while (await reader.fill());
  } finally {
    await reader.close();
  }
}

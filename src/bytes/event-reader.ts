/** A decoder that never waits: `push` bytes as they come, take events with `next` until it has none, `end` at the input's end. */
export interface EventDecoder<Event> {
  /** Hand in the next bytes; they must not change until the bytes after them have been handed in. */
  push(chunk: Uint8Array): void;
  /** The next event, or undefined when more bytes are needed (or the end has come). @throws NarborError when the input breaks a rule */
  next(): Event | undefined;
  /** The input has ended. @throws NarborError when it may not end there */
  end(): void;
}

/**
 * The thin asynchronous shell around a decoder. `next` gives the events that are at hand without a promise for each;
 * when it has none, `fill` waits for more bytes.
 */
export class EventReader<Event> {
  readonly #decoder: EventDecoder<Event>;
  readonly #iterator: AsyncIterator<Uint8Array>;

  /** @param source the bytes; read once, closed by `close`; it may use the memory of what it gave again when the next but one is asked for */
  constructor(decoder: EventDecoder<Event>, source: AsyncIterable<Uint8Array>) {
    this.#decoder = decoder;
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** The next event at hand. @throws NarborError when the input breaks a rule */
  next(): Event | undefined {
    return this.#decoder.next();
  }

  /** Wait for more bytes. False when the input has ended, and rightly so. @throws NarborError when it may not end there */
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

/** What a decoder says of `source`, which is closed on every way out. */
export async function* readEvents<Event>(decoder: EventDecoder<Event>, source: AsyncIterable<Uint8Array>): AsyncGenerator<Event, void, undefined> {
  const reader = new EventReader(decoder, source);
  try {
    do {
      for (let event = reader.next(); event !== undefined; event = reader.next()) yield event;
    } while (await reader.fill());
  } finally {
    await reader.close();
  }
}

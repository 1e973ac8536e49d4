import { EventReader, readEvents } from "../bytes/event-reader.ts";
import { NarDecoder } from "./nar-decoder.ts";
import type { NarEvent } from "./nar-event.ts";

/** The asynchronous shell around `NarDecoder`. Its errors are ERR_NAR_INVALID. */
export class NarReader extends EventReader<NarEvent> {
  readonly #decoder: NarDecoder;

  /** @param source the NAR's bytes; read once, closed by `close` */
  constructor(source: AsyncIterable<Uint8Array>) {
    const decoder = new NarDecoder();
    super(decoder, source);
    this.#decoder = decoder;
  }

  /** See `NarDecoder.framing`. */
  framing(): Uint8Array | undefined {
    return this.#decoder.framing();
  }
}

/**
 * The events of a NAR. Every `data` event must be used before the next event is taken.
 *
 * @throws NarborError ERR_NAR_INVALID at the first byte that breaks a rule
 */
export function parseNar(source: AsyncIterable<Uint8Array>): AsyncGenerator<NarEvent, void, undefined> {
  return readEvents(new NarDecoder(), source);
}

import { EventReader, readEvents } from "../bytes/event-reader.ts";
import type { TarDecoderOptions } from "./tar-decoder.ts";
import { TarDecoder } from "./tar-decoder.ts";
import type { TarEvent } from "./tar-event.ts";

/** The asynchronous shell around `TarDecoder`. Its errors are ERR_TAR_INVALID. */
export class TarReader extends EventReader<TarEvent> {
  /** @param source the archive's bytes; read once, closed by `close` */
  constructor(source: AsyncIterable<Uint8Array>, options?: TarDecoderOptions) {
    super(new TarDecoder(options), source);
  }
}

/**
 * The events of a tar archive. Every `raw` and `data` event must be used before the next event is taken.
 *
 * @throws NarborError ERR_TAR_INVALID
 */
export function parseTar(source: AsyncIterable<Uint8Array>, options?: TarDecoderOptions): AsyncGenerator<TarEvent, void, undefined> {
  return readEvents(new TarDecoder(options), source);
}

import { NarborError } from "../errors.ts";

/** Bytes of messages that clients have not taken yet, over all calls. A message takes two to three times as much, in grpc-js and Node.js. */
const PENDING_BYTES = 128 * 1024 * 1024;
/** A client that has not taken a message for so long is given up when there are more. */
const STALLED_MILLISECONDS = 5000;

interface PendingSend {
  readonly bytes: number;
  readonly since: number;
  readonly giveUp: (error: NarborError) => void;
}

/** What waits to be taken by clients. A thousand calls that no one reads from must not keep a gigabyte, nor hold up those that someone reads from. */
export class PendingSends {
  /** In the order in which they began to wait. */
  readonly #sends = new Set<PendingSend>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param giveUp called when there is too much, and no one waits longer than this @returns to be called when it was taken */
  add(bytes: number, giveUp: (error: NarborError) => void): () => void {
    const send = { bytes, since: performance.now(), giveUp };
    this.#sends.add(send);
    this.#bytes += bytes;
    this.#giveUpStalled();
    return () => this.#remove(send);
  }

  #giveUpStalled(): void {
    for (const send of this.#sends) {
      if (this.#bytes <= PENDING_BYTES) return;
      const left = send.since + STALLED_MILLISECONDS - performance.now();
      if (left > 0) {
        this.#lookAgainIn(left);
        return;
      }
      this.#remove(send);
      send.giveUp(new NarborError("ERR_TIMEOUT", `Nothing was taken for ${STALLED_MILLISECONDS / 1000} s, and too many others wait`));
    }
  }

  #lookAgainIn(milliseconds: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#giveUpStalled();
    }, milliseconds).unref();
  }

  #remove(send: PendingSend): void {
    if (this.#sends.delete(send)) this.#bytes -= send.bytes;
  }
}

import { equalBytes } from "../bytes/compare-bytes.ts";
import type { B3Digest } from "../castore/digest.ts";
import { formatDigest } from "../castore/digest.ts";
import type { DirectoryService } from "../castore/directory-service.ts";
import { HandOff } from "../concurrency/hand-off.ts";
import type { LinkedSignal } from "../concurrency/linked-signal.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { NarborError } from "../errors.ts";
import type { DirectoryStack } from "./directory-stack.ts";

/** Directories are kept until there are so many bytes of them, and then go to a service that puts them aside, while the tree is read. */
const HELD_BYTES = 2 * 1024 * 1024;

export type ClosureTarget = Pick<DirectoryService, "putClosure" | "putsClosuresAside">;

/**
 * Sends the directories of a tree to a directory service, leaves to root, in one call. To one that does not put them aside they go when the tree has ended,
 * without a pause, and in an array: only that can be sent again when the service goes away meanwhile.
 */
export class ClosureUpload implements Disposable {
  readonly #directories: ClosureTarget;
  readonly #stop: LinkedSignal;
  #sending: { readonly messages: HandOff<readonly Uint8Array[]>; readonly stored: Promise<B3Digest> } | undefined;

  /** @param stop fires when the call fails */
  constructor(directories: ClosureTarget, stop: LinkedSignal) {
    this.#directories = directories;
    this.#stop = stop;
  }

  /** Send what the stack has finished, if it is much and the service may have it now. A promise when it must be waited for. */
  send(stack: DirectoryStack): Promise<void> | undefined {
    if (this.#directories.putsClosuresAside !== true || stack.finishedBytes < HELD_BYTES) return undefined;
    return this.#give(stack.takeFinished());
  }

  /**
   * Send the rest, and wait until all of them are stored. Not before what they hold is: the last of them makes the tree readable.
   *
   * @throws NarborError ERR_MISMATCH when the service gives the root another name
   */
  async finish(stack: DirectoryStack): Promise<void> {
    const { root } = stack;
    if (root.type !== "directory") return;
    const { signal } = this.#stop;
    const rest = stack.takeFinished();
    let stored: B3Digest;
    if (this.#sending === undefined) stored = await untilAborted(this.#directories.putClosure(rest, { signal }), signal);
    else {
      await this.#give(rest);
      this.#sending.messages.end();
      stored = await untilAborted(this.#sending.stored, signal);
    }
    if (!equalBytes(stored, root.digest)) {
      throw new NarborError("ERR_MISMATCH", `Cannot store directories: the service calls the root ${formatDigest(stored)}, expected ${formatDigest(root.digest)}`);
    }
  }

  /** Whoever still waits for directories is told that no more will come, unless they have ended. */
  [Symbol.dispose](): void {
    const { signal } = this.#stop;
    this.#sending?.messages.fail(signal.aborted ? signal.reason : new NarborError("ERR_CLOSED", "The tree was given up"));
  }

  async #give(finished: readonly Uint8Array[]): Promise<void> {
    const { messages, stored } = (this.#sending ??= this.#begin());
    // A service that has answered takes no more.
    await untilAborted(Promise.race([messages.give(finished), stored]), this.#stop.signal);
  }

  #begin(): { readonly messages: HandOff<readonly Uint8Array[]>; readonly stored: Promise<B3Digest> } {
    const messages = new HandOff<readonly Uint8Array[]>();
    const stored = this.#directories.putClosure(eachOf(messages), { signal: this.#stop.signal });
    stored.catch((error: unknown) => this.#stop.abort(error));
    return { messages, stored };
  }
}

async function* eachOf(groups: AsyncIterable<readonly Uint8Array[]>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const messages of groups) yield* messages;
}

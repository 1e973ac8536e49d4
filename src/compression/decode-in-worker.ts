import { LentMemory } from "../bytes/lent-memory.ts";
import { abortable, type SourceReader } from "./source-reader.ts";
import { openDecodeJob } from "./worker-pool.ts";
import { STEP_INPUT_BYTES, STEP_OUTPUT_BYTES, type WorkerCodec } from "./worker-protocol.ts";

/** One is decoded into, one is with the reader, and of the one before it the reader may keep what it could not use yet. */
const OUTPUTS = 3;

/**
 * Decode what `reader` reads in a worker. One step is decoded ahead while its reader is busy with the one before.
 * What is given out is valid until the next but one is asked for: the memory is used again.
 */
export async function* decodeInWorker(
  codec: WorkerCodec,
  reader: SourceReader,
  maxWindowBytes: number | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const job = openDecodeJob(codec, maxWindowBytes);
  // The reader of an aborted stream may never come back for its end.
  const onAbort = (): void => job.close();
  signal?.addEventListener("abort", onAbort, { once: true });

  const given: LentMemory[] = [];
  let inputMemory: LentMemory | undefined;
  let input: Uint8Array | undefined;
  let isLast = false;
  async function advance(output: LentMemory, hasMore: boolean): Promise<{ readonly output: LentMemory; readonly hasMore: boolean }> {
    if (hasMore) return { output, hasMore: await job.step(output, undefined, false) };
    if (input === undefined || input.length === 0) input = await reader.read();
    isLast = input === undefined;
    const part = input?.subarray(0, STEP_INPUT_BYTES);
    input = input?.subarray(STEP_INPUT_BYTES);
    // What was sent before is decoded.
    inputMemory?.release();
    inputMemory = part && LentMemory.copyOf(part);
    return { output, hasMore: await job.step(output, inputMemory, isLast) };
  }

  try {
    for (let next = advance(LentMemory.lend(STEP_OUTPUT_BYTES), false); ; ) {
      const { output, hasMore } = await abortable(next, signal);
      const { bytes } = output;
      if (bytes.length === 0) output.release();
      else if (given.push(output) === OUTPUTS) given.shift()?.release();
      const isEnd = isLast && !hasMore;
      if (!isEnd) {
        next = advance(LentMemory.lend(STEP_OUTPUT_BYTES), hasMore);
        // Handled when it is awaited, which is after the reader has taken this output.
        next.catch(() => undefined);
      }
      if (bytes.length > 0) yield bytes;
      if (!isEnd) continue;
      inputMemory?.release();
      for (const before of given.slice(0, -1)) before.release();
      return;
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    job.close();
  }
}

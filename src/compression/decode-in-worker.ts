import { abortable, type SourceReader } from "./source-reader.ts";
import { openDecodeJob, type StepOutput } from "./worker-pool.ts";
import { STEP_INPUT_BYTES, type WorkerCodec } from "./worker-protocol.ts";

/** Decode what `reader` reads in a worker. One step is decoded ahead while its reader is busy with the one before. */
export async function* decodeInWorker(
  codec: WorkerCodec,
  reader: SourceReader,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const job = openDecodeJob(codec);
  // The reader of an aborted stream may never come back for its end.
  const onAbort = (): void => job.close();
  signal?.addEventListener("abort", onAbort, { once: true });

  let input: Uint8Array | undefined;
  let isLast = false;
  async function advance(hasMore: boolean): Promise<StepOutput> {
    if (hasMore) return job.step(undefined, false);
    if (input === undefined || input.length === 0) input = await reader.read();
    isLast = input === undefined;
    const part = input?.subarray(0, STEP_INPUT_BYTES);
    input = input?.subarray(STEP_INPUT_BYTES);
    return job.step(part, isLast);
  }

  try {
    let ahead = advance(false);
    for (;;) {
      const { output, hasMore } = await abortable(ahead, signal);
      const isEnd = isLast && !hasMore;
      if (!isEnd) {
        ahead = advance(hasMore);
        // Handled when it is awaited, which is after the reader has taken this output.
        ahead.catch(() => undefined);
      }
      yield* output;
      if (isEnd) return;
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    job.close();
  }
}

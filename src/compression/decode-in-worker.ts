import { LentMemory } from "../bytes/lent-memory.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { abortable, type SourceReader } from "./source-reader.ts";
import { openDecodeJob } from "./worker-pool.ts";
import { STEP_INPUT_BYTES, STEP_OUTPUT_BYTES, type WorkerCodec } from "./worker-protocol.ts";

/** One is with the reader, and of the one before it the reader may keep what it could not use yet. */
const KEPT_OUTPUTS = 2;

export interface DecodeOptions {
  /** Most bytes to decode ahead of the reader. */
  readonly aheadBytes: number;
  /** See `DecompressOptions`. */
  readonly maxWindowBytes: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Decode what `reader` reads in a worker, ahead of whoever takes it.
 * What is given out is valid until the next but one is asked for: the memory is used again.
 */
export async function* decodeInWorker(codec: WorkerCodec, reader: SourceReader, { aheadBytes, maxWindowBytes, signal }: DecodeOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const job = openDecodeJob(codec, maxWindowBytes);
  // The reader of an aborted stream may never come back for its end.
  const onAbort = (): void => job.close();
  signal?.addEventListener("abort", onAbort, { once: true });

  const ahead = Math.max(1, Math.floor(aheadBytes / STEP_OUTPUT_BYTES));
  const came = { isLast: false, isEnd: false };
  async function* inputs(): AsyncGenerator<LentMemory | undefined, void, undefined> {
    for (let bytes = await reader.read(); bytes !== undefined; bytes = await reader.read()) {
      for (let offset = 0; offset < bytes.length; ) {
        // What the worker has not decoded yet is enough for some steps more.
        if (job.inputs >= ahead) {
          yield undefined;
          continue;
        }
        const part = bytes.subarray(offset, offset + STEP_INPUT_BYTES);
        offset += part.length;
        yield LentMemory.copyOf(part);
      }
    }
    came.isLast = true;
    while (!came.isEnd) yield undefined;
  }
  const step = async (input: LentMemory | undefined): Promise<LentMemory> => {
    const output = LentMemory.lend(STEP_OUTPUT_BYTES);
    if (await job.step(output, input, came.isLast)) came.isEnd = true;
    return output;
  };

  const given: LentMemory[] = [];
  const steps = mapConcurrent(inputs(), ahead, step);
  try {
    for (;;) {
      const { done, value: output } = await abortable(steps.next(), signal);
      if (done === true) break;
      if (output.bytes.length === 0) {
        output.release();
        continue;
      }
      if (given.push(output) > KEPT_OUTPUTS) given.shift()?.release();
      yield output.bytes;
    }
    for (const before of given.slice(0, -1)) before.release();
  } finally {
    signal?.removeEventListener("abort", onAbort);
    job.close();
    // It may be waiting for a source that is stuck.
    void steps.return().catch(() => undefined);
  }
}

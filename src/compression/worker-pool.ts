/**
 * The threads that decode and compress. There is one pool in a process, as threads are the process's: it starts them
 * when there is work, at most one for each processor, and ends them when they have been idle for some seconds.
 *
 * A thread works on many jobs in turns of some milliseconds, so that a slow sender holds no thread and no one waits for
 * one. Threads do not keep the process alive unless an answer is awaited.
 */
import { availableParallelism } from "node:os";

import type { LentMemory } from "../bytes/lent-memory.ts";
import { deferred } from "../concurrency/deferred.ts";
import { endWithProcess, startThread } from "../concurrency/start-thread.ts";
import { NarborError } from "../errors.ts";
import type { FrameInFile, WorkerAnswer, WorkerCodec, WorkerMessage, WorkerRequest } from "./worker-protocol.ts";

/** How long a thread without work is kept. */
const IDLE_MS = 10_000;

/** Decoding of one input, in a thread. */
export interface DecodeJob {
  /**
   * Decode into `output` what was given before and `input`, if there is some. `output` comes back with what was decoded; the input when it is not needed any more,
   * with a later step perhaps, and is released. May be called again before it is answered.
   *
   * @returns whether all of the input is decoded
   */
  step(output: LentMemory, input: LentMemory | undefined, isLast: boolean): Promise<boolean>;
  /** Pieces of input that did not come back. */
  readonly inputs: number;
  /** Give back what the decoder holds. Must be called; may be called at any time, and again. */
  close(): void;
}

const workers = new Set<CodecWorker>();
let nextId = 0;

/** Begin to decode in the thread that has the least to do. */
export function openDecodeJob(codec: WorkerCodec, maxWindowBytes: number | undefined): DecodeJob {
  const worker = leastLoadedWorker();
  const job = nextId++;
  worker.hold();
  worker.post({ type: "open", job, codec, maxWindowBytes });
  let isOpen = true;
  const inputs: LentMemory[] = [];
  return {
    get inputs() {
      return inputs.length;
    },
    step: async (output, input, isLast) => {
      if (!isOpen) throw new TypeError("The decoding is closed");
      if (input !== undefined) inputs.push(input);
      const request = { type: "step", id: nextId++, job, output: output.bytes, ...(input && { input: input.bytes }), isLast } as const;
      const answer = await worker.request("step", request, input === undefined ? [output.bytes.buffer] : [output.bytes.buffer, input.bytes.buffer]);
      output.restore(answer.output, answer.length);
      for (const buffer of answer.inputs) {
        const consumed = inputs.shift();
        consumed?.restore(buffer, 0);
        consumed?.release();
      }
      return answer.isEnd;
    },
    close: () => {
      if (!isOpen) return;
      isOpen = false;
      worker.post({ type: "close", job });
      worker.release();
    },
  };
}

/** SHA-256 of one input, in a thread. */
export interface HashJob {
  /** Hash what is in the memory, behind what came before; it is given back. May be called again before it is answered. */
  update(memory: LentMemory): Promise<void>;
  /** The same with the last bytes, of which there may be none: the digest of all. Closes the job. */
  end(memory: LentMemory): Promise<Uint8Array>;
  /** Forget it. May be called at any time, and again. */
  close(): void;
}

/** Begin to hash in the thread that has the least to do. */
export function openHashJob(): HashJob {
  const worker = leastLoadedWorker();
  const job = nextId++;
  worker.hold();
  worker.post({ type: "openHash", job });
  let isOpen = true;
  const close = (): void => {
    if (!isOpen) return;
    isOpen = false;
    worker.post({ type: "close", job });
    worker.release();
  };
  return {
    update: async (memory) => {
      const { bytes } = memory;
      const answer = await worker.request("inPlace", { type: "hash", id: nextId++, job, bytes }, [bytes.buffer]);
      memory.restore(answer.memory, 0);
      memory.release();
    },
    end: async (memory) => {
      const { bytes } = memory;
      const answer = await worker.request("block", { type: "endHash", id: nextId++, job, bytes }, [bytes.buffer]).finally(close);
      memory.restore(answer.memory, 0);
      memory.release();
      return answer.bytes;
    },
    close,
  };
}

type BlockWork =
  | { readonly type: "compressZstd"; readonly level: number }
  | { readonly type: "decompressZstd"; readonly output: Uint8Array<ArrayBuffer> }
  | { readonly type: "hashZstd"; readonly lengths: readonly number[] }
  | { readonly type: "compressGzip"; readonly level: number }
  | { readonly type: "compressBzip2" };

/**
 * Compress, decompress or hash one block in a thread.
 *
 * @param then the memory is given back, or has the same bytes as before
 * @returns what became of it, in memory of its own, or in that which was given for it
 */
export async function runBlock(work: BlockWork, memory: LentMemory, then: "release" | "keep" = "release"): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes } = memory;
  const [start, end] = [bytes.byteOffset, bytes.byteOffset + bytes.length];
  const transfer = work.type === "decompressZstd" ? [bytes.buffer, work.output.buffer] : [bytes.buffer];
  const answer = await onWorkerForBlock(async (worker) => await worker.request("block", { ...work, id: nextId++, bytes }, transfer));
  memory.restore(answer.memory, end);
  memory.narrow(start, end);
  if (then === "release") memory.release();
  return answer.bytes;
}

type InPlaceWork = { readonly type: "shrinkZstd"; readonly level: number } | { readonly type: "readZstd"; readonly frame: FrameInFile };

/** Do something with bytes in a thread, where they are. When this rejects, the memory is lost. */
export async function runInPlace(work: InPlaceWork, memory: LentMemory): Promise<void> {
  const { bytes } = memory;
  const answer = await onWorkerForBlock(async (worker) => await worker.request("inPlace", { ...work, id: nextId++, bytes }, [bytes.buffer]));
  memory.restore(answer.memory, answer.length);
}

async function onWorkerForBlock<T>(work: (worker: CodecWorker) => Promise<T>): Promise<T> {
  const worker = workerForBlock();
  worker.hold();
  worker.blocks++;
  try {
    return await work(worker);
  } finally {
    worker.blocks--;
    worker.release();
  }
}

/** Start a thread before there is work for it: that takes a tenth of a second. */
export function startCodecThread(): void {
  const worker = leastLoadedWorker();
  // As if it had just become idle.
  worker.hold();
  worker.release();
}

endWithProcess(async () => void (await Promise.all(Array.from(workers, async (worker) => await worker.end()))));

/** Threads and jobs there are now. For tests and metrics. */
export function workerPoolState(): { readonly workers: number; readonly jobs: number } {
  return { workers: workers.size, jobs: [...workers].reduce((sum, worker) => sum + worker.load, 0) };
}

/** One that is at work, and has nothing to go on with then, need not be woken up: on a virtual machine that takes a tenth of a millisecond of ours. */
function workerForBlock(): CodecWorker {
  for (const worker of workers) if (worker.load === 1 && worker.blocks === 1) return worker;
  return leastLoadedWorker();
}

function leastLoadedWorker(): CodecWorker {
  let least: CodecWorker | undefined;
  for (const worker of workers) if (least === undefined || worker.load < least.load) least = worker;
  if (least !== undefined && (least.load === 0 || workers.size >= availableParallelism())) return least;
  const worker = new CodecWorker();
  workers.add(worker);
  return worker;
}

type AnsweredRequest = Extract<WorkerRequest, { id: number }>;

interface PendingAnswer {
  readonly type: WorkerAnswer["type"];
  readonly resolve: (answer: WorkerAnswer) => void;
  readonly reject: (error: unknown) => void;
}

class CodecWorker {
  readonly #thread = startThread("./decode-worker", import.meta.url);
  readonly #pending = new Map<number, PendingAnswer>();
  #failure: NarborError | undefined;
  /** Blocks among what it has to do. */
  blocks = 0;
  #load = 0;
  #idle: NodeJS.Timeout | undefined;
  #isStopping = false;
  readonly #ended = deferred<void>();

  constructor() {
    this.#thread.on("message", (message: WorkerMessage) => this.#receive(message));
    this.#thread.on("error", (error) => this.#fail(error));
    this.#thread.on("exit", (code) => {
      this.#fail(new Error(`The thread ended with code ${code}`));
      this.#ended.resolve();
    });
    // Whoever listens for messages would otherwise be waited for.
    this.#thread.unref();
  }

  /** Jobs that use this thread. */
  get load(): number {
    return this.#load;
  }

  hold(): void {
    this.#load++;
    clearTimeout(this.#idle);
  }

  release(): void {
    this.#load--;
    if (this.#load > 0) return;
    if (!workers.has(this)) this.#stop();
    else this.#idle = setTimeout(() => this.#stop(), IDLE_MS).unref();
  }

  post(request: WorkerRequest, transfer: readonly ArrayBuffer[] = []): void {
    this.#thread.postMessage(request, transfer);
  }

  /** @param type of the answer */
  async request<T extends WorkerAnswer["type"]>(type: T, request: AnsweredRequest, transfer: readonly ArrayBuffer[] = []): Promise<Extract<WorkerAnswer, { type: T }>> {
    if (this.#failure !== undefined) throw this.#failure;
    const { promise, resolve, reject } = deferred<WorkerAnswer>();
    if (this.#pending.size === 0) this.#thread.ref();
    this.#pending.set(request.id, { type, resolve, reject });
    this.post(request, transfer);
    return (await promise) as Extract<WorkerAnswer, { type: T }>;
  }

  async end(): Promise<void> {
    this.#stop();
    this.#thread.ref();
    await this.#ended.promise;
  }

  #receive(message: WorkerMessage): void {
    if (message.type === "retire") {
      workers.delete(this);
      if (this.#load === 0) this.#stop();
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#thread.unref();
    if (message.type === "error") pending?.reject(message.code === undefined ? new Error(message.message) : new NarborError(message.code, message.message));
    else if (message.type === pending?.type) pending.resolve(message);
    else pending?.reject(new TypeError(`A codec worker answered with a ${message.type}`));
  }

  #stop(): void {
    workers.delete(this);
    clearTimeout(this.#idle);
    // The thread ends itself, between two pieces of work: a native codec that is terminated in the middle of one brings down the whole process.
    if (!this.#isStopping) this.post({ type: "end" });
    this.#isStopping = true;
  }

  #fail(cause: unknown): void {
    workers.delete(this);
    this.#failure ??= new NarborError("ERR_UNAVAILABLE", "Cannot run the codec: its thread has stopped", { cause });
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }
}

/**
 * The threads that decode and compress. There is one pool in a process, as threads are the process's: it starts them
 * when there is work, at most one for each processor, and ends them when they have been idle for some seconds.
 *
 * A thread works on many jobs in turns of some milliseconds, so that a slow sender holds no thread and no one waits for
 * one. Threads do not keep the process alive unless an answer is awaited.
 */
import { availableParallelism } from "node:os";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";

import { NarborError } from "../errors.ts";
import type { WorkerCodec, WorkerMessage, WorkerRequest } from "./worker-protocol.ts";

/** How long a thread without work is kept. */
const IDLE_MS = 10_000;

/** Decoding of one input, in a thread. */
export interface DecodeJob {
  /** Decode some of `input`, or some more of what is there. Must not be called before the last call is answered. */
  step(input: Uint8Array | undefined, isLast: boolean): Promise<StepOutput>;
  /** Give back what the decoder holds. Must be called; may be called at any time, and again. */
  close(): void;
}

export interface StepOutput {
  readonly output: readonly Uint8Array[];
  /** Whether there is more output to be had without input. */
  readonly hasMore: boolean;
}

const workers = new Set<CodecWorker>();
let nextId = 0;

/** Begin to decode in the thread that has the least to do. */
export function openDecodeJob(codec: WorkerCodec): DecodeJob {
  const worker = leastLoadedWorker();
  const job = nextId++;
  worker.hold();
  worker.post({ type: "open", job, codec });
  let isOpen = true;
  return {
    step: (input, isLast) => {
      if (!isOpen) return Promise.reject(new TypeError("The decoding is closed"));
      const id = nextId++;
      if (input === undefined) return worker.request({ type: "step", id, job, isLast });
      const own = copyOf(input);
      return worker.request({ type: "step", id, job, input: own, isLast }, [own.buffer]);
    },
    close: () => {
      if (!isOpen) return;
      isOpen = false;
      worker.post({ type: "close", job });
      worker.release();
    },
  };
}

type BlockWork =
  | { readonly type: "compressZstd" | "shrinkZstd"; readonly level: number }
  | { readonly type: "decompressZstd"; readonly size: number }
  | { readonly type: "hashZstd"; readonly lengths: readonly number[] }
  | { readonly type: "compressBzip2" };

/**
 * Compress, decompress or hash one block in a thread.
 *
 * @param isOurs whether the bytes go to the thread themselves, and with them what else is in their buffer; others are copied
 */
export async function runBlock(work: BlockWork, bytes: Uint8Array, isOurs = false): Promise<Uint8Array> {
  const own = isOurs ? (bytes as Uint8Array<ArrayBuffer>) : copyOf(bytes);
  const worker = workerForBlock();
  worker.hold();
  try {
    const { output } = await worker.request({ ...work, id: nextId++, bytes: own }, [own.buffer]);
    const [result] = output;
    if (result === undefined) throw new TypeError("A codec worker answered without a result");
    return result;
  } finally {
    worker.release();
  }
}

/**
 * Bytes that can be handed to a thread: the caller's may be part of a larger buffer, which would be lost or sent as a whole.
 * Not `slice()`, which on a Buffer makes no copy.
 */
function copyOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

/** Threads and jobs there are now. For tests and metrics. */
export function workerPoolState(): { readonly workers: number; readonly jobs: number } {
  return { workers: workers.size, jobs: [...workers].reduce((sum, worker) => sum + worker.load, 0) };
}

/** One that is at work, and has nothing to go on with then, need not be woken up: on a virtual machine that takes a tenth of a millisecond of ours. */
function workerForBlock(): CodecWorker {
  for (const worker of workers) if (worker.load === 1) return worker;
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

/** Start decode-worker, which is beside this file, compiled or not. */
function startThread(): Worker {
  const extension = extname(import.meta.url);
  const script = new URL(`./decode-worker${extension}`, import.meta.url);
  if (extension === ".js") return new Worker(script);
  // From the sources, as in tests: tsx works in the main thread only, unless it is asked to in each. It is found from
  // the working directory, which is the checkout then.
  const start = `import("tsx/esm/api").then((tsx) => (tsx.register(), import(${JSON.stringify(script.href)})))`;
  return new Worker(start, { eval: true });
}

type AnsweredRequest = Extract<WorkerRequest, { id: number }>;

interface PendingAnswer {
  readonly resolve: (output: StepOutput) => void;
  readonly reject: (error: unknown) => void;
}

class CodecWorker {
  readonly #thread = startThread();
  readonly #pending = new Map<number, PendingAnswer>();
  #failure: NarborError | undefined;
  #load = 0;
  #idle: NodeJS.Timeout | undefined;
  #isStopping = false;

  constructor() {
    this.#thread.unref();
    this.#thread.on("message", (message: WorkerMessage) => this.#receive(message));
    this.#thread.on("error", (error) => this.#fail(error));
    this.#thread.on("exit", (code) => this.#fail(new Error(`The thread ended with code ${code}`)));
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

  request(request: AnsweredRequest, transfer: readonly ArrayBuffer[] = []): Promise<StepOutput> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      if (this.#pending.size === 0) this.#thread.ref();
      this.#pending.set(request.id, { resolve, reject });
      this.post(request, transfer);
    });
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
    if (message.type === "output") pending?.resolve(message);
    else pending?.reject(message.code === undefined ? new Error(message.message) : new NarborError(message.code, message.message));
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

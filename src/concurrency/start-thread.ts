/** Threads of this process, and how they end with it. */
import { extname } from "node:path";
import type { WorkerOptions } from "node:worker_threads";
import { Worker } from "node:worker_threads";

const ends = new Set<() => Promise<void>>();

/**
 * Start a thread.
 *
 * @param script beside the module at `from`, without its extension: it is compiled or not, as that is
 */
export function startThread(script: string, from: string, options?: WorkerOptions): Worker {
  const extension = extname(from);
  const url = new URL(`${script}${extension}`, from);
  if (extension === ".js") return new Worker(url, options);
  // From the sources, as in tests: tsx works in the main thread only, unless it is asked to in each. It is found from
  // the working directory, which is the checkout then.
  const start = `import("tsx/esm/api").then((tsx) => (tsx.register(), import(${JSON.stringify(url.href)})))`;
  return new Worker(start, { ...options, eval: true });
}

/**
 * Name what `endThreads` is to do. A thread that is stopped with the process, while it loads a native module or is within one, brings the process down
 * (`napi_throw`).
 *
 * @param end ends threads, each behind what it has to do, and waits until they have ended
 * @returns takes it back
 */
export function endWithProcess(end: () => Promise<void>): () => void {
  ends.add(end);
  return () => void ends.delete(end);
}

/** End all threads and wait until they have ended. This is done by itself when nothing keeps the process any more, and is to be done before `process.exit()`. */
export async function endThreads(): Promise<void> {
  await Promise.all(Array.from(ends, async (end) => await end()));
}
process.on("beforeExit", () => void endThreads());

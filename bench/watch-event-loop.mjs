/** `NODE_OPTIONS=--import=…/watch-event-loop.mjs`: when the process ends, it writes how long its event loop stood still at most, in milliseconds, to EVENT_LOOP_FILE. */
import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";

if (isMainThread && process.env.EVENT_LOOP_FILE) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  // What is loaded when the process begins is no one's wait.
  setTimeout(() => delay.enable(), 1000).unref();
  process.on("exit", () => writeFileSync(process.env.EVENT_LOOP_FILE, JSON.stringify({ max: delay.max / 1e6, p99: delay.percentile(99) / 1e6 })));
}

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

const POOL = new URL("../../src/compression/worker-pool.ts", import.meta.url).href;
const THREADS = new URL("../../src/concurrency/start-thread.ts", import.meta.url).href;

/** Start a thread in a process of its own, which then ends. How many threads there are at its end is printed: each of those could bring it down. */
async function runProcess(end: string): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const script = `
    const { startCodecThread, workerPoolState } = await import(${JSON.stringify(POOL)});
    const { endThreads } = await import(${JSON.stringify(THREADS)});
    process.on("exit", () => console.log(workerPoolState().workers));
    startCodecThread();
    console.log(workerPoolState().workers);
    ${end}`;
  return await promisify(execFile)(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script]);
}

describe("a process that ends while a codec thread starts", () => {
  test("waits for it when nothing else is to be done", async () => {
    expect(await runProcess("")).toEqual({ stdout: "1\n0\n", stderr: "" });
  });

  test("waits for it before it exits", async () => {
    expect(await runProcess("await endThreads(); process.exit();")).toEqual({ stdout: "1\n0\n", stderr: "" });
  });
});

/** The thread that decodes, and compresses blocks. Started by worker-pool.ts; see worker-protocol.ts. */
import { parentPort } from "node:worker_threads";

import { errorMessage, isNarborError } from "../errors.ts";
import { Bzip2Decoder } from "./bzip2-decoder.ts";
import { compressBzip2Sync } from "./bzip2-encoder.ts";
import type { Decoder } from "./decoder.ts";
import { STEP_OUTPUT_BYTES, type WorkerCodec, type WorkerMessage, type WorkerRequest } from "./worker-protocol.ts";
import { openXzDecoder } from "./xz-decoder.ts";
import { compressZstdSync, decompressZstdSync } from "./zstd-block.ts";
import { abandonedZstdBytes, ZstdDecoder } from "./zstd-decoder.ts";

const DIGEST_LENGTH = 32;
/** Retire with this much memory in zstd contexts that cannot be used again. */
const MAX_ABANDONED_BYTES = 64 * 1024 * 1024;

if (parentPort === null) throw new TypeError("decode-worker is started by worker-pool");
const port = parentPort;

const jobs = new Map<number, Promise<Decoder>>();
let loadingBlake3: Promise<typeof import("../hash/blake3.ts")> | undefined;

port.on("message", (request: WorkerRequest) => {
  switch (request.type) {
    case "open": {
      const decoder = openDecoder(request.codec);
      // Answered with the first step, which awaits it.
      decoder.catch(() => undefined);
      jobs.set(request.job, decoder);
      return;
    }
    case "end":
      return process.exit(0);
    case "close":
      return void closeJob(request.job);
    case "step":
      return void answer(request.id, () => step(request));
    case "compressZstd":
      return void answer(request.id, () => ({ output: [compressZstdSync(request.bytes, request.level)], hasMore: false }));
    case "shrinkZstd":
      return void answer(request.id, () => ({ output: [shrink(request)], hasMore: false }));
    case "decompressZstd":
      return void answer(request.id, () => ({ output: [decompressZstdSync(request.bytes, request.size)], hasMore: false }));
    case "hashZstd":
      return void answer(request.id, () => hashZstd(request));
    case "compressBzip2":
      return void answer(request.id, () => ({ output: [compressBzip2Sync(request.bytes)], hasMore: false }));
  }
});

function shrink({ bytes, level }: Extract<WorkerRequest, { type: "shrinkZstd" }>): Uint8Array<ArrayBuffer> {
  const frame = compressZstdSync(bytes, level);
  return frame.length < bytes.length ? frame : (bytes as Uint8Array<ArrayBuffer>);
}

async function hashZstd({ bytes, lengths }: Extract<WorkerRequest, { type: "hashZstd" }>): Promise<Output> {
  // Most threads never hash.
  loadingBlake3 ??= import("../hash/blake3.ts");
  const { blake3 } = await loadingBlake3;
  const content = decompressZstdSync(bytes, lengths.reduce((sum, length) => sum + length, 0));
  const digests = new Uint8Array(lengths.length * DIGEST_LENGTH);
  let offset = 0;
  for (const [index, length] of lengths.entries()) {
    digests.set(blake3(content.subarray(offset, offset + length)), index * DIGEST_LENGTH);
    offset += length;
  }
  return { output: [digests], hasMore: false };
}

interface Output {
  readonly output: readonly Uint8Array<ArrayBuffer>[];
  readonly hasMore: boolean;
}

async function answer(id: number, work: () => Output | Promise<Output>): Promise<void> {
  try {
    const { output, hasMore } = await work();
    send({ type: "output", id, output, hasMore }, output.map((bytes) => bytes.buffer));
  } catch (error) {
    send({ type: "error", id, code: isNarborError(error) ? error.code : undefined, message: errorMessage(error) });
  }
}

async function step({ job, input, isLast }: Extract<WorkerRequest, { type: "step" }>): Promise<Output> {
  const decoder = await jobs.get(job);
  if (decoder === undefined) throw new TypeError(`No decoder is open for job ${job}`);
  if (input !== undefined) decoder.push(input);
  if (isLast) decoder.end();
  const output: Uint8Array<ArrayBuffer>[] = [];
  for (let size = 0; size < STEP_OUTPUT_BYTES; ) {
    const bytes = decoder.next();
    if (bytes === undefined) return { output, hasMore: false };
    output.push(bytes);
    size += bytes.length;
  }
  return { output, hasMore: true };
}

async function openDecoder(codec: WorkerCodec): Promise<Decoder> {
  switch (codec) {
    case "xz":
      return openXzDecoder();
    case "zstd":
      return new ZstdDecoder();
    case "bzip2":
      return new Bzip2Decoder();
  }
}

async function closeJob(job: number): Promise<void> {
  const opening = jobs.get(job);
  jobs.delete(job);
  const decoder = await opening?.catch(() => undefined);
  decoder?.close();
  if (abandonedZstdBytes() > MAX_ABANDONED_BYTES) send({ type: "retire" });
}

function send(message: WorkerMessage, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

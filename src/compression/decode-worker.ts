/** The thread that decodes, and compresses blocks. Started by worker-pool.ts; see worker-protocol.ts. */
import { parentPort } from "node:worker_threads";

import { errorMessage, isNarborError } from "../errors.ts";
import { Bzip2Decoder } from "./bzip2-decoder.ts";
import { compressBzip2Sync } from "./bzip2-encoder.ts";
import type { Decoder } from "./decoder.ts";
import { GzipDecoder } from "./gzip-decoder.ts";
import type { WorkerAnswer, WorkerCodec, WorkerMessage, WorkerRequest } from "./worker-protocol.ts";
import { openXzDecoder } from "./xz-decoder.ts";
import { compressZstdSync, decompressZstdSync, shrinkZstdSync } from "./zstd-block.ts";
import { abandonedZstdBytes, ZstdDecoder } from "./zstd-decoder.ts";

const DIGEST_LENGTH = 32;
/** Retire with this much memory in zstd contexts that cannot be used again. */
const MAX_ABANDONED_BYTES = 64 * 1024 * 1024;

if (parentPort === null) throw new TypeError("decode-worker is started by worker-pool");
const port = parentPort;

interface Job {
  readonly decoder: Promise<Decoder>;
  /** What is decoded and had no place in the output. */
  rest: Uint8Array;
  /** What it decodes lies here. */
  input: ArrayBuffer | undefined;
}

const NO_BYTES = new Uint8Array(0);
const jobs = new Map<number, Job>();
let loadingBlake3: Promise<typeof import("../hash/blake3.ts")> | undefined;

port.on("message", (request: WorkerRequest) => {
  switch (request.type) {
    case "open": {
      const job = { decoder: openDecoder(request.codec, request.maxWindowBytes), rest: NO_BYTES, input: undefined };
      // Answered with the first step, which awaits it.
      job.decoder.catch(() => undefined);
      jobs.set(request.job, job);
      return;
    }
    case "end":
      return process.exit(0);
    case "close":
      return void closeJob(request.job);
    case "step":
      return void answer(request.id, () => step(request));
    case "compressZstd":
      return void answer(request.id, () => block(request, compressZstdSync(request.bytes, request.level)));
    case "shrinkZstd":
      return void answer(request.id, () => ({ type: "inPlace", id: request.id, memory: request.bytes.buffer, length: shrinkZstdSync(request.bytes, request.level) }));
    case "decompressZstd":
      return void answer(request.id, () => block(request, decompressZstdSync(request.bytes, request.size)));
    case "hashZstd":
      return void answer(request.id, async () => block(request, await hashZstd(request)));
    case "compressBzip2":
      return void answer(request.id, () => block(request, compressBzip2Sync(request.bytes)));
  }
});

function block(request: { readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }, bytes: Uint8Array<ArrayBuffer>): WorkerAnswer {
  return { type: "block", id: request.id, bytes, memory: request.bytes.buffer };
}

async function hashZstd({ bytes, lengths }: Extract<WorkerRequest, { type: "hashZstd" }>): Promise<Uint8Array<ArrayBuffer>> {
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
  return digests;
}

async function answer(id: number, work: () => WorkerAnswer | Promise<WorkerAnswer>): Promise<void> {
  try {
    const result = await work();
    send(result, memoriesOf(result));
  } catch (error) {
    send({ type: "error", id, code: isNarborError(error) ? error.code : undefined, message: errorMessage(error) });
  }
}

function memoriesOf(result: WorkerAnswer): readonly ArrayBuffer[] {
  switch (result.type) {
    case "block":
      return [result.bytes.buffer, result.memory];
    case "inPlace":
      return [result.memory];
    case "step":
      return result.input === undefined ? [result.output] : [result.output, result.input];
  }
}

async function step({ id, job: number, input, isLast, output }: Extract<WorkerRequest, { type: "step" }>): Promise<WorkerAnswer> {
  const job = jobs.get(number);
  if (job === undefined) throw new TypeError(`No decoder is open for job ${number}`);
  const decoder = await job.decoder;
  if (input !== undefined) {
    job.input = input.buffer;
    decoder.push(input);
  }
  if (isLast) decoder.end();
  for (let length = 0; ; ) {
    const part = job.rest.subarray(0, output.length - length);
    output.set(part, length);
    length += part.length;
    job.rest = job.rest.subarray(part.length);
    if (length === output.length) return { type: "step", id, length, output: output.buffer, input: undefined, hasMore: true };
    const bytes = decoder.next();
    if (bytes !== undefined) {
      job.rest = bytes;
      continue;
    }
    const consumed = job.input;
    job.input = undefined;
    return { type: "step", id, length, output: output.buffer, input: consumed, hasMore: false };
  }
}

async function openDecoder(codec: WorkerCodec, maxWindowBytes: number | undefined): Promise<Decoder> {
  switch (codec) {
    case "xz":
      return openXzDecoder();
    case "zstd":
      return new ZstdDecoder(maxWindowBytes);
    case "bzip2":
      return new Bzip2Decoder();
    case "gzip":
      return new GzipDecoder();
  }
}

async function closeJob(job: number): Promise<void> {
  const opening = jobs.get(job);
  jobs.delete(job);
  const decoder = await opening?.decoder.catch(() => undefined);
  decoder?.close();
  if (abandonedZstdBytes() > MAX_ABANDONED_BYTES) send({ type: "retire" });
}

function send(message: WorkerMessage, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

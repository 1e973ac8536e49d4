/** The thread that decodes, and compresses blocks. Started by worker-pool.ts; see worker-protocol.ts. */
import { createHash, type Hash } from "node:crypto";
import { readSync } from "node:fs";
import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";

import { equalBytes } from "../bytes/compare-bytes.ts";
import { errorMessage, isNarborError, NarborError } from "../errors.ts";
import type { Decoder } from "./decoder.ts";
import { collectGarbage } from "../concurrency/thread-garbage.ts";
import type { WorkerAnswer, WorkerCodec, WorkerMessage, WorkerRequest } from "./worker-protocol.ts";
import { SteppedDecoder } from "./stepped-decoder.ts";
import { compressZstdSync, decompressZstdInto, decompressZstdSync, shrinkZstdSync } from "./zstd-block.ts";
import { abandonedZstdBytes, ZstdDecoder } from "./zstd-decoder.ts";

const DIGEST_LENGTH = 32;
/** There are as many of these threads as processors: they are to leave one to the main thread, by which everyone is answered. A third of its share, where there are too few. */
const NICENESS = 5;
/** More is not kept for the next frame. */
const MAX_READ_MEMORY_BYTES = 1024 * 1024;
/** Retire with this much memory in zstd contexts that cannot be used again. */
const MAX_ABANDONED_BYTES = 64 * 1024 * 1024;

if (parentPort === null) throw new TypeError("decode-worker is started by worker-pool");
const port = parentPort;
giveWay();

const jobs = new Map<number, Promise<SteppedDecoder>>();
const hashes = new Map<number, Hash>();
/** What frames are read into, one after the other. */
let readMemory = Buffer.alloc(0);
let loadingBlake3: Promise<typeof import("../hash/blake3.ts")> | undefined;

port.on("message", (request: WorkerRequest) => {
  switch (request.type) {
    case "open": {
      const decoder = openDecoder(request.codec, request.maxWindowBytes).then((opened) => new SteppedDecoder(opened));
      // Answered with the first step, which awaits it.
      decoder.catch(() => undefined);
      jobs.set(request.job, decoder);
      return;
    }
    case "openHash":
      return void hashes.set(request.job, createHash("sha256"));
    case "hash":
      return void answer(request.id, () => {
        hashOf(request.job).update(request.bytes);
        return { type: "inPlace", id: request.id, memory: request.bytes.buffer, length: 0 };
      });
    case "endHash":
      return void answer(request.id, () => block(request, digestOf(request)));
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
      return void answer(request.id, () => {
        decompressZstdInto(request.bytes, request.output);
        return block(request, request.output);
      });
    case "readZstd":
      return void answer(request.id, async () => {
        await readZstd(request);
        return { type: "inPlace", id: request.id, memory: request.bytes.buffer, length: request.bytes.length };
      });
    case "hashZstd":
      return void answer(request.id, async () => block(request, await hashZstd(request)));
    case "compressGzip":
      return void answer(request.id, async () => block(request, (await import("./gzip-encoder.ts")).compressGzipSync(request.bytes, request.level)));
    case "compressBzip2":
      return void answer(request.id, async () => block(request, (await import("./bzip2-encoder.ts")).compressBzip2Sync(request.bytes)));
  }
});

function block(request: { readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }, bytes: Uint8Array<ArrayBuffer>): WorkerAnswer {
  return { type: "block", id: request.id, bytes, memory: request.bytes.buffer };
}

function digestOf({ job, bytes }: Extract<WorkerRequest, { type: "hash" | "endHash" }>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(hashOf(job).update(bytes).digest());
}

function hashOf(job: number): Hash {
  const hash = hashes.get(job);
  if (hash === undefined) throw new TypeError(`No hash is open for job ${job}`);
  return hash;
}

function giveWay(): void {
  // Elsewhere it would be the priority of the whole process.
  if (process.platform !== "linux") return;
  try {
    setPriority(NICENESS);
  } catch {
    // A sandbox may not let it, and all works without.
  }
}

async function readZstd({ bytes, frame: { fd, position, length, digest } }: Extract<WorkerRequest, { type: "readZstd" }>): Promise<void> {
  const { blake3 } = await loadBlake3();
  const memory = length > readMemory.length ? Buffer.allocUnsafeSlow(length) : readMemory;
  if (length <= MAX_READ_MEMORY_BYTES) readMemory = memory;
  const frame = memory.subarray(0, length);
  for (let filled = 0; filled < length; ) {
    const count = readSync(fd, frame, filled, length - filled, position + filled);
    if (count === 0) throw new NarborError("ERR_DATA_LOSS", "the file is too short");
    filled += count;
  }
  if (!equalBytes(blake3(frame), digest)) throw new NarborError("ERR_DATA_LOSS", "its bytes are not those that were stored");
  decompressZstdInto(frame, bytes);
}

/** Most threads never hash. */
function loadBlake3(): Promise<typeof import("../hash/blake3.ts")> {
  return (loadingBlake3 ??= import("../hash/blake3.ts"));
}

async function hashZstd({ bytes, lengths }: Extract<WorkerRequest, { type: "hashZstd" }>): Promise<Uint8Array<ArrayBuffer>> {
  const { blake3 } = await loadBlake3();
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
    collectGarbage();
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
      return [result.output, ...result.inputs];
  }
}

async function step({ id, job, input, isLast, output }: Extract<WorkerRequest, { type: "step" }>): Promise<WorkerAnswer> {
  const decoder = await jobs.get(job);
  if (decoder === undefined) throw new TypeError(`No decoder is open for job ${job}`);
  const { length, consumed, isEnd } = decoder.step(output, input, isLast);
  return { type: "step", id, length, output: output.buffer, inputs: consumed.map(({ buffer }) => buffer), isEnd };
}

/** Each is loaded when it is asked for: to load all takes a thread as long as to start. */
async function openDecoder(codec: WorkerCodec, maxWindowBytes: number | undefined): Promise<Decoder> {
  switch (codec) {
    case "zstd":
      return new ZstdDecoder(maxWindowBytes);
    case "gzip":
      return new (await import("./gzip-decoder.ts")).GzipDecoder();
    case "xz":
      return await (await import("./xz-decoder.ts")).openXzDecoder();
    case "bzip2":
      return new (await import("./bzip2-decoder.ts")).Bzip2Decoder();
  }
}

async function closeJob(job: number): Promise<void> {
  hashes.delete(job);
  const opening = jobs.get(job);
  jobs.delete(job);
  const decoder = await opening?.catch(() => undefined);
  decoder?.close();
  if (abandonedZstdBytes() > MAX_ABANDONED_BYTES) send({ type: "retire" });
}

function send(message: WorkerMessage, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

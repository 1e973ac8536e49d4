/** What the main thread and a codec worker say to each other. Every request but "open", "close" and "end" is answered once. */
import type { ErrorCode } from "../errors.ts";
import type { Codec } from "./codec.ts";

/** The codecs decoded in a worker. Gzip and brotli are decoded by node:zlib, which has threads of its own. */
export type WorkerCodec = Extract<Codec, "xz" | "zstd" | "bzip2">;

export type WorkerRequest =
  /** Begin to decode. `job` is the main thread's name for it. */
  | { readonly type: "open"; readonly job: number; readonly codec: WorkerCodec }
  /** Decode some more: from `input` (only when the last answer was not `hasMore`), or of what is there. */
  | { readonly type: "step"; readonly id: number; readonly job: number; readonly input?: Uint8Array; readonly isLast: boolean }
  /** Forget a job, wherever it is. */
  | { readonly type: "close"; readonly job: number }
  /** End the thread. */
  | { readonly type: "end" }
  | { readonly type: "compressZstd"; readonly id: number; readonly bytes: Uint8Array; readonly level: number }
  /** Answered with the bytes themselves when a frame of them is not shorter. */
  | { readonly type: "shrinkZstd"; readonly id: number; readonly bytes: Uint8Array; readonly level: number }
  | { readonly type: "decompressZstd"; readonly id: number; readonly bytes: Uint8Array; readonly size: number }
  /** Answered with the BLAKE3 of each of the pieces that the decompressed bytes are, one behind the other. */
  | { readonly type: "hashZstd"; readonly id: number; readonly bytes: Uint8Array; readonly lengths: readonly number[] }
  | { readonly type: "compressBzip2"; readonly id: number; readonly bytes: Uint8Array };

export type WorkerMessage =
  /** `hasMore`: there is more output to be had without input. */
  | { readonly type: "output"; readonly id: number; readonly output: readonly Uint8Array[]; readonly hasMore: boolean }
  | { readonly type: "error"; readonly id: number; readonly code: ErrorCode | undefined; readonly message: string }
  /** This worker holds memory that only its end gives back: finish its jobs, and give it no more. */
  | { readonly type: "retire" };

/** The most input of one step. */
export const STEP_INPUT_BYTES = 256 * 1024;
/** A step ends when it has this much output; decoders may put some hundred KiB on top. */
export const STEP_OUTPUT_BYTES = 256 * 1024;

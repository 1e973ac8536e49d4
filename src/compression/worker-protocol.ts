/** What the main thread and a codec worker say to each other. Every request but "open", "close" and "end" is answered once. */
import type { ErrorCode } from "../errors.ts";
import type { Codec } from "./codec.ts";

/** The codecs decoded in a worker. Brotli is decoded by node:zlib, which has threads of its own: a few of its bytes may become any number, and only there they need not do so at once. */
export type WorkerCodec = Exclude<Codec, "none" | "br">;

export type WorkerRequest =
  /** Begin to decode. `job` is the main thread's name for it; the window is that of zstd. */
  | { readonly type: "open"; readonly job: number; readonly codec: WorkerCodec; readonly maxWindowBytes: number | undefined }
  /** Decode some more into `output`, of what was given before and of `input`, if there is some. */
  | { readonly type: "step"; readonly id: number; readonly job: number; readonly output: Uint8Array<ArrayBuffer>; readonly input?: Uint8Array<ArrayBuffer>; readonly isLast: boolean }
  /** Begin to take the SHA-256 of something. */
  | { readonly type: "openHash"; readonly job: number }
  /** Hash some more of it. Answered "inPlace", and nothing is in the memory then; the last with a "block", which is the digest. */
  | { readonly type: "hash" | "endHash"; readonly id: number; readonly job: number; readonly bytes: Uint8Array<ArrayBuffer> }
  /** Forget a job, wherever it is. */
  | { readonly type: "close"; readonly job: number }
  /** End the thread. */
  | { readonly type: "end" }
  | { readonly type: "compressZstd"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly level: number }
  /** Done in place, and answered with the memory, and how many bytes are at its beginning then. */
  | { readonly type: "shrinkZstd"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly level: number }
  /** Into `output`, which is what is answered. */
  | { readonly type: "decompressZstd"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly output: Uint8Array<ArrayBuffer> }
  /** A frame where it lies in a file, verified to be of that BLAKE3 and decompressed into `bytes`. */
  | { readonly type: "readZstd"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly frame: FrameInFile }
  /** Answered with the BLAKE3 of each of the pieces that the decompressed bytes are, one behind the other. */
  | { readonly type: "hashZstd"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly lengths: readonly number[] }
  | { readonly type: "compressGzip"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly level: number }
  | { readonly type: "compressBzip2"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> };

/** A frame that is to be read by a thread. */
export interface FrameInFile {
  /** Of a file that stays open until it is read. */
  readonly fd: number;
  /** Where it begins, in bytes. */
  readonly position: number;
  /** Bytes. */
  readonly length: number;
  /** BLAKE3. */
  readonly digest: Uint8Array;
}

/** What is answered when nothing went wrong. */
export type WorkerAnswer =
  /** `length` bytes of output, and the memory that it was given; the memory of input that is decoded, in order. `isEnd`: that was all. */
  | { readonly type: "step"; readonly id: number; readonly length: number; readonly output: ArrayBuffer; readonly inputs: readonly ArrayBuffer[]; readonly isEnd: boolean }
  /** `bytes` in memory of their own, and the memory of what came. */
  | { readonly type: "block"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer>; readonly memory: ArrayBuffer }
  | { readonly type: "inPlace"; readonly id: number; readonly memory: ArrayBuffer; readonly length: number };

export type WorkerMessage =
  | WorkerAnswer
  | { readonly type: "error"; readonly id: number; readonly code: ErrorCode | undefined; readonly message: string }
  /** This worker holds memory that only its end gives back: finish its jobs, and give it no more. */
  | { readonly type: "retire" };

/** The most input of one step. */
export const STEP_INPUT_BYTES = 256 * 1024;
/** The most output of one step. */
export const STEP_OUTPUT_BYTES = 512 * 1024;

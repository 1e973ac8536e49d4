/**
 * BLAKE3 from two libraries with one face.
 *
 * `@napi-rs/blake-hash` (native, optional) is some fifteen times faster on large input; `blake3-wasm` is cheaper per call
 * for the smallest, since nothing crosses into native code, and is all there is where no prebuilt binary fits.
 *
 * The native library is asked for digests as hexadecimal strings: a Buffer of its own for 32 bytes takes two to three microseconds, and as long again when it
 * is collected, which is more than hashing some kilobytes.
 */
import { createRequire } from "node:module";
import type * as Blake3Wasm from "blake3-wasm";

interface NativeHasher {
  reset(): void;
  update(input: Uint8Array): unknown;
  digest(format: "hex"): string;
}
interface NativeBlake3 {
  Blake3Hasher: new () => NativeHasher;
}

/** Below this many bytes the WebAssembly call is the cheaper one (measured). */
const NATIVE_FROM_BYTES = 384;
/** Idle native hashers kept for reuse: a fresh one each time makes resident memory grow without bound (measured). */
const POOL_LIMIT = 64;

const native = loadNative();
let wasm: typeof Blake3Wasm | undefined;
/** For whole input. */
const wholeHasher = native && new native.Blake3Hasher();
const pool: NativeHasher[] = [];
const digestBytes = Buffer.alloc(32);

/** Which library hashes large input. */
export const blake3Backend: "native" | "wasm" = native === undefined ? "wasm" : "native";

/** The 32-byte BLAKE3 digest of `bytes`. */
export function blake3(bytes: Uint8Array): Uint8Array {
  if (wholeHasher === undefined || bytes.length < NATIVE_FROM_BYTES) return copyOf(loadWasm().hash(bytes) as Uint8Array);
  wholeHasher.reset();
  wholeHasher.update(bytes);
  return digestOf(wholeHasher);
}

/** A running BLAKE3. Call `digest` or `discard` once, or WebAssembly memory is lost. */
export interface Blake3Hasher {
  update(bytes: Uint8Array): void;
  /** The 32-byte digest. The hasher cannot be used afterwards. */
  digest(): Uint8Array;
  /** Give the hasher back without a digest. Does nothing after `digest`. */
  discard(): void;
}

/** Start a BLAKE3 over bytes that come piece by piece. */
export function createBlake3(): Blake3Hasher {
  return native === undefined ? wasmHasher() : nativeHasher(native);
}

/** The same bytes, taken into `hasher` on their way. */
export async function* hashThrough(source: AsyncIterable<Uint8Array>, hasher: Pick<Blake3Hasher, "update">): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    hasher.update(bytes);
    yield bytes;
  }
}

function nativeHasher(library: NativeBlake3): Blake3Hasher {
  let hasher: NativeHasher | undefined = pool.pop() ?? new library.Blake3Hasher();
  const release = (): void => {
    if (hasher !== undefined && pool.length < POOL_LIMIT) {
      hasher.reset();
      pool.push(hasher);
    }
    hasher = undefined;
  };
  return {
    update(bytes) {
      if (hasher === undefined) throw new TypeError("Cannot update a finished hasher");
      hasher.update(bytes);
    },
    digest() {
      if (hasher === undefined) throw new TypeError("Cannot digest a finished hasher");
      const digest = digestOf(hasher);
      release();
      return digest;
    },
    discard: release,
  };
}

function wasmHasher(): Blake3Hasher {
  const hasher = loadWasm().createHash();
  let finished = false;
  return {
    update: (bytes) => void hasher.update(bytes),
    digest() {
      finished = true;
      return copyOf(hasher.digest());
    },
    discard() {
      if (!finished) hasher.dispose();
      finished = true;
    },
  };
}

function digestOf(hasher: NativeHasher): Uint8Array {
  digestBytes.write(hasher.digest("hex"), "hex");
  return copyOf(digestBytes);
}

/** 32 bytes on our heap are cheaper to keep than a Buffer over memory elsewhere. */
function copyOf(digest: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(digest);
}

/** When the first small input is hashed: many commands have none. */
function loadWasm(): typeof Blake3Wasm {
  return (wasm ??= createRequire(import.meta.url)("blake3-wasm") as typeof Blake3Wasm);
}

function loadNative(): NativeBlake3 | undefined {
  // NARBOR_BLAKE3=wasm is how the tests and a suspicious operator run without the native library.
  if (process.env["NARBOR_BLAKE3"] === "wasm") return undefined;
  try {
    return createRequire(import.meta.url)("@napi-rs/blake-hash") as NativeBlake3;
  } catch {
    return undefined;
  }
}

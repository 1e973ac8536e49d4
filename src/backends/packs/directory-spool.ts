/**
 * Keeps the messages of a closure, in the order in which they came, until it is known whether the closure is whole: the first few MiB in memory, more
 * in a file in the store's directory, so that it takes no space but the store's own.
 *
 * The file loses its name before its first byte is written. So it is gone whatever becomes of this process, and what a crash may leave is empty.
 */
import { randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { ByteWriter } from "../../bytes/byte-writer.ts";
import { NarborError } from "../../errors.ts";
import { hasErrorCode, toStoreError } from "./system-error.ts";

export interface DirectorySpoolLimits {
  /** Bytes to keep in memory. @default 4194304 (4 MiB) */
  readonly memoryBytes?: number;
  /** Most directories. @default 16777216 (16 Mi) */
  readonly maxDirectories?: number;
  /** Most bytes of all messages. @default 17179869184 (16 GiB) */
  readonly maxBytes?: number;
  /** Most bytes of one message, which is written to a pack as one block. @default 268435456 (256 MiB) */
  readonly maxMessageBytes?: number;
}

const DEFAULT_LIMITS: Required<DirectorySpoolLimits> = {
  memoryBytes: 4 * 1024 * 1024,
  maxDirectories: 16 * 1024 * 1024,
  maxBytes: 16 * 1024 ** 3,
  maxMessageBytes: 256 * 1024 * 1024,
};

/** Messages lie in blocks of this many bytes, each whole; a larger one has a block to itself. */
const BLOCK_BYTES = 1024 * 1024;
/** Before each message stands its length. */
const LENGTH_BYTES = 4;

const NAME_PREFIX = ".spool-";

export class DirectorySpool implements AsyncDisposable {
  readonly #directory: string;
  readonly #limits: Required<DirectorySpoolLimits>;
  /** The block that is being filled. */
  readonly #open = new ByteWriter();
  /** Full blocks in memory, behind those in the file. */
  #full: Uint8Array[] = [];
  #fullBytes = 0;
  #file: FileHandle | undefined;
  /** Lengths of the blocks in the file. */
  readonly #written: number[] = [];
  #writtenBytes = 0;
  #directories = 0;
  #messageBytes = 0;

  /** @param directory where the file is made, if one is needed */
  constructor(directory: string, limits: DirectorySpoolLimits = {}) {
    this.#directory = directory;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** Take a message; its bytes are copied. @throws NarborError ERR_LIMIT */
  add(message: Uint8Array): void {
    this.#directories++;
    this.#messageBytes += message.length;
    const { maxDirectories, maxBytes, maxMessageBytes } = this.#limits;
    if (this.#directories > maxDirectories) throw tooMuch(`more than ${maxDirectories} of them`);
    if (this.#messageBytes > maxBytes) throw tooMuch(`more than ${maxBytes} bytes of messages`);
    if (message.length > maxMessageBytes) throw tooMuch(`a message of ${message.length} bytes, more than ${maxMessageBytes}`);
    if (this.#open.length + LENGTH_BYTES + message.length > BLOCK_BYTES) this.#seal();
    this.#open.writeUint32(message.length);
    this.#open.writeBytes(message);
  }

  /** Write to the file what is too much to keep. To be awaited now and then between calls of `add`. @throws NarborError ERR_NO_SPACE, ERR_STORE */
  async flush(): Promise<void> {
    if (this.#fullBytes + this.#open.length <= this.#limits.memoryBytes) return;
    try {
      const file = (this.#file ??= await openNameless(this.#directory));
      for (let block = this.#full.shift(); block !== undefined; block = this.#full.shift()) {
        this.#fullBytes -= block.length;
        await file.appendFile(block);
        this.#written.push(block.length);
        this.#writtenBytes += block.length;
      }
    } catch (error) {
      throw toStoreError("Cannot write directories aside", error);
    }
  }

  /**
   * All messages in the order in which they came, in runs; between two runs the event loop may get a turn, if there was too much for memory. A message is a
   * view that stays as it is. Nothing is to be added any more.
   */
  async *runs(): AsyncGenerator<Iterable<Uint8Array>, void, undefined> {
    let offset = 0;
    for (const length of this.#written) {
      yield messagesOf(await this.#read(offset, length));
      offset += length;
    }
    for (const block of this.#full) yield messagesOf(block);
    yield messagesOf(this.#open.view());
  }

  /** Bytes that lie in the file. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Forget everything, the file too. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#full = [];
    await this.#file?.close();
    this.#file = undefined;
  }

  #seal(): void {
    if (this.#open.length === 0) return;
    this.#full.push(this.#open.bytes());
    this.#fullBytes += this.#open.length;
    this.#open.clear();
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    try {
      const block = Buffer.allocUnsafeSlow(length);
      for (let filled = 0; filled < length; ) {
        const { bytesRead } = (await this.#file?.read(block, filled, length - filled, offset + filled)) ?? { bytesRead: 0 };
        if (bytesRead === 0) throw new NarborError("ERR_STORE", "Cannot read back directories: their file is shorter than what was written to it");
        filled += bytesRead;
      }
      return block;
    } catch (error) {
      throw toStoreError("Cannot read back directories", error);
    }
  }
}

/**
 * Remove the names that crashes left in a store's directory. Harmless to other processes: a name is of no use to the one that made it.
 */
export async function removeLeftOverSpools(directory: string): Promise<void> {
  const names = await readdir(directory);
  await Promise.all(names.filter((name) => name.startsWith(NAME_PREFIX)).map((name) => unlinkIfThere(join(directory, name))));
}

async function openNameless(directory: string): Promise<FileHandle> {
  const path = join(directory, `${NAME_PREFIX}${randomBytes(6).toString("hex")}`);
  const file = await open(path, "wx+", 0o600);
  try {
    // Another process that is opening the store may have removed it already.
    await unlinkIfThere(path);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  await unlink(path).catch((error: unknown) => {
    if (!hasErrorCode(error, "ENOENT")) throw error;
  });
}

function* messagesOf(block: Uint8Array): Generator<Uint8Array, void, undefined> {
  const view = new DataView(block.buffer, block.byteOffset, block.length);
  for (let offset = 0; offset < block.length; ) {
    const start = offset + LENGTH_BYTES;
    offset = start + view.getUint32(offset, true);
    yield block.subarray(start, offset);
  }
}

function tooMuch(what: string): NarborError {
  return new NarborError("ERR_LIMIT", `Cannot store directories: found ${what}`);
}

import { copyBytes } from "../bytes/collect.ts";
import { HandOff } from "../concurrency/hand-off.ts";
import { NarborError } from "../errors.ts";

/** An upload that calls come and go on with. */
export interface PendingUpload {
  /** Bytes, as they were sent. */
  readonly received: number;
}

/** The hold of one call on an upload; another call that takes the same upload ends it. */
export interface UploadOwner {
  readonly upload: PendingUpload;
  /** Resolves when all is stored, whoever finishes it; rejects with what the upload failed with. */
  readonly stored: Promise<void>;
  /**
   * Hand on some bytes.
   *
   * @param offset where they stand in the upload
   * @throws what the upload failed with; NarborError ERR_UNAVAILABLE when another call has taken over, ERR_INVALID for an offset other than what has come
   */
  give(bytes: Uint8Array, offset: number): Promise<void>;
  /** There is no more: wait until all is stored. @throws what the upload failed with */
  finish(): Promise<void>;
  /** The call ends. What it has not finished waits for another one. */
  leave(): void;
}

export interface PendingUploadsOptions {
  /** An upload that no call goes on with for so long is given up. */
  readonly patienceMilliseconds: number;
  /** Uploads at once. Each holds at most a chunk of its blob in memory. One more takes the place of the one that no call has gone on with for longest. */
  readonly maxUploads: number;
}

interface Upload {
  received: number;
  readonly content: HandOff<Uint8Array>;
  readonly stored: Promise<void>;
  failure: unknown;
  isOver: boolean;
  /** Calls whose bytes have not been taken yet. */
  readonly waiting: Set<() => void>;
  owner: UploadOwner | undefined;
  patience: NodeJS.Timeout | undefined;
}

/** Uploads by name that may be broken off and gone on with. What they have brought is in the store's hands, but not readable. */
export class PendingUploads implements Disposable {
  readonly #options: PendingUploadsOptions;
  readonly #uploads = new Map<string, Upload>();

  constructor(options: PendingUploadsOptions) {
    this.#options = options;
  }

  find(name: string): PendingUpload | undefined {
    return this.#uploads.get(name);
  }

  /**
   * Go on with the upload of that name, or begin it.
   *
   * @param offset of the bytes that the call begins with: a call that is wrong there takes the upload from no one
   * @param store is given the upload's content and resolves when it is stored
   * @throws NarborError ERR_LIMIT when there are too many, ERR_INVALID for an offset other than what has come
   */
  take(name: string, offset: number, store: (content: AsyncIterable<Uint8Array>) => Promise<void>): UploadOwner {
    checkOffset(offset, this.#uploads.get(name)?.received ?? 0);
    const upload = this.#uploads.get(name) ?? this.#begin(name, store);
    clearTimeout(upload.patience);
    const owner: UploadOwner = {
      upload,
      stored: upload.stored,
      give: async (bytes, bytesOffset) => {
        checkOwner(upload, owner);
        checkOffset(bytesOffset, upload.received);
        if (bytes.length > 0) {
          upload.received += bytes.length;
          // It is read after this call has ended, if the call is cut off now.
          await taken(upload, copyBytes(bytes));
        }
        if (upload.isOver) throw upload.failure ?? new NarborError("ERR_INVALID", "Cannot go on with the upload: it has ended");
      },
      finish: async () => {
        checkOwner(upload, owner);
        upload.content.end();
        await upload.stored;
      },
      leave: () => {
        if (upload.owner !== owner) return;
        upload.owner = undefined;
        if (upload.isOver) return;
        upload.patience = setTimeout(() => giveUp(upload, "no one went on with it"), this.#options.patienceMilliseconds);
        // The last that was left stands last.
        this.#uploads.delete(name);
        this.#uploads.set(name, upload);
      },
    };
    upload.owner = owner;
    return owner;
  }

  /** Give up all that are not finished. */
  [Symbol.dispose](): void {
    for (const upload of this.#uploads.values()) giveUp(upload, "the server is stopping");
  }

  #begin(name: string, store: (content: AsyncIterable<Uint8Array>) => Promise<void>): Upload {
    if (this.#uploads.size >= this.#options.maxUploads) this.#makeRoom();
    const content = new HandOff<Uint8Array>();
    const stored = store(content);
    const upload: Upload = { received: 0, content, stored, failure: undefined, isOver: false, waiting: new Set(), owner: undefined, patience: undefined };
    this.#uploads.set(name, upload);
    const over = (error?: unknown): void => {
      upload.isOver = true;
      upload.failure = error;
      for (const letGo of upload.waiting) letGo();
      clearTimeout(upload.patience);
      // Its name may have been taken by another one when it was given up.
      if (this.#uploads.get(name) === upload) this.#uploads.delete(name);
    };
    stored.then(() => over(), over);
    return upload;
  }

  /** Give up the upload that has been left alone for longest. @throws NarborError ERR_LIMIT when calls are busy with all of them */
  #makeRoom(): void {
    const [name, upload] = [...this.#uploads].find(([, { owner }]) => owner === undefined) ?? [];
    if (name === undefined || upload === undefined) throw new NarborError("ERR_LIMIT", `Cannot begin the upload: ${this.#uploads.size} are under way already`);
    giveUp(upload, "others needed its place");
    this.#uploads.delete(name);
  }
}

function giveUp({ content, patience }: Upload, why: string): void {
  clearTimeout(patience);
  content.fail(new NarborError("ERR_UNAVAILABLE", `The upload was given up: ${why}`));
}

/** Hand bytes on; resolves when they were taken, or when the upload is over: a store that fails may not come back for them, nor for the first. */
async function taken({ content, waiting }: Upload, bytes: Uint8Array): Promise<void> {
  await new Promise<void>((resolve) => {
    const letGo = (): void => {
      waiting.delete(letGo);
      resolve();
    };
    waiting.add(letGo);
    void content.give(bytes).then(letGo);
  });
}

function checkOwner(upload: Upload, owner: UploadOwner): void {
  if (upload.owner !== owner) throw new NarborError("ERR_UNAVAILABLE", "Another call has taken the upload over");
}

function checkOffset(offset: number, received: number): void {
  if (offset !== received) throw new NarborError("ERR_INVALID", `Cannot go on with the upload: found write_offset ${offset}, ${received} bytes have been received`);
}

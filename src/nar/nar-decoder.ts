/**
 * A NAR decoder that never waits: `push` bytes as they come, take events with `next` until it has none, `end` at the input's end.
 *
 * It is as strict as Nix 2.35 and stricter in one thing: nothing may follow the root node. Nothing is allocated by a length
 * that the input claims; what is kept between pushes is one unfinished token at most, and the previous name at each depth.
 * The rules are those of Nix's own reader (src/libutil/archive.cc).
 */
import { compareBytes } from "../bytes/compare-bytes.ts";
import { concatBytes, copyBytes } from "../bytes/collect.ts";
import { quoteBytes } from "../bytes/text-encoding.ts";
import { NarborError } from "../errors.ts";
import type { NarEvent } from "./nar-event.ts";
import { MAX_DEPTH, MAX_NAME_LENGTH, MAX_TARGET_LENGTH } from "./nar-event.ts";
import { encodeTags, paddingLength } from "./nar-token.ts";

/** Longest tag that is read to be named in an error. */
const MAX_TAG_LENGTH = 32;
/** Longest framing that is kept: what stands between two files is a few hundred bytes, unless there are many symlinks or directories. */
const MAX_FRAMING_LENGTH = 4096;
/** The high half of a length above this is beyond 2^53. */
const MAX_HIGH_HALF = 0x1f_ffff;

const TAG = {
  magic: encodeTags("nix-archive-1"),
  open: encodeTags("("),
  close: encodeTags(")"),
  type: encodeTags("type"),
  entry: encodeTags("entry"),
  name: encodeTags("name"),
  node: encodeTags("node"),
  regular: encodeTags("regular"),
  symlink: encodeTags("symlink"),
  directory: encodeTags("directory"),
  executable: encodeTags("executable", ""),
  contents: encodeTags("contents"),
  target: encodeTags("target"),
} as const;
type TagName = keyof typeof TAG;

const NO_NAME = new Uint8Array(0);

/** Where in the grammar the next byte stands. */
type State =
  | "magic"
  | "openNode"
  | "type"
  | "kind"
  | "executable"
  | "contents"
  | "length"
  | "data"
  | "padding"
  | "closeFile"
  | "target"
  | "targetBytes"
  | "closeSymlink"
  | "entryOrClose"
  | "openEntry"
  | "nameTag"
  | "name"
  | "nodeTag"
  | "closeEntry"
  | "done";

export class NarDecoder {
  #state: State = "magic";
  /** Bytes pushed and not yet consumed, from `#offset` on. */
  #buffer: Uint8Array = NO_NAME;
  #offset = 0;
  /** Position in the NAR of the first byte of `#buffer`. */
  #base = 0;
  /** The previous name in each open directory, outermost first. */
  readonly #previousNames: Uint8Array[] = [];
  #name: Uint8Array = NO_NAME;
  #target: Uint8Array = NO_NAME;
  #executable = false;
  #size = 0;
  #remaining = 0;
  /** Position in the NAR of the first byte after the contents of the file before, and the bytes from there up to `#base`; undefined when they are too many. */
  #framingStart = 0;
  #framingHead: Uint8Array | undefined = NO_NAME;

  /** Bytes consumed so far. */
  get position(): number {
    return this.#base + this.#offset;
  }

  /**
   * After a `file` event: the NAR's bytes between the contents of the file before it, of those that are not empty, and its own. Undefined when they
   * are more than 4 KiB. Valid until the next event is taken.
   */
  framing(): Uint8Array | undefined {
    if (this.#framingHead === undefined) return undefined;
    const framing = this.#buffer.subarray(Math.max(this.#framingStart - this.#base, 0), this.#offset);
    if (this.#framingHead.length + framing.length > MAX_FRAMING_LENGTH) return undefined;
    return this.#framingHead.length === 0 ? framing : concatBytes([this.#framingHead, framing]);
  }

  /** Hand in the next bytes; they must not change until the bytes after them have been handed in. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    // Within contents there is none yet.
    if (this.#state !== "data" || this.#size === 0) this.#keepFraming();
    const rest = this.#buffer.subarray(this.#offset);
    this.#base += this.#offset;
    this.#offset = 0;
    this.#buffer = rest.length === 0 ? chunk : concatBytes([rest, chunk]);
    if (this.#state === "done") this.#failAtEnd();
  }

  /**
   * The next event, or undefined when more bytes are needed (or the NAR has ended).
   *
   * @throws NarborError ERR_NAR_INVALID
   */
  next(): NarEvent | undefined {
    for (;;) {
      switch (this.#state) {
        case "magic":
          if (!this.#has(TAG.magic.length)) return this.#checkMagicSoFar();
          this.#checkMagicSoFar();
          this.#offset += TAG.magic.length;
          this.#state = "openNode";
          break;
        case "openNode":
          if (!this.#expect("open")) return undefined;
          if (this.#previousNames.length >= MAX_DEPTH) {
            throw this.#error(`directory nesting exceeds the maximum depth of ${MAX_DEPTH}`);
          }
          this.#state = "type";
          break;
        case "type":
          if (!this.#expect("type")) return undefined;
          this.#state = "kind";
          break;
        case "kind": {
          const kind = this.#readOneOf("regular", "directory", "symlink");
          if (kind === undefined) return undefined;
          if (kind === "directory") {
            this.#state = "entryOrClose";
            this.#previousNames.push(NO_NAME);
            return { type: "directory", name: this.#name };
          }
          this.#executable = false;
          this.#state = kind === "regular" ? "executable" : "target";
          break;
        }
        case "executable": {
          const tag = this.#readOneOf("contents", "executable");
          if (tag === undefined) return undefined;
          this.#executable = tag === "executable";
          this.#state = this.#executable ? "contents" : "length";
          break;
        }
        case "contents":
          if (!this.#expect("contents")) return undefined;
          this.#state = "length";
          break;
        case "length": {
          const size = this.#readLength();
          if (size === undefined) return undefined;
          this.#size = this.#remaining = size;
          this.#state = "data";
          return { type: "file", name: this.#name, executable: this.#executable, size, offset: this.position };
        }
        case "data": {
          if (this.#remaining === 0) {
            this.#state = "padding";
            if (this.#size > 0) {
              this.#framingStart = this.position;
              this.#framingHead = NO_NAME;
            }
            break;
          }
          const bytes = this.#buffer.subarray(this.#offset, this.#offset + this.#remaining);
          if (bytes.length === 0) return undefined;
          this.#offset += bytes.length;
          this.#remaining -= bytes.length;
          return { type: "data", bytes };
        }
        case "padding": {
          const length = paddingLength(this.#size);
          if (!this.#has(length)) return undefined;
          this.#checkPadding(this.#offset, length);
          this.#offset += length;
          this.#state = "closeFile";
          break;
        }
        case "closeFile":
          if (!this.#expect("close")) return undefined;
          this.#closeNode();
          return { type: "endFile" };
        case "target":
          if (!this.#expect("target")) return undefined;
          this.#state = "targetBytes";
          break;
        case "targetBytes": {
          const target = this.#readString(MAX_TARGET_LENGTH, "symlink target");
          if (target === undefined) return undefined;
          if (target.length === 0) throw this.#error("empty symlink target");
          if (target.includes(0)) throw this.#error("symlink target holds a NUL byte");
          // A copy: its chunk may be gone when the closing bracket arrives.
          this.#target = copyBytes(target);
          this.#state = "closeSymlink";
          break;
        }
        case "closeSymlink":
          if (!this.#expect("close")) return undefined;
          this.#closeNode();
          return { type: "symlink", name: this.#name, target: this.#target };
        case "entryOrClose": {
          const tag = this.#readOneOf("entry", "close");
          if (tag === undefined) return undefined;
          if (tag === "entry") {
            this.#state = "openEntry";
            break;
          }
          this.#previousNames.pop();
          this.#closeNode();
          return { type: "endDirectory" };
        }
        case "openEntry":
          if (!this.#expect("open")) return undefined;
          this.#state = "nameTag";
          break;
        case "nameTag":
          if (!this.#expect("name")) return undefined;
          this.#state = "name";
          break;
        case "name": {
          const start = this.position;
          const name = this.#readString(MAX_NAME_LENGTH, "name");
          if (name === undefined) return undefined;
          this.#checkName(name, start);
          // A copy: it is compared with the next name, when its chunk may be gone.
          this.#name = copyBytes(name);
          this.#previousNames[this.#previousNames.length - 1] = this.#name;
          this.#state = "nodeTag";
          break;
        }
        case "nodeTag":
          if (!this.#expect("node")) return undefined;
          this.#state = "openNode";
          break;
        case "closeEntry":
          if (!this.#expect("close")) return undefined;
          this.#state = "entryOrClose";
          break;
        case "done":
          if (this.#offset < this.#buffer.length) this.#failAtEnd();
          return undefined;
      }
    }
  }

  /**
   * The input has ended.
   *
   * @throws NarborError ERR_NAR_INVALID when the NAR has not
   */
  end(): void {
    if (this.#state === "done") return;
    const end = this.#base + this.#buffer.length;
    throw new NarborError("ERR_NAR_INVALID", `Cannot parse NAR: input ends at byte ${end}, within ${this.#whereabouts()}`);
  }

  #whereabouts(): string {
    if (this.#state === "magic") return "the magic";
    const name = this.#name.length === 0 ? "the root node" : `entry ${quoteBytes(this.#name)}`;
    if (this.#state === "data" || this.#state === "padding") return `the contents of ${name}`;
    return this.#state === "entryOrClose" || this.#state === "closeEntry" ? "a directory" : name;
  }

  #closeNode(): void {
    this.#state = this.#previousNames.length === 0 ? "done" : "closeEntry";
  }

  /** Before the bytes that were read are let go. */
  #keepFraming(): void {
    const framing = this.framing();
    this.#framingHead = framing && copyBytes(framing);
  }

  #has(length: number): boolean {
    return this.#buffer.length - this.#offset >= length;
  }

  /** Refuse what is no NAR at its first wrong byte, not when thirteen more have come. */
  #checkMagicSoFar(): undefined {
    const length = Math.min(TAG.magic.length, this.#buffer.length - this.#offset);
    for (let index = 0; index < length; index++) {
      if (this.#buffer[this.#offset + index] !== TAG.magic[index]) {
        throw new NarborError("ERR_NAR_INVALID", "Cannot parse NAR: input does not begin with a Nix archive's magic at byte 0");
      }
    }
    return undefined;
  }

  /** Consume the tag, or say that more bytes are needed. */
  #expect(name: TagName): boolean {
    return this.#readOneOf(name) !== undefined;
  }

  #readOneOf<Name extends TagName>(...names: readonly Name[]): Name | undefined {
    let incomplete = false;
    for (const name of names) {
      const tag = TAG[name];
      if (!this.#has(tag.length)) incomplete = true;
      else if (this.#startsWith(tag)) {
        this.#offset += tag.length;
        return name;
      }
    }
    // What has come may already be impossible, and must not be waited on.
    if (incomplete && names.some((name) => this.#mayBecome(TAG[name]))) return undefined;
    throw this.#unexpectedTag(names);
  }

  #startsWith(tag: Uint8Array): boolean {
    for (let index = 0; index < tag.length; index++) {
      if (this.#buffer[this.#offset + index] !== tag[index]) return false;
    }
    return true;
  }

  #mayBecome(tag: Uint8Array): boolean {
    const available = this.#buffer.length - this.#offset;
    return available < tag.length && this.#startsWith(tag.subarray(0, available));
  }

  #unexpectedTag(names: readonly TagName[]): NarborError {
    const expected = names.map((name) => `"${tagText(name)}"`).join(" or ");
    const available = this.#buffer.subarray(this.#offset);
    const view = new DataView(available.buffer, available.byteOffset, available.length);
    const length = available.length < 8 ? undefined : Number(view.getBigUint64(0, true));
    let found = "other bytes";
    if (length !== undefined && length > MAX_TAG_LENGTH) found = "a tag that is too long";
    else if (length !== undefined && available.length >= 8 + length) found = quoteBytes(available.subarray(8, 8 + length));
    return this.#error(`expected ${expected}, found ${found}`);
  }

  /** A u64 as a number. */
  #readLength(): number | undefined {
    if (!this.#has(8)) return undefined;
    const length = this.#peekLength();
    this.#offset += 8;
    return length;
  }

  #peekLength(): number {
    const low = this.#peekUint32(this.#offset);
    const high = this.#peekUint32(this.#offset + 4);
    if (high > MAX_HIGH_HALF) throw this.#error("a length is beyond 2^53");
    return high * 0x1_0000_0000 + low;
  }

  #peekUint32(at: number): number {
    const buffer = this.#buffer;
    return (
      ((buffer[at] as number) | ((buffer[at + 1] as number) << 8) | ((buffer[at + 2] as number) << 16) | ((buffer[at + 3] as number) << 24)) >>> 0
    );
  }

  /** A whole `str`, whose length is checked before anything waits for its bytes. */
  #readString(limit: number, what: string): Uint8Array | undefined {
    if (!this.#has(8)) return undefined;
    const length = this.#peekLength();
    if (length > limit) throw this.#error(`${what} of ${length} bytes is longer than ${limit}`);
    const padding = paddingLength(length);
    if (!this.#has(8 + length + padding)) return undefined;
    const start = this.#offset + 8;
    this.#checkPadding(start + length, padding);
    this.#offset = start + length + padding;
    return this.#buffer.subarray(start, start + length);
  }

  #checkPadding(at: number, length: number): void {
    for (let index = at; index < at + length; index++) {
      if (this.#buffer[index] !== 0) throw this.#error("non-zero padding", this.#base + index);
    }
  }

  #checkName(name: Uint8Array, at: number): void {
    const isDots = (name.length === 1 || name.length === 2) && name.every((byte) => byte === 0x2e);
    if (name.length === 0 || isDots || name.includes(0x2f) || name.includes(0)) {
      throw this.#error(`invalid name ${quoteBytes(name)}`, at);
    }
    const previous = this.#previousNames.at(-1) ?? NO_NAME;
    if (compareBytes(name, previous) <= 0) throw this.#error(`entry ${quoteBytes(name)} follows ${quoteBytes(previous)}`, at);
  }

  #failAtEnd(): never {
    throw this.#error("found data after the end");
  }

  #error(what: string, at: number = this.position): NarborError {
    return new NarborError("ERR_NAR_INVALID", `Cannot parse NAR: ${what} at byte ${at}`);
  }
}

function tagText(name: TagName): string {
  return { open: "(", close: ")", magic: "nix-archive-1" }[name as string] ?? name;
}

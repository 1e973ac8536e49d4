import { createHash } from "node:crypto";
import { parseTar } from "../../src/tar/parse-tar.ts";
import type { TarDecoderOptions } from "../../src/tar/tar-decoder.ts";
import { TarDecoder } from "../../src/tar/tar-decoder.ts";
import type { TarEntry, TarEvent } from "../../src/tar/tar-event.ts";

/** An entry with everything it carries copied, bytes as latin1, and its data in one. */
export interface PlainTarEntry extends Omit<TarEntry, "path" | "linkTarget" | "xattrs"> {
  readonly path: string;
  readonly linkTarget: string;
  readonly xattrs: Readonly<Record<string, string>>;
  readonly data: string;
  /** Where the data begin in the archive. */
  readonly dataOffset: number;
}

export interface PlainTar {
  readonly entries: readonly PlainTarEntry[];
  /** All `raw` and `data` events, joined. */
  readonly bytes: Buffer;
}

/** Gathers events, checking that they stand where they may. */
export class TarCollector {
  readonly #entries: PlainTarEntry[] = [];
  readonly #bytes: Buffer[] = [];
  #length = 0;
  #open: { readonly entry: TarEntry; readonly dataOffset: number; readonly data: Buffer[] } | undefined;

  add(event: TarEvent): void {
    switch (event.type) {
      case "raw":
        if (this.#open !== undefined) throw new TypeError("A raw event within an entry");
        this.#take(event.bytes);
        return;
      case "entry":
        if (this.#open !== undefined) throw new TypeError("An entry within an entry");
        this.#open = { entry: event.entry, dataOffset: this.#length, data: [] };
        return;
      case "data":
        if (this.#open === undefined) throw new TypeError("A data event outside of an entry");
        this.#open.data.push(this.#take(event.bytes));
        return;
      case "endEntry": {
        if (this.#open === undefined) throw new TypeError("An endEntry event outside of an entry");
        const { entry, dataOffset } = this.#open;
        const data = Buffer.concat(this.#open.data);
        if (data.length !== entry.storedSize) throw new TypeError(`${data.length} bytes of data, not ${entry.storedSize}`);
        const xattrs = Object.fromEntries([...entry.xattrs].map(([name, value]) => [name, latin1(value)]));
        this.#entries.push({ ...entry, path: latin1(entry.path), linkTarget: latin1(entry.linkTarget), xattrs, data: latin1(data), dataOffset });
        this.#open = undefined;
      }
    }
  }

  get result(): PlainTar {
    return { entries: this.#entries, bytes: Buffer.concat(this.#bytes) };
  }

  #take(bytes: Uint8Array): Buffer {
    if (bytes.length === 0) throw new TypeError("An event of no bytes");
    const copy = Buffer.from(bytes);
    this.#bytes.push(copy);
    this.#length += copy.length;
    return copy;
  }
}

/** Everything a decoder says of these pieces. @throws what it throws */
export function decodeTar(pieces: Iterable<Uint8Array>, options?: TarDecoderOptions): PlainTar {
  const decoder = new TarDecoder(options);
  const collector = new TarCollector();
  for (const piece of pieces) {
    decoder.push(piece);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) collector.add(event);
  }
  decoder.end();
  return collector.result;
}

/** The same through the asynchronous shell. */
export async function parsedTar(source: AsyncIterable<Uint8Array>): Promise<PlainTar> {
  const collector = new TarCollector();
  for await (const event of parseTar(source)) collector.add(event);
  return collector.result;
}

/** A file's contents, holes and all. */
export function contentsOf(entry: PlainTarEntry): Buffer {
  const stored = Buffer.from(entry.data, "latin1");
  if (entry.sparse === undefined) return stored;
  const contents = Buffer.alloc(entry.size);
  let from = 0;
  for (const { offset, length } of entry.sparse) {
    stored.copy(contents, offset, from, from + length);
    from += length;
  }
  return contents;
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

import { NarDecoder } from "../../src/nar/nar-decoder.ts";
import type { NarEvent } from "../../src/nar/nar-event.ts";
import { parseNar } from "../../src/nar/parse-nar.ts";
import type { Tree } from "./reference-nar.ts";

/** An event with everything it carries copied; a file's data in one, however it came. */
export type PlainEvent =
  | { readonly type: "directory"; readonly name: string }
  | { readonly type: "endDirectory" }
  | { readonly type: "symlink"; readonly name: string; readonly target: string }
  | { readonly type: "file"; readonly name: string; readonly executable: boolean; readonly size: number; readonly offset: number; readonly data: string };

/** Gathers events, checking that a file's data and end stand where they must. */
export class EventCollector {
  readonly events: PlainEvent[] = [];
  #file: { readonly event: NarEvent & { readonly type: "file" }; readonly data: Buffer[] } | undefined;

  add(event: NarEvent): void {
    if (this.#file !== undefined) {
      if (event.type === "data") {
        this.#file.data.push(Buffer.from(event.bytes));
        return;
      }
      if (event.type !== "endFile") throw new TypeError(`A ${event.type} event within a file`);
      const { name, executable, size, offset } = this.#file.event;
      this.events.push({ type: "file", name: latin1(name), executable, size, offset, data: Buffer.concat(this.#file.data).toString("latin1") });
      this.#file = undefined;
      return;
    }
    switch (event.type) {
      case "file":
        // The name is a view: copied now, used at the end.
        this.#file = { event: { ...event, name: event.name.slice() }, data: [] };
        return;
      case "symlink":
        this.events.push({ type: "symlink", name: latin1(event.name), target: latin1(event.target) });
        return;
      case "directory":
        this.events.push({ type: "directory", name: latin1(event.name) });
        return;
      case "endDirectory":
        this.events.push({ type: "endDirectory" });
        return;
      case "data":
      case "endFile":
        throw new TypeError(`A ${event.type} event outside of a file`);
    }
  }
}

/** Everything a decoder says of these pieces. @throws what it throws */
export function decodeNar(pieces: Iterable<Uint8Array>): PlainEvent[] {
  const decoder = new NarDecoder();
  const collector = new EventCollector();
  for (const piece of pieces) {
    decoder.push(piece);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) collector.add(event);
  }
  decoder.end();
  return collector.events;
}

/** The same through the asynchronous shell. */
export async function parsedNar(source: AsyncIterable<Uint8Array>): Promise<PlainEvent[]> {
  const collector = new EventCollector();
  for await (const event of parseNar(source)) collector.add(event);
  return collector.events;
}

/** The tree that events tell of. */
export function treeOfEvents(events: readonly PlainEvent[]): Tree {
  const root: { tree?: Tree } = {};
  const open: [Uint8Array, Tree][][] = [];
  const names: string[] = [];
  const add = (name: string, tree: Tree): void => {
    const entries = open.at(-1);
    if (entries === undefined) root.tree = tree;
    else entries.push([Buffer.from(name, "latin1"), tree]);
  };
  for (const event of events) {
    switch (event.type) {
      case "directory":
        names.push(event.name);
        open.push([]);
        break;
      case "endDirectory": {
        const entries = open.pop() ?? [];
        add(names.pop() ?? "", { type: "directory", entries });
        break;
      }
      case "symlink":
        add(event.name, { type: "symlink", target: Buffer.from(event.target, "latin1") });
        break;
      case "file":
        add(event.name, { type: "file", bytes: Buffer.from(event.data, "latin1"), executable: event.executable });
    }
  }
  if (root.tree === undefined) throw new TypeError("No tree in these events");
  return root.tree;
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

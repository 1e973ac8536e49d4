/**
 * The stores that every conformance suite runs on: memory, packs, and packs seen in ways that must make no difference.
 */
import type { Store, StoreServices } from "../../src/store/store.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { PacksStoreOptions } from "../../src/backends/packs/packs-store.ts";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import type { Open, Opened } from "../conformance/conformance-case.ts";
import { openGrpc } from "./grpc-store.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

/** A store for a suite; `reopen` closes it and opens what it left, where it leaves anything. */
export interface OpenedStore<Service = Store> extends Opened<Service> {
  reopen?(): Promise<Store>;
}
export type OpenStore<Service = Store> = () => Promise<OpenedStore<Service>>;

export async function openMemory(): Promise<OpenedStore> {
  const store = new MemoryStore();
  const close = async (): Promise<void> => await store[Symbol.asyncDispose]();
  return { service: store, close, [Symbol.asyncDispose]: close };
}

/** Packs in a temporary directory. */
export function openPacks(options: PacksStoreOptions = {}): OpenStore {
  return async () => {
    const directory = await temporaryDirectory();
    let store = await PacksStore.open(directory.path, { ...options, create: true });
    const close = async (): Promise<void> => await store[Symbol.asyncDispose]();
    return {
      service: store,
      close,
      reopen: async () => {
        await close();
        return (store = await PacksStore.open(directory.path, options));
      },
      [Symbol.asyncDispose]: async () => {
        await close();
        await directory[Symbol.asyncDispose]();
      },
    };
  };
}

/** Packs of which every write is followed by closing the store and opening it again, as soon as no other call is under way. */
export async function openPacksReopened(): Promise<Opened<StoreServices>> {
  const opened = await openPacks()();
  let current = opened.service;
  let calls = 0;
  let dirty = false;
  let closed = false;
  let reopening: Promise<void> | undefined;
  const reopen = async (): Promise<void> => {
    dirty = false;
    current = (await opened.reopen?.()) as Store;
    reopening = undefined;
  };
  const services = forwardTo(async (name, method, parameters) => {
    if (dirty && calls === 0 && !closed && !WRITES.has(method)) reopening = reopen();
    calls++;
    try {
      await reopening;
      return await callMethod(current[name], method, parameters);
    } finally {
      calls--;
      if (WRITES.has(method)) dirty = true;
    }
  }, () => current);
  const close = async (): Promise<void> => {
    closed = true;
    await opened.close();
  };
  return { service: services, close, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

/** A store of which everything that can be written as a piece of work is, each call a work of its own that is committed. */
export function openCommitted(open: OpenStore): Open<StoreServices> {
  return async () => {
    const opened = await open();
    const store = opened.service;
    const services = forwardTo(async (name, method, parameters) => {
      if (!WRITES.has(method) || name === "pathInfos" || name === "documents" || name === "computed") return await callMethod(store[name], method, parameters);
      const work = store.begin();
      const result = await callMethod(work[name], method, parameters);
      await work.commit();
      return result;
    }, () => store);
    return { service: services, close: () => opened.close(), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  };
}

/** One of a store's services, for the suite of its interface. */
export function pick<Name extends keyof StoreServices>(open: Open<StoreServices>, name: Name): Open<StoreServices[Name]> {
  return async () => {
    const opened = await open();
    return { service: opened.service[name], close: () => opened.close(), [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  };
}

/** All of them, as a table for `describe.for`. */
export const SERVICES: readonly (readonly [name: string, open: Open<StoreServices>])[] = [
  ["memory", openMemory],
  ["packs", openPacks()],
  ["packs without compression", openPacks({ compression: "none" })],
  ["packs, reopened after every write", openPacksReopened],
  ["packs, written through work that is committed", openCommitted(openPacks())],
  ["memory through gRPC", openGrpc(openMemory)],
  ["packs through gRPC", openGrpc(openPacks())],
];

type ServiceName = keyof StoreServices;
type Call = (name: ServiceName, method: string, parameters: readonly unknown[]) => Promise<unknown>;

const NAMES: readonly ServiceName[] = ["blobs", "directories", "pathInfos", "nars", "documents", "computed"];
const WRITES: ReadonlySet<string> = new Set(["put", "putMany", "putClosure", "delete"]);
/** Methods that give a stream at once and not a promise of one. */
const STREAMS: ReadonlySet<string> = new Set(["readMany", "list"]);

/** Services whose every call goes through `call`. */
function forwardTo(call: Call, current: () => StoreServices): StoreServices {
  const service = (name: ServiceName): object =>
    new Proxy(
      {},
      {
        get: (_target, method: string) =>
          STREAMS.has(method)
            ? async function* (...parameters: unknown[]) {
                // The reopening, if any is due, happens in a call that does nothing else.
                await call(name, "", []);
                yield* callMethod(current()[name], method, parameters) as AsyncIterable<unknown>;
              }
            : (...parameters: unknown[]) => call(name, method, parameters),
      },
    );
  return Object.fromEntries(NAMES.map((name) => [name, service(name)])) as unknown as StoreServices;
}

function callMethod(service: object, method: string, parameters: readonly unknown[]): unknown {
  const target = service as Record<string, ((...parameters: readonly unknown[]) => unknown) | undefined>;
  return target[method]?.apply(service, parameters as unknown[]);
}

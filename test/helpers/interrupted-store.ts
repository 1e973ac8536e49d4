import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { CallOptions } from "../../src/castore/call-options.ts";
import type { Store, StoreServices } from "../../src/store/store.ts";

type ServiceName = keyof StoreServices;
const SERVICES: readonly ServiceName[] = ["blobs", "directories", "pathInfos", "nars", "documents"];

/** Called before each call goes on to the store: it may wait, or throw. */
export type BeforeCall = (call: string, options: CallOptions | undefined) => unknown;

/**
 * A memory store of which every call, through a piece of work as well, comes by `before`: `blobs.putMany`, `directories.putClosure`, `commit` …
 * Streams are let pass.
 */
export function interruptedStore(memory: MemoryStore, before: BeforeCall): Store {
  const service = <Name extends ServiceName>(name: Name, target: StoreServices[Name]): StoreServices[Name] =>
    new Proxy(target as object, {
      get: (_target, method: string) => {
        const call = Reflect.get(target, method) as ((...parameters: readonly unknown[]) => unknown) | undefined;
        if (call === undefined || method === "readMany" || method === "list") return call?.bind(target);
        return async (...parameters: readonly unknown[]) => {
          await before(`${name}.${method}`, parameters.at(-1) as CallOptions | undefined);
          return await call.apply(target, parameters as unknown[]);
        };
      },
    }) as StoreServices[Name];
  const overlay = <T extends object>(target: T): T =>
    new Proxy(target, {
      get: (_target, property) => {
        const value = Reflect.get(target, property) as unknown;
        if (SERVICES.some((name) => name === property)) return service(property as ServiceName, value as never);
        if (property === "begin") return () => overlay((value as Store["begin"]).call(target as unknown as Store));
        if (property !== "commit" && property !== "directorySizeProfile") return typeof value === "function" ? (value.bind(target) as unknown) : value;
        return async (options?: CallOptions) => {
          await before(property, options);
          return await (value as (options?: CallOptions) => Promise<unknown>).call(target, options);
        };
      },
    });
  return overlay<Store>(memory);
}

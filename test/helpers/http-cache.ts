/** A binary cache on a real socket, in this process, and what tests send to it. */
import { createHash } from "node:crypto";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { AppOptions } from "../../src/http/app.ts";
import { decompress } from "../../src/compression/decompress.ts";
import { createApp } from "../../src/http/app.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { startHttpServer } from "../../src/http/server.ts";
import { encodeNix32 } from "../../src/nix/nix32.ts";
import type { Store } from "../../src/store/store.ts";
import { collect } from "./bytes.ts";
import { streamOf } from "./tracked-source.ts";

export interface HttpCache extends AsyncDisposable {
  readonly url: string;
  readonly store: Store;
  readonly server: HttpServer;
  /** Faults of ours that the server told of. */
  readonly faults: unknown[];
}

export interface HttpCacheOptions extends Partial<AppOptions> {
  readonly idleMilliseconds?: number;
}

export async function openHttpCache(options: HttpCacheOptions = {}): Promise<HttpCache> {
  const { idleMilliseconds, ...appOptions } = options;
  const store = options.store ?? new MemoryStore();
  const app = createApp({ allowWrites: true, requireReferences: false, priority: 30, ...appOptions, store });
  const faults: unknown[] = [];
  const server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    app,
    onFault: (_request, error) => void faults.push(error),
    ...(idleMilliseconds !== undefined && { idleMilliseconds }),
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    store,
    server,
    faults,
    [Symbol.asyncDispose]: async () => {
      await server.stop(0);
      await store[Symbol.asyncDispose]();
    },
  };
}

export function sha256Nix32(bytes: Uint8Array): string {
  return encodeNix32(createHash("sha256").update(bytes).digest());
}

/** What a client sends after a NAR. Fields given replace those that are made, and `undefined` leaves one out. */
export function narInfoText(nar: Uint8Array, storePath: string, fields: Readonly<Record<string, string | undefined>> = {}): string {
  const narHash = sha256Nix32(nar);
  const all: Record<string, string | undefined> = {
    StorePath: storePath,
    URL: `nar/${narHash}.nar`,
    Compression: "none",
    FileHash: `sha256:${narHash}`,
    FileSize: String(nar.length),
    NarHash: `sha256:${narHash}`,
    NarSize: String(nar.length),
    References: "",
    ...fields,
  };
  return Object.entries(all).flatMap(([key, value]) => (value === undefined ? [] : [`${key}: ${value}\n`])).join("");
}

/** The NAR of a narinfo that a cache gave, decompressed where the narinfo says that it is compressed. */
export async function downloadNar(url: string, narInfo: string): Promise<Uint8Array> {
  const [, path = ""] = /^URL: (.*)$/m.exec(narInfo) ?? [];
  const { status, bytes } = await getBytes(`${url}/${path}`);
  if (status !== 200) throw new Error(`GET ${path}: ${status}`);
  return narInfo.includes("\nCompression: zstd\n") ? await collect(decompress(streamOf([bytes]), { codec: "zstd" })) : bytes;
}

/** A response's status and text, which is all that most tests look at. */
export async function send(url: string, init?: RequestInit): Promise<{ readonly status: number; readonly text: string; readonly headers: Headers }> {
  const response = await fetch(url, { redirect: "manual", ...init });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

export async function put(url: string, body: Uint8Array | string, headers: Record<string, string> = {}): ReturnType<typeof send> {
  return await send(url, { method: "PUT", body, headers });
}

export async function getBytes(url: string, headers: Record<string, string> = {}): Promise<{ readonly status: number; readonly bytes: Uint8Array; readonly headers: Headers }> {
  const response = await fetch(url, { headers });
  return { status: response.status, bytes: new Uint8Array(await response.arrayBuffer()), headers: response.headers };
}

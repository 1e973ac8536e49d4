/** A store, served: one port for HTTP and gRPC, and one for gRPC alone where that is wanted. */
import type { Socket } from "node:net";
import type { GrpcServer } from "../grpc/server.ts";
import { createGrpcServer } from "../grpc/server.ts";
import { createApp } from "../http/app.ts";
import { startHttpServer } from "../http/server.ts";
import type { Store } from "../store/store.ts";
import type { ListenAddress } from "./listen-address.ts";
import { formatListenAddress, isLocal } from "./listen-address.ts";
import { listenForConnections } from "./listen-for-connections.ts";

export interface ServerOptions {
  readonly store: Store;
  readonly listen: Extract<ListenAddress, { readonly host: string }>;
  /** For gRPC alone. Without it, gRPC is at `listen` too; with it, also. */
  readonly grpcListen?: ListenAddress;
  /** Take uploads also where others than this machine can reach it. */
  readonly allowAnonymousWrites: boolean;
  readonly requireReferences: boolean;
  readonly maxUploads: number;
  /** Bytes of a NAR, decompressed. */
  readonly maxNarBytes: number;
  readonly priority: number;
  /** How narinfos have NARs served, where there is a choice. */
  readonly narCompression: "zstd" | "none";
  readonly idleMilliseconds: number;
  /** Of the program. */
  readonly version: string;
  /** Told of faults of ours: what was asked, and what went wrong. */
  readonly onFault: (request: string, error: unknown) => void;
}

export interface RunningServer {
  /** `http://HOST:PORT`. */
  readonly url: string;
  /** Whether uploads are taken at `url`. */
  readonly allowsWrites: boolean;
  /** `HOST:PORT` or `unix:PATH`, where there is an address for gRPC alone. */
  readonly grpcAddress: string | undefined;
  /** Take no more connections, let what is under way end, and then resolve. What has not ended after `graceMilliseconds` is cut off. */
  stop(graceMilliseconds: number): Promise<void>;
}

/** @throws NarborError ERR_UNAVAILABLE when an address cannot be listened at */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { store, listen, grpcListen, requireReferences, maxUploads, maxNarBytes, priority, narCompression, idleMilliseconds, onFault } = options;
  const allowsWrites = (address: ListenAddress): boolean => options.allowAnonymousWrites || isLocal(address);
  const grpcFor = (address: ListenAddress): GrpcServer =>
    createGrpcServer({ store, allowWrites: allowsWrites(address), version: options.version, idleMilliseconds, onFault });
  const grpc = grpcFor(listen);
  const app = createApp({ store, allowWrites: allowsWrites(listen), requireReferences, maxUploads, maxNarBytes, priority, narCompression });
  const http = await startHttpServer({ host: listen.host, port: listen.port, app, idleMilliseconds, onFault, onHttp2: (connection: Socket) => grpc.accept(connection) });
  const stopFirst = async (graceMilliseconds: number): Promise<void> => {
    await Promise.all([http.stop(graceMilliseconds), grpc.stop(graceMilliseconds)]);
  };
  const url = `http://${formatListenAddress(listen, http.port)}`;
  if (grpcListen === undefined) return { url, allowsWrites: allowsWrites(listen), grpcAddress: undefined, stop: stopFirst };
  const own = grpcFor(grpcListen);
  const listener = await listenForConnections(grpcListen, (connection) => own.accept(connection)).catch(async (error: unknown) => {
    await stopFirst(0);
    throw error;
  });
  return {
    url,
    allowsWrites: allowsWrites(listen),
    grpcAddress: formatListenAddress(grpcListen, listener.port),
    stop: async (graceMilliseconds) => {
      const closed = listener.close();
      await Promise.all([stopFirst(graceMilliseconds), own.stop(graceMilliseconds)]);
      await closed;
    },
  };
}

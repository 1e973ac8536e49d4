/** The gRPC server: grpc-js around the services. It listens nowhere itself and is given connections. */
import type { Duplex } from "node:stream";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { NarborError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { blobService } from "./blob-service.ts";
import { byteStreamService } from "./byte-stream-service.ts";
import { capabilitiesService, casService } from "./cas-service.ts";
import { directoryService } from "./directory-service.ts";
import { widenWindows } from "./grpc-js-internals.ts";
import { healthService } from "./health-service.ts";
import { pathInfoService } from "./path-info-service.ts";
import { PendingUploads } from "./pending-uploads.ts";
import { receiveLimits } from "./receive-limits.ts";
import { reflectionService } from "./reflection-service.ts";
import { RpcCalls } from "./rpc-call.ts";
import { addRpcService } from "./rpc-service.ts";
import { storeService } from "./store-service.ts";
import { writeGate } from "./write-gate.ts";

export interface GrpcServerOptions {
  readonly store: Store;
  /** Take uploads. */
  readonly allowWrites: boolean;
  /** Of the program. */
  readonly version: string;
  /** Told of faults of ours: which method, and what went wrong. */
  readonly onFault?: (method: string, error: unknown) => void;
  /** A client that sends nothing it should send, or takes nothing, for so long is given up. @default 60000 */
  readonly idleMilliseconds?: number;
  /** Calls at once, over all connections. @default 1024 */
  readonly maxCalls?: number;
}

export interface GrpcServer {
  /** Serve a connection that speaks HTTP/2. */
  accept(connection: Duplex): void;
  /** Take no more calls, let those under way end, and then resolve. What has not ended after `graceMilliseconds` is cut off. */
  stop(graceMilliseconds: number): Promise<void>;
}

const DEFAULT_IDLE_MILLISECONDS = 60_000;
const DEFAULT_MAX_CALLS = 1024;
/** Calls at once on one connection; others wait in the client. */
const MAX_STREAMS = 256;
/** Bytes that a client may send ahead of what a call has read, and ahead over all its calls. */
const STREAM_WINDOW_BYTES = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** A connection is asked whether it is still there so often, and given so long to answer: on a slow line that comes behind megabytes. Calls have their own idle time. */
const KEEPALIVE_MILLISECONDS = 60_000;
const KEEPALIVE_TIMEOUT_MILLISECONDS = 300_000;
/** A client without calls that is told that the server stops has so long to hang up. */
const FAREWELL_MILLISECONDS = 1000;
const PENDING_UPLOAD_MILLISECONDS = 120_000;
const MAX_PENDING_UPLOADS = 256;

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const { store, version } = options;
  const gate = writeGate(options.allowWrites);
  const stopping = new AbortController();
  const pending = new PendingUploads({ patienceMilliseconds: PENDING_UPLOAD_MILLISECONDS, maxUploads: MAX_PENDING_UPLOADS });
  const calls = new RpcCalls({
    idleMilliseconds: options.idleMilliseconds ?? DEFAULT_IDLE_MILLISECONDS,
    maxCalls: options.maxCalls ?? DEFAULT_MAX_CALLS,
    onFault: options.onFault ?? (() => undefined),
  });
  const main = [
    blobService(store, gate),
    directoryService(store, gate),
    pathInfoService(store, gate),
    storeService(store, gate, version),
    casService(store, gate),
    capabilitiesService(),
    byteStreamService(store, gate, pending),
  ];
  const health = healthService(() => main.flatMap(({ names }) => names), stopping.signal);
  const server = new Server({
    interceptors: [receiveLimits(options.idleMilliseconds ?? DEFAULT_IDLE_MILLISECONDS)],
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": MAX_STREAMS,
    "grpc.keepalive_time_ms": KEEPALIVE_MILLISECONDS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MILLISECONDS,
    "grpc.enable_channelz": 0,
  });
  for (const service of [...main, health, reflectionService([...main, health])]) addRpcService(server, service, calls);
  widenWindows(server, { stream: STREAM_WINDOW_BYTES, connection: CONNECTION_WINDOW_BYTES });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const connections = new Map<Duplex, Promise<void>>();
  return {
    accept: (connection) => {
      if (stopping.signal.aborted) {
        connection.destroy();
        return;
      }
      const closed = new Promise<void>((resolve) => connection.once("close", () => resolve()));
      connections.set(connection, closed);
      void closed.then(() => connections.delete(connection));
      injector.injectConnection(connection);
    },
    stop: async (graceMilliseconds) => {
      stopping.abort(new NarborError("ERR_CLOSED", "The server is stopping"));
      server.tryShutdown(() => undefined);
      // grpc-js (1.14.7) cuts off no one once channelz is off, which is where it looks for its connections.
      const timer = setTimeout(() => {
        for (const connection of connections.keys()) connection.destroy();
      }, graceMilliseconds);
      // Of a connection without calls HTTP/2 has ended its side, and waits for the other. One whose calls end later may have a client that still reads.
      const farewell = setTimeout(() => {
        for (const connection of connections.keys()) if (connection.writableEnded) connection.destroy();
      }, FAREWELL_MILLISECONDS);
      await Promise.all(connections.values());
      clearTimeout(timer);
      clearTimeout(farewell);
      pending[Symbol.dispose]();
    },
  };
}

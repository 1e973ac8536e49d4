/** A store seen through our gRPC client and server, over a real socket. */
import type { Server, Socket } from "node:net";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import type { GrpcServerOptions } from "../../src/grpc/server.ts";
import { createGrpcServer } from "../../src/grpc/server.ts";
import type { Store } from "../../src/store/store.ts";
import type { OpenedStore, OpenStore } from "./open-stores.ts";

/** A running gRPC server; disposing it ends it at once. */
export interface TestGrpcServer extends AsyncDisposable {
  readonly port: number;
  /** `grpc://127.0.0.1:<port>`. */
  readonly address: string;
  /** Connections that are open. */
  readonly connections: ReadonlySet<Socket>;
}

export async function serveGrpc(store: Store, options: Partial<GrpcServerOptions> = {}): Promise<TestGrpcServer> {
  const grpc = createGrpcServer({ store, allowWrites: true, version: "test", ...options });
  const connections = new Set<Socket>();
  const listener: Server = createServer((socket) => {
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    grpc.accept(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  return {
    port,
    address: `grpc://127.0.0.1:${port}`,
    connections,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => listener.close(resolve));
      await grpc.stop(0);
      for (const socket of connections) socket.destroy();
      await closed;
    },
  };
}

/** Any store, behind a server and a client. */
export function openGrpc(open: OpenStore, parameters = ""): OpenStore {
  return async () => {
    const opened = await open();
    const server = await serveGrpc(opened.service);
    const clients: GrpcStore[] = [];
    const connect = (): GrpcStore => {
      const client = new GrpcStore(`${server.address}${parameters}`);
      clients.push(client);
      return client;
    };
    const client = connect();
    const close = async (): Promise<void> => {
      for (const each of clients) await each[Symbol.asyncDispose]();
    };
    const result: OpenedStore = {
      service: client,
      close,
      [Symbol.asyncDispose]: async () => {
        await close();
        await server[Symbol.asyncDispose]();
        await opened[Symbol.asyncDispose]();
      },
    };
    return result;
  };
}

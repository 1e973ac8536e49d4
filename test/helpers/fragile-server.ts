/** A gRPC server that can be killed and started again at the same port, and a TCP proxy that cuts connections. */
import type { AddressInfo, Server, Socket } from "node:net";
import { connect, createServer } from "node:net";
import type { GrpcServer, GrpcServerOptions } from "../../src/grpc/server.ts";
import { createGrpcServer } from "../../src/grpc/server.ts";
import type { Store } from "../../src/store/store.ts";
import { findSteadyPort } from "./steady-port.ts";

/** A server on one port over one store, now running and now not. */
export class FragileServer implements AsyncDisposable {
  readonly #store: Store;
  readonly #options: Partial<GrpcServerOptions>;
  readonly #sockets = new Set<Socket>();
  #port = 0;
  #running: { readonly listener: Server; readonly grpc: GrpcServer } | undefined;

  private constructor(store: Store, options: Partial<GrpcServerOptions>) {
    this.#store = store;
    this.#options = options;
  }

  static async open(store: Store, options: Partial<GrpcServerOptions> = {}): Promise<FragileServer> {
    const server = new FragileServer(store, options);
    await server.start();
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get address(): string {
    return `grpc://127.0.0.1:${this.#port}`;
  }

  /** What serves now. */
  get grpc(): GrpcServer {
    if (this.#running === undefined) throw new Error("it is not running");
    return this.#running.grpc;
  }

  async start(): Promise<void> {
    const grpc = createGrpcServer({ store: this.#store, allowWrites: true, version: "test", ...this.#options });
    const listener = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      grpc.accept(socket);
    });
    if (this.#port === 0) this.#port = await findSteadyPort();
    await new Promise<void>((resolve, reject) => listener.on("error", reject).listen(this.#port, "127.0.0.1", resolve));
    this.#running = { listener, grpc };
  }

  /** As if the process had gone: every connection breaks, and no one listens. */
  async kill(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    const closed = new Promise((resolve) => running.listener.close(resolve));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
    await running.grpc.stop(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Where a proxy cuts a connection: after so many bytes of one direction; undefined lets it be. */
export interface Cut {
  readonly direction: "up" | "down";
  readonly after: number;
  /** How: as a process that is killed does it, or as one that exits does. */
  readonly how: "reset" | "end";
}

/** A TCP proxy in front of a port. */
export class CuttingProxy implements AsyncDisposable {
  readonly port: number;
  /** Bytes of each direction that have passed, over all connections. */
  readonly passed = { up: 0, down: 0 };
  connections = 0;
  readonly #listener: Server;
  readonly #sockets: Set<Socket>;

  private constructor(listener: Server, sockets: Set<Socket>) {
    this.#listener = listener;
    this.#sockets = sockets;
    this.port = (listener.address() as AddressInfo).port;
  }

  /** @param cutOf what to do to a connection, by its number from 0 */
  static async open(target: number, cutOf: (connection: number) => Cut | undefined): Promise<CuttingProxy> {
    const sockets = new Set<Socket>();
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const proxy = new CuttingProxy(listener, sockets);
    listener.on("connection", (client) => {
      const server = connect(target, "127.0.0.1");
      const both = [client, server];
      const cut = cutOf(proxy.connections++);
      const end = (): void => both.forEach((socket) => (cut?.how === "reset" ? socket.resetAndDestroy() : socket.destroySoon()));
      for (const socket of both) {
        sockets.add(socket);
        socket.setMaxListeners(0);
        socket.on("error", () => end());
        socket.on("close", () => {
          sockets.delete(socket);
          end();
        });
      }
      const pipe = (from: Socket, to: Socket, direction: Cut["direction"]): void => {
        let left = cut?.direction === direction ? cut.after : Infinity;
        from.on("data", (bytes: Buffer) => {
          const passing = bytes.subarray(0, left);
          left -= passing.length;
          proxy.passed[direction] += passing.length;
          if (!to.destroyed && passing.length > 0 && !to.write(passing)) {
            from.pause();
            to.once("drain", () => from.resume());
          }
          if (left <= 0) end();
        });
      };
      if (cut?.after === 0) end();
      pipe(client, server, "up");
      pipe(server, client, "down");
    });
    return proxy;
  }

  get address(): string {
    return `grpc://127.0.0.1:${this.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#listener.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

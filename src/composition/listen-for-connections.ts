import { lstat, unlink } from "node:fs/promises";
import type { Socket } from "node:net";
import { connect, createServer } from "node:net";
import { NarborError, errorMessage } from "../errors.ts";
import type { ListenAddress } from "./listen-address.ts";
import { formatListenAddress } from "./listen-address.ts";

export interface Listener {
  /** The one that was picked, where 0 was given; undefined for a Unix socket. */
  readonly port: number | undefined;
  /** Take no more connections; resolves when those that there are have ended. */
  close(): Promise<void>;
}

/** @throws NarborError ERR_UNAVAILABLE when the address cannot be listened at */
export async function listenForConnections(address: ListenAddress, onConnection: (connection: Socket) => void): Promise<Listener> {
  if ("path" in address) await removeStaleSocket(address.path);
  const server = createServer(onConnection);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const what = error.code === "EADDRINUSE" ? "it is in use" : errorMessage(error);
      reject(new NarborError("ERR_UNAVAILABLE", `Cannot listen at ${formatListenAddress(address)}: ${what}`, { cause: error }));
    });
    server.listen(address, resolve);
  });
  const bound = server.address();
  return {
    port: typeof bound === "object" ? bound?.port : undefined,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** A server that was killed leaves its socket behind, which no one can listen at again until it is gone. */
async function removeStaleSocket(path: string): Promise<void> {
  // Connecting to a file that is no socket is refused too.
  if ((await lstat(path).catch(() => undefined))?.isSocket() !== true) return;
  const isStale = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.on("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.on("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
  if (isStale) await unlink(path).catch(() => undefined);
}

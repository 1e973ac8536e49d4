/** Listening: ports that are taken, and Unix sockets that someone left behind. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { lstat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { listenForConnections } from "../../src/composition/listen-for-connections.ts";
import { expectCode } from "../helpers/promises.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

async function socketPath(): Promise<string> {
  const directory = await temporaryDirectory();
  onTestFinished(async () => await directory[Symbol.asyncDispose]());
  return join(directory.path, "narbor.sock");
}

/** What a server that was killed leaves behind. */
async function leaveSocket(path: string): Promise<void> {
  const child = spawn(process.execPath, ["-e", `require("node:net").createServer().listen(${JSON.stringify(path)}, () => console.log("listening"))`]);
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  expect((await lstat(path)).isSocket()).toBe(true);
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  return await new Promise((resolve) => {
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
  }).then((answered) => {
    socket.destroy();
    return answered as boolean;
  });
}

test("listenForConnections() listens at a Unix socket, and removes it when it closes", async () => {
  const path = await socketPath();
  const listener = await listenForConnections({ path }, (socket) => void socket.destroy());
  expect(listener.port).toBeUndefined();
  expect(await answers(path)).toBe(true);
  await listener.close();
  expect(existsSync(path)).toBe(false);
});

test("listenForConnections() takes the place of a socket that a killed server left behind", async () => {
  const path = await socketPath();
  await leaveSocket(path);
  const listener = await listenForConnections({ path }, (socket) => void socket.destroy());
  expect(await answers(path)).toBe(true);
  await listener.close();
});

test("listenForConnections() leaves alone a socket at which someone listens", async () => {
  const path = await socketPath();
  const first = await listenForConnections({ path }, (socket) => void socket.destroy());
  await expectCode(listenForConnections({ path }, () => undefined), "ERR_UNAVAILABLE", `Cannot listen at unix:${path}: it is in use`);
  expect(await answers(path)).toBe(true);
  await first.close();
});

test("listenForConnections() does not remove a file that is no socket", async () => {
  const path = await socketPath();
  await writeFile(path, "precious");
  await expectCode(listenForConnections({ path }, () => undefined), "ERR_UNAVAILABLE", path);
  expect((await lstat(path)).isFile()).toBe(true);
});

test("listenForConnections() says where it cannot listen, and why", async () => {
  const first = await listenForConnections({ host: "127.0.0.1", port: 0 }, () => undefined);
  const port = first.port as number;
  await expectCode(listenForConnections({ host: "127.0.0.1", port }, () => undefined), "ERR_UNAVAILABLE", `Cannot listen at 127.0.0.1:${port}: it is in use`);
  await first.close();
  await expectCode(listenForConnections({ path: "/nonexistent/directory/x.sock" }, () => undefined), "ERR_UNAVAILABLE", "Cannot listen at unix:/nonexistent/directory/x.sock");
});

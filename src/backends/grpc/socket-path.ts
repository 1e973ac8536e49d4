/** What the system has room for, in bytes. Node.js cuts off what is longer, and says nothing of it. */
export const MAX_SOCKET_PATH_BYTES = process.platform === "linux" ? 107 : 103;

/** Why there can be no Unix socket at `path`; undefined when there can. */
export function socketPathProblem(path: string): string | undefined {
  const length = Buffer.byteLength(path);
  return length > MAX_SOCKET_PATH_BYTES ? `the path has ${length} bytes, a Unix socket's has at most ${MAX_SOCKET_PATH_BYTES}` : undefined;
}

import { createServer } from "node:net";

/** Below where systems take ports for outgoing connections from, so that no one else gets it while a server is away for a moment. */
const FIRST = 15_000;
const COUNT = 15_000;

/** A port that is free, and stays so when it is given up and wanted again. */
export async function findSteadyPort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const isFree = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.on("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

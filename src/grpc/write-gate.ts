import { NarborError } from "../errors.ts";

/** Whether clients may write. Every handler that does asks first. */
export interface WriteGate {
  /** @throws NarborError ERR_FORBIDDEN */
  check(): void;
}

export function writeGate(allowWrites: boolean): WriteGate {
  return {
    check: () => {
      if (allowWrites) return;
      throw new NarborError(
        "ERR_FORBIDDEN",
        "Uploads are off: this server listens beyond loopback. Start it with --allow-anonymous-writes to take them from anyone who can reach it",
      );
    },
  };
}

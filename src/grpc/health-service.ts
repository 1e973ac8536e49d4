/** grpc.health.v1 Health: every service is served until the server stops. */
import { setMaxListeners } from "node:events";
import { deferred } from "../concurrency/deferred.ts";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { NarborError } from "../errors.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../proto/gen/grpc/health/v1/health_pb.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";

/**
 * @param names the services that are served
 * @param stopping fires when the server begins to stop; those who watch are told, and their calls end
 */
export function healthService(names: () => readonly string[], stopping: AbortSignal): RpcService {
  // Everyone who watches listens to it.
  setMaxListeners(0, stopping);
  const now = (): ServingStatus => (stopping.aborted ? ServingStatus.NOT_SERVING : ServingStatus.SERVING);
  const isKnown = (service: string): boolean => service === "" || names().includes(service);
  return rpcService(Health, {
    check: async ({ service }) => {
      if (!isKnown(service)) throw new NarborError("ERR_NOT_FOUND", `There is no service ${JSON.stringify(service.slice(0, 200))} here`);
      return { status: now() };
    },
    watch: async function* ({ service }, { signal }) {
      yield { status: isKnown(service) ? now() : ServingStatus.SERVICE_UNKNOWN };
      // A service that is not known now never will be, but whoever watches wants to wait.
      await untilFired(stopping, signal);
      yield { status: isKnown(service) ? now() : ServingStatus.SERVICE_UNKNOWN };
    },
    list: async () => ({ statuses: Object.fromEntries(["", ...names()].map((name) => [name, { status: now() }])) }),
  });
}

/** Wait for `stopping`, which outlives every call and must keep nothing of one that has ended. @throws the reason of `signal` when that fires first */
async function untilFired(stopping: AbortSignal, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = deferred<void>();
  const stop = (): void => resolve();
  if (stopping.aborted) stop();
  else stopping.addEventListener("abort", stop, { once: true });
  try {
    await untilAborted(promise, signal);
  } finally {
    stopping.removeEventListener("abort", stop);
  }
}

/** A signal that fires when its parent does, or on its own. */
export interface LinkedSignal extends Disposable {
  readonly signal: AbortSignal;
  /** Fire with `reason`; only the first reason counts. */
  abort(reason: unknown): void;
}

/**
 * Follow `parent` and keep its reason. Dispose when the work is done: `AbortSignal.any` would leave a reference behind in a parent
 * that lives as long as the server does.
 */
export function linkSignal(parent: AbortSignal | undefined): LinkedSignal {
  const controller = new AbortController();
  const follow = (): void => controller.abort(parent?.reason);
  if (parent?.aborted === true) follow();
  else parent?.addEventListener("abort", follow, { once: true });
  return {
    signal: controller.signal,
    abort: (reason) => {
      if (!controller.signal.aborted) controller.abort(reason);
    },
    [Symbol.dispose]: () => parent?.removeEventListener("abort", follow),
  };
}

import { expect } from "vitest";
import type { ErrorCode } from "../../src/errors.ts";
import { isNarborError } from "../../src/errors.ts";

/** `promise`, or an error when it takes longer: what hangs is said here and not by the whole test's time limit. */
export async function within<T>(promise: Promise<T>, milliseconds = 10_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`Nothing happened within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a promise rejects with, whatever it is. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  const outcome = await within(
    promise.then(
      () => ({ resolved: true }) as const,
      (error: unknown) => ({ resolved: false, error }) as const,
    ),
  );
  if (outcome.resolved) expect.unreachable("it resolved");
  return outcome.error;
}

/** That `promise` rejects with exactly `reason`, the same object. */
export async function expectReason(promise: Promise<unknown>, reason: unknown): Promise<void> {
  expect(await rejection(promise)).toBe(reason);
}

/** That `promise` rejects with one of our errors and this code. */
export async function expectCode(promise: Promise<unknown>, code: ErrorCode, message: string | RegExp = ""): Promise<void> {
  const error = await rejection(promise);
  if (!isNarborError(error)) throw error;
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
}

/** Wait until `condition` holds, for some seconds. */
export async function eventually(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect.unreachable(`it did not come to pass: ${condition.toString()}`);
}

/** A promise and what settles it. */
export function deferred<T = void>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void; readonly reject: (error: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

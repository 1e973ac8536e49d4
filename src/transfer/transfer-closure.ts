/**
 * The order in which a closure moves from one place to another, whichever places they are: all that is missing, many paths at once, and none
 * made known before the paths that it refers to. Whoever stops in the middle leaves whole closures behind, and goes on from there the next time.
 */
import { setMaxListeners } from "node:events";
import { linkSignal } from "../concurrency/linked-signal.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { Semaphore } from "../concurrency/semaphore.ts";
import type { ErrorCode } from "../errors.ts";
import { isNarborError, NarborError } from "../errors.ts";
import type { StorePath } from "../nix/store-path.ts";
import { equalStorePaths, formatStorePath, storePathHashPart } from "../nix/store-path.ts";

/** A path of a closure. */
export interface ClosurePath {
  readonly storePath: StorePath;
  readonly references: readonly StorePath[];
  /** Bytes of its NAR. */
  readonly narSize: number;
}

/** What is done for each path. */
export interface TransferSteps<P extends ClosurePath, Moved> {
  /** Whether the other place has it. Asked for all paths before the first is moved. */
  isPresent(path: P, signal: AbortSignal): Promise<boolean>;
  /** Bring its contents over; `onBytes` is told how many bytes of the NAR have passed. */
  move(path: P, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<Moved>;
  /** Make it known. All that it refers to is known then. */
  register(path: P, moved: Moved, signal: AbortSignal): Promise<void>;
}

/** What a transfer tells as it goes. */
export type TransferEvent<P extends ClosurePath> =
  /** The first one: what is there already, and what will be moved. */
  | { readonly type: "planned"; readonly present: readonly P[]; readonly missing: readonly P[] }
  | { readonly type: "started"; readonly path: P }
  /** Bytes of a path's NAR that have passed. */
  | { readonly type: "bytes"; readonly path: P; readonly bytes: number }
  | { readonly type: "moved"; readonly path: P }
  /** `failedReference` when nothing is wrong with the path itself, but with one that it refers to. */
  | { readonly type: "failed"; readonly path: P; readonly error: NarborError; readonly failedReference: StorePath | undefined };

export interface TransferOptions<P extends ClosurePath> {
  /** `push` or `pull`, for errors. */
  readonly verb: string;
  /** Where the paths come from, for errors: `the store`. */
  readonly source: string;
  /** Paths whose contents are moved at once. */
  readonly jobs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: (event: TransferEvent<P>) => void;
}

/** Lookups under way at once. */
const LOOKUPS = 64;

/** What says something of one path only. Anything else (no space left, no connection, a mistake in the program) would meet the next path too. */
const ERRORS_OF_ONE_PATH: ReadonlySet<ErrorCode> = new Set([
  "ERR_NAR_INVALID",
  "ERR_CASTORE_INVALID",
  "ERR_NIX_INVALID",
  "ERR_MISMATCH",
  "ERR_LIMIT",
  "ERR_INVALID",
  "ERR_NOT_FOUND",
  "ERR_DATA_LOSS",
]);

/**
 * Move those of `paths` that are missing. A path that fails fails those that refer to it, and the others go on; it is told by an event only.
 *
 * @throws the signal's reason, or the first error that is not one path's alone
 */
export async function transferClosure<P extends ClosurePath, Moved>(paths: readonly P[], steps: TransferSteps<P, Moved>, options: TransferOptions<P>): Promise<void> {
  using stop = linkSignal(options.signal);
  const { signal } = stop;
  // Each of many calls at once listens, which Node.js would take for a leak.
  setMaxListeners(0, signal);
  const onEvent = options.onEvent ?? (() => undefined);
  const present: P[] = [];
  const missing: P[] = [];
  for await (const [path, isPresent] of mapConcurrent(paths, LOOKUPS, async (candidate) => [candidate, await steps.isPresent(candidate, signal)] as const)) {
    signal.throwIfAborted();
    (isPresent ? present : missing).push(path);
  }
  onEvent({ type: "planned", present, missing });

  /** Settled when a path is known at the other place, or will not be. By hash part. */
  const outcomes = new Map<string, Promise<void>>(present.map((path) => [keyOf(path.storePath), Promise.resolve()]));
  const failures = new Map<string, NarborError>();
  const slots = new Semaphore(options.jobs);

  const fail = (path: P, error: NarborError, failedReference?: StorePath): void => {
    failures.set(keyOf(path.storePath), error);
    onEvent({ type: "failed", path, error, failedReference });
  };

  /** Fails a path that refers to what is not to be had. */
  const failsForReference = (path: P): boolean => {
    for (const reference of otherReferences(path)) {
      const cannot = `Cannot ${options.verb} ${formatStorePath(path.storePath)}: it refers to ${formatStorePath(reference)}`;
      const failure = failures.get(keyOf(reference));
      const isKnown = outcomes.has(keyOf(reference));
      if (failure !== undefined) fail(path, new NarborError(failure.code, `${cannot}, which failed`, { cause: failure }), reference);
      else if (!isKnown) fail(path, new NarborError("ERR_NOT_FOUND", `${cannot}, which is not in ${options.source}`));
      if (failure !== undefined || !isKnown) return true;
    }
    return false;
  };

  /** @param release the path's slot: it is not held while others are waited for */
  const moveOne = async (path: P, release: () => void): Promise<void> => {
    try {
      if (failsForReference(path)) return;
      onEvent({ type: "started", path });
      const moved = await steps.move(path, signal, (bytes) => onEvent({ type: "bytes", path, bytes })).finally(release);
      await Promise.all(otherReferences(path).map((reference) => outcomes.get(keyOf(reference)) ?? Promise.resolve()));
      signal.throwIfAborted();
      if (failsForReference(path)) return;
      await steps.register(path, moved, signal);
      onEvent({ type: "moved", path });
    } catch (error) {
      if (signal.aborted || !isNarborError(error, ...ERRORS_OF_ONE_PATH)) stop.abort(error);
      else fail(path, error);
    } finally {
      release();
    }
  };

  const { ordered, cyclic } = sortByReferences(missing);
  for (const path of cyclic) {
    fail(path, new NarborError("ERR_INVALID", `Cannot ${options.verb} ${formatStorePath(path.storePath)}: it refers to itself by way of other paths, or to a path that does`));
  }
  for (const path of ordered) {
    // What a path refers to has begun before it, so that none waits for one that has not.
    const release = await slots.acquire(1, signal).catch(() => undefined);
    if (release === undefined) break;
    outcomes.set(keyOf(path.storePath), moveOne(path, release));
  }
  await Promise.all(outcomes.values());
  signal.throwIfAborted();
}

function otherReferences({ storePath, references }: ClosurePath): readonly StorePath[] {
  return references.filter((reference) => !equalStorePaths(reference, storePath));
}

/** Paths after those that they refer to. What goes around in a circle, and what refers to that, has no place in such an order. */
export function sortByReferences<P extends ClosurePath>(paths: readonly P[]): { readonly ordered: readonly P[]; readonly cyclic: readonly P[] } {
  const waiting = new Map(paths.map((path) => [keyOf(path.storePath), { path, untilReady: 0, referrers: [] as P[] }]));
  for (const { path } of waiting.values()) {
    for (const reference of path.references) {
      const referred = waiting.get(keyOf(reference));
      if (referred === undefined || referred.path === path) continue;
      referred.referrers.push(path);
      const own = waiting.get(keyOf(path.storePath));
      if (own !== undefined) own.untilReady++;
    }
  }
  const ordered = [...waiting.values()].filter(({ untilReady }) => untilReady === 0).map(({ path }) => path);
  // The list grows while it is walked.
  for (const path of ordered) {
    const done = waiting.get(keyOf(path.storePath));
    waiting.delete(keyOf(path.storePath));
    for (const referrer of done?.referrers ?? []) {
      const entry = waiting.get(keyOf(referrer.storePath));
      if (entry !== undefined && --entry.untilReady === 0) ordered.push(referrer);
    }
  }
  return { ordered, cyclic: [...waiting.values()].map(({ path }) => path) };
}

function keyOf(storePath: StorePath): string {
  return storePathHashPart(storePath.digest);
}

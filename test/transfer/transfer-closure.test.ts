import { describe, expect, test } from "vitest";
import { NarborError } from "../../src/errors.ts";
import type { ClosurePath, TransferEvent, TransferSteps } from "../../src/transfer/transfer-closure.ts";
import { sortByReferences, transferClosure } from "../../src/transfer/transfer-closure.ts";
import { storePathOf } from "../helpers/path-infos.ts";

function pathOf(name: string, references: readonly string[] = []): ClosurePath {
  return { storePath: storePathOf(name), references: references.map(storePathOf), narSize: 1 };
}

const nameOf = ({ storePath }: ClosurePath): string => storePath.name;

/** Steps that write down what they are asked to do, and do it after a turn or more. */
class RecordedSteps implements TransferSteps<ClosurePath, string> {
  readonly log: string[] = [];
  readonly present: ReadonlySet<string>;
  readonly failures: ReadonlyMap<string, unknown>;
  atOnce = 0;
  mostAtOnce = 0;

  constructor({ present = [], failures = {} }: { readonly present?: readonly string[]; readonly failures?: Readonly<Record<string, unknown>> } = {}) {
    this.present = new Set(present);
    this.failures = new Map(Object.entries(failures));
  }

  async isPresent(path: ClosurePath): Promise<boolean> {
    return this.present.has(nameOf(path));
  }

  async move(path: ClosurePath, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<string> {
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.atOnce);
    try {
      // Those that are named first take longest.
      for (let turns = 10; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      signal.throwIfAborted();
      if (this.failures.has(nameOf(path))) throw this.failures.get(nameOf(path));
      onBytes(1);
      this.log.push(`moved ${nameOf(path)}`);
      return nameOf(path);
    } finally {
      this.atOnce--;
    }
  }

  async register(path: ClosurePath, moved: string): Promise<void> {
    expect(moved).toBe(nameOf(path));
    this.log.push(`registered ${moved}`);
  }
}

async function run(paths: readonly ClosurePath[], steps: TransferSteps<ClosurePath, string>, jobs = 3, signal?: AbortSignal): Promise<TransferEvent<ClosurePath>[]> {
  const events: TransferEvent<ClosurePath>[] = [];
  await transferClosure(paths, steps, { verb: "push", source: "the Nix store", jobs, signal, onEvent: (event) => void events.push(event) });
  return events;
}

/** What became of each path, and why. */
function outcomesOf(events: readonly TransferEvent<ClosurePath>[]): Record<string, string> {
  return Object.fromEntries(events.flatMap((event) => (event.type === "moved" ? [[nameOf(event.path), "moved"]] : event.type === "failed" ? [[nameOf(event.path), event.error.message]] : [])));
}

describe("transferClosure()", () => {
  test("registers every path after all that it refers to, whatever order they are given in", async () => {
    const paths = [pathOf("top", ["left", "right"]), pathOf("left", ["bottom"]), pathOf("right", ["bottom", "right"]), pathOf("bottom"), pathOf("other")];
    const steps = new RecordedSteps();
    expect(outcomesOf(await run(paths, steps))).toEqual({ top: "moved", left: "moved", right: "moved", bottom: "moved", other: "moved" });
    const registered = steps.log.filter((line) => line.startsWith("registered")).map((line) => line.slice("registered ".length));
    for (const path of paths) {
      for (const reference of path.references) if (reference.name !== nameOf(path)) expect(registered.indexOf(reference.name)).toBeLessThan(registered.indexOf(nameOf(path)));
    }
  });

  test("moves as many at once as it is told, also of a chain", async () => {
    const chain = Array.from({ length: 30 }, (_, index) => pathOf(`path-${index}`, index === 0 ? [] : [`path-${index - 1}`]));
    for (const jobs of [1, 4]) {
      const steps = new RecordedSteps();
      expect(Object.values(outcomesOf(await run(chain, steps, jobs)))).toEqual(Array.from({ length: 30 }, () => "moved"));
      expect(steps.mostAtOnce).toBe(jobs);
    }
  });

  test("moves only what is missing, and tells first what that is", async () => {
    const steps = new RecordedSteps({ present: ["bottom"] });
    const events = await run([pathOf("top", ["bottom"]), pathOf("bottom")], steps);
    expect(events[0]).toMatchObject({ type: "planned", present: [{ narSize: 1 }], missing: [{ references: [storePathOf("bottom")] }] });
    expect(steps.log).toEqual(["moved top", "registered top"]);
  });

  test("fails what refers to a path that failed, by way of others too, and goes on with the rest", async () => {
    const failure = new NarborError("ERR_MISMATCH", "it is broken");
    const steps = new RecordedSteps({ failures: { bad: failure } });
    const events = await run([pathOf("bad"), pathOf("user", ["bad"]), pathOf("top", ["user", "good"]), pathOf("good"), pathOf("other", ["good"])], steps);
    expect(outcomesOf(events)).toEqual({
      bad: "it is broken",
      good: "moved",
      other: "moved",
      user: expect.stringMatching(/^Cannot push \/nix\/store\/\w+-user: it refers to \/nix\/store\/\w+-bad, which failed$/) as string,
      top: expect.stringMatching(/-top: it refers to \/nix\/store\/\w+-user, which failed$/) as string,
    });
    const failed = events.flatMap((event) => (event.type === "failed" ? [event] : []));
    expect(failed.map(({ error }) => error.code)).toEqual(["ERR_MISMATCH", "ERR_MISMATCH", "ERR_MISMATCH"]);
    expect(failed.map(({ failedReference }) => failedReference?.name)).toEqual([undefined, "bad", "user"]);
    expect(steps.log).not.toContain("registered user");
  });

  test("fails what refers to a path that is nowhere, and names both", async () => {
    const steps = new RecordedSteps();
    const events = await run([pathOf("top", ["gone"]), pathOf("other")], steps);
    expect(outcomesOf(events)).toMatchObject({ other: "moved", top: expect.stringMatching(/-top: it refers to .*-gone, which is not in the Nix store$/) as string });
    expect(events).toContainEqual(expect.objectContaining({ type: "failed", failedReference: undefined, error: expect.objectContaining({ code: "ERR_NOT_FOUND" }) as Error }));
    expect(steps.log).toEqual(["moved other", "registered other"]);
  });

  test("fails paths that refer to each other in a circle", async () => {
    const events = await run([pathOf("a", ["b"]), pathOf("b", ["c"]), pathOf("c", ["a"]), pathOf("user", ["a"]), pathOf("good", ["good"])], new RecordedSteps());
    expect(outcomesOf(events)).toMatchObject({ good: "moved", a: expect.stringMatching(/refers to itself by way of other paths/) as string, user: expect.stringMatching(/^Cannot push/) as string });
  });

  test.for([
    ["no space left", new NarborError("ERR_NO_SPACE", "no space left")],
    ["a mistake in the program", new TypeError("undefined is not a function")],
  ] as const)("stops all at an error that is not one path's alone: %s", async ([, failure]) => {
    const steps = new RecordedSteps({ failures: { "path-3": failure } });
    const paths = Array.from({ length: 100 }, (_, index) => pathOf(`path-${index}`));
    await expect(run(paths, steps)).rejects.toBe(failure);
    expect(steps.log.length).toBeLessThan(20);
    expect(steps.atOnce).toBe(0);
  });

  test("rejects with the signal's reason, and leaves nothing under way", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const steps = new RecordedSteps();
    const paths = Array.from({ length: 100 }, (_, index) => pathOf(`path-${index}`, index === 0 ? [] : ["path-0"]));
    const running = run(paths, steps, 3, controller.signal);
    setTimeout(() => controller.abort(reason), 5);
    await expect(running).rejects.toBe(reason);
    expect(steps.atOnce).toBe(0);
    await expect(run(paths, steps, 3, controller.signal)).rejects.toBe(reason);
  });

  test("rejects when it cannot be told what is there", async () => {
    const failure = new NarborError("ERR_UNAVAILABLE", "no answer");
    const steps = new RecordedSteps();
    steps.isPresent = async () => await Promise.reject(failure);
    await expect(run([pathOf("a"), pathOf("b")], steps)).rejects.toBe(failure);
    expect(steps.log).toEqual([]);
  });
});

test("sortByReferences() takes a chain of 30,000 paths without running out of stack", () => {
  const chain = Array.from({ length: 30_000 }, (_, index) => pathOf(`path-${index}`, index === 29_999 ? [] : [`path-${index + 1}`]));
  const { ordered, cyclic } = sortByReferences(chain);
  expect([ordered.length, cyclic.length, ordered[0]?.storePath.name, ordered.at(-1)?.storePath.name]).toEqual([30_000, 0, "path-29999", "path-0"]);
});

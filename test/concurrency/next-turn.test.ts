import { describe, expect, it } from "vitest";
import { nextTurn } from "../../src/concurrency/next-turn.ts";

describe("nextTurn", () => {
  it("lets one go on in each turn, in the order in which they came", async () => {
    const seen: string[] = [];
    let turns = 0;
    const count = (): void => {
      turns++;
      if (turns < 6) setImmediate(count);
    };
    const work = async (name: string): Promise<void> => {
      for (let step = 0; step < 2; step++) {
        await nextTurn();
        seen.push(`${name} in turn ${turns}`);
      }
    };
    setImmediate(count);
    await Promise.all(["a", "b", "c"].map(work));
    expect(seen).toEqual(["a in turn 1", "b in turn 2", "c in turn 3", "a in turn 4", "b in turn 5", "c in turn 6"]);
  });

  it("lets others be answered between two who wait for nothing", async () => {
    let isAnswered = false;
    const answered = new Promise<void>((resolve) => setTimeout(() => resolve(), 0)).then(() => void (isAnswered = true));
    let turnsBefore = 0;
    const work = async (): Promise<void> => {
      while (!isAnswered) {
        turnsBefore++;
        await nextTurn();
      }
    };
    await Promise.all([work(), work(), answered]);
    expect(turnsBefore).toBeGreaterThan(0);
    expect(isAnswered).toBe(true);
  });
});

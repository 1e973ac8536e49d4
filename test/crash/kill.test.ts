import { expect, test } from "vitest";
import { crashRounds } from "../helpers/crash-rounds.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";

test("narbor serve keeps what it acknowledged when it is killed, 20 times at random moments", { timeout: 300_000 }, async () => {
  await using directory = await temporaryDirectory();
  const report = await crashRounds(directory.path, 20);
  expect(report.rounds).toBe(20);
  expect(report.acknowledged).toBeGreaterThan(20);
});

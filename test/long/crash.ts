/** `npm run test:crash [ROUNDS]`: the crash test for longer. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crashRounds } from "../helpers/crash-rounds.ts";

const rounds = Number(process.argv[2] ?? 200);
const directory = await mkdtemp(join(tmpdir(), "narbor-crash-"));
const report = await crashRounds(directory, rounds, (line) => console.log(line));
await rm(directory, { recursive: true, force: true });
console.log(`${report.rounds} kills, ${report.acknowledged} pushes acknowledged and there, ${report.interrupted} interrupted and repeated: no promise broken`);

/**
 * A hundred thousand damaged tar archives, or as many as the first argument says: each is read as Go's archive/tar reads it, or refused with
 * ERR_TAR_INVALID, the same in two cuts, and all bytes of what is read are given back. The second argument is the seed. `npm run test:mutate-tar`
 */
import { isDeepStrictEqual } from "node:util";
import { isNarborError } from "../../src/errors.ts";
import { chunked } from "../helpers/bytes.ts";
import { decodeTar } from "../helpers/tar-events.ts";
import { seededRandom } from "../nar/mutate-nar.ts";
import { mutateTar } from "../tar/mutate-tar.ts";
import { differencesFromGo, GO, GoTar } from "../tar/references.ts";
import { READ } from "../tar/tar-cases.ts";

const BATCH = 5_000;
const MEMORY_LIMIT_BYTES = 512 * 1024 * 1024;

const runs = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? Date.now() & 0x7fff_ffff);
const random = seededRandom(seed);
const originals = READ.filter(({ archive }) => archive.length < 20_000).map(({ archive }) => archive);
using go = GO === undefined ? undefined : await GoTar.build(GO);
const before = process.memoryUsage();
let accepted = 0;

for (let run = 0; run < runs; run += BATCH) {
  const mutants = Array.from({ length: Math.min(BATCH, runs - run) }, (_, index) => mutateTar(originals[(run + index) % originals.length] as Buffer, random));
  for (const mutant of mutants) {
    const whole = outcome([mutant]);
    if (!isDeepStrictEqual(outcome(chunked(mutant, 1 + random(1_500))), whole)) fail(mutant, "whole it is not what it is cut");
    if (typeof whole === "string") continue;
    accepted++;
    if (!whole.bytes.equals(mutant)) fail(mutant, "its bytes are not given back");
  }
  const [difference] = go === undefined ? [] : (await differencesFromGo(go, mutants)).differences;
  if (difference !== undefined) fail(Buffer.alloc(0), difference);
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  if (arrayBuffers + heapUsed - before.arrayBuffers - before.heapUsed > MEMORY_LIMIT_BYTES) fail(Buffer.alloc(0), "memory has grown");
}
console.log(`${runs} mutants (seed ${seed}): ${accepted} accepted, ${runs - accepted} refused${go === undefined ? "" : ", as Go has it"}`);

function outcome(pieces: Iterable<Uint8Array>): ReturnType<typeof decodeTar> | string {
  try {
    return decodeTar(pieces);
  } catch (error) {
    if (isNarborError(error, "ERR_TAR_INVALID")) return error.message;
    throw error;
  }
}

function fail(mutant: Buffer, what: string): never {
  console.error(`Seed ${seed}: ${what}\n${mutant.toString("base64")}`);
  process.exit(1);
}

/**
 * A hundred thousand damaged NARs, or as many as the first argument says: each is read or refused with ERR_NAR_INVALID, the same in
 * two cuts, and no memory is taken by what a length claims. The second argument is the seed. `npm run test:mutate`
 */
import { isDeepStrictEqual } from "node:util";
import { isNarborError } from "../../src/errors.ts";
import { chunked } from "../helpers/bytes.ts";
import { decodeNar, treeOfEvents } from "../helpers/nar-events.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { narVector } from "../helpers/vectors.ts";
import { mutateNar, seededRandom } from "../nar/mutate-nar.ts";

const MEMORY_LIMIT_BYTES = 256 * 1024 * 1024;
const NAMES = ["complicated", "emptydirectory", "helloworld", "onebyteexecutable", "onebyteregular", "popdirectories", "symlink", "nix/case", "nix/unnormalized"];

const runs = Number(process.argv[2] ?? 100_000);
const seed = Number(process.argv[3] ?? Date.now() & 0x7fff_ffff);
const random = seededRandom(seed);
const originals = NAMES.map((name) => narVector(`${name}.nar`));
const before = process.memoryUsage();
let accepted = 0;
let peak = 0;

for (let run = 0; run < runs; run++) {
  const mutant = mutateNar(originals[run % originals.length] as Uint8Array, random);
  const whole = outcome([mutant], run);
  const cut = outcome(chunked(mutant, 1 + random(40)), run);
  if (!isDeepStrictEqual(whole, cut)) fail(run, mutant, `whole it is ${JSON.stringify(whole)}, cut ${JSON.stringify(cut)}`);
  if (typeof whole !== "string") {
    accepted++;
    if (Buffer.compare(referenceNar(treeOfEvents(whole)), mutant) !== 0) fail(run, mutant, "it was accepted and is not canonical");
  }
  if (run % 1_000 === 0) {
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    peak = Math.max(peak, arrayBuffers + heapUsed - before.arrayBuffers - before.heapUsed);
    if (peak > MEMORY_LIMIT_BYTES) fail(run, mutant, `memory has grown by ${peak} bytes`);
  }
}
console.log(`${runs} mutants (seed ${seed}): ${accepted} accepted, ${runs - accepted} refused, memory grew by at most ${Math.round(peak / 2 ** 20)} MiB`);

function outcome(pieces: Iterable<Uint8Array>, run: number): ReturnType<typeof decodeNar> | string {
  try {
    return decodeNar(pieces);
  } catch (error) {
    // What was found depends on the cut: a tag is refused at its first wrong byte.
    if (isNarborError(error, "ERR_NAR_INVALID")) return error.message.replace(/, found .* at byte/, " at byte");
    console.error(`Run ${run} of seed ${seed}:`);
    throw error;
  }
}

function fail(run: number, mutant: Uint8Array, what: string): never {
  console.error(`Run ${run} of seed ${seed}: ${what}\n${Buffer.from(mutant).toString("base64")}`);
  process.exit(1);
}

/** What a bench has found, as a line on the terminal and, for `bench/run.ts`, in a file. */
import { appendFileSync } from "node:fs";
import { printRow } from "./figures.ts";

/** A claim that was measured. */
export interface Claim {
  /** Its number in `bench/README.md`. */
  readonly number: number;
  readonly what: string;
  readonly narbor: string;
  /** What it is measured against, in the same run. */
  readonly beside: string;
  readonly ratio: string;
  readonly wanted: string;
  readonly isMet: boolean;
}

/** Where `bench/run.ts` wants to have them, a JSON document in each line. */
const RESULTS = process.env["BENCH_RESULTS"];

export function claim(found: Claim): void {
  printRow(`${found.number}. ${found.what}`, found.narbor, found.beside, found.ratio, `wanted ${found.wanted}`, found.isMet ? "met" : "NOT MET");
  if (RESULTS !== undefined) appendFileSync(RESULTS, `${JSON.stringify(found)}\n`);
}

/** `measured` is at least `wanted`, as a claim has it. */
export function atLeast(measured: number, wanted: number): Pick<Claim, "ratio" | "wanted" | "isMet"> {
  return { ratio: `${measured.toFixed(2)} ×`, wanted: `≥ ${wanted} ×`, isMet: measured >= wanted };
}

export function atMost(measured: number, wanted: number): Pick<Claim, "ratio" | "wanted" | "isMet"> {
  return { ratio: `${measured.toFixed(2)} ×`, wanted: `≤ ${wanted} ×`, isMet: measured <= wanted };
}

/**
 * The decoder against Go's archive/tar, which is what container runtimes read layers with: on every archive of tar-cases.ts, on what is left of
 * them when they are cut short, on archives that are damaged at random, and on those that Go's own tests have.
 * What we read, Go must read, and the same in it; what we refuse and Go reads must be one of the things of which TarDecoder says so.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { seededRandom } from "../nar/mutate-nar.ts";
import { outputOf } from "../helpers/programs.ts";
import { mutateTar } from "./mutate-tar.ts";
import { asGoSees, differencesFromGo, GO, GoTar } from "./references.ts";
import { READ, REFUSED } from "./tar-cases.ts";

describe.skipIf(GO === undefined)("against Go's archive/tar", () => {
  let go: GoTar;
  beforeAll(async () => {
    go = await GoTar.build(GO ?? "");
  });
  afterAll(() => go[Symbol.dispose]());

  test("TarDecoder reads every case as Go does", async () => {
    const listings = await go.list(READ.map(({ archive }) => archive));
    for (const [index, { what, archive }] of READ.entries()) {
      expect(listings[index], what).toEqual({ entries: asGoSees(archive), error: "" });
    }
  });

  test("TarDecoder refuses what Go refuses, and what it says that Go reads", async () => {
    const listings = await go.list(REFUSED.map(({ archive }) => archive));
    for (const [index, refused] of REFUSED.entries()) {
      expect(listings[index]?.error === "" ? "reads" : "refuses", `${refused.what}: ${listings[index]?.error}`).toBe(refused.go ?? "refuses");
    }
  });

  test("TarDecoder reads archives that are cut short as Go does", async () => {
    const archives = READ.filter(({ archive }) => archive.length < 6_000).flatMap(({ archive }) => Array.from({ length: Math.floor(archive.length / 61) }, (_, index) => archive.subarray(0, index * 61)));
    // And where a byte makes a difference.
    for (const { archive } of READ.slice(0, 40)) for (let at = 512; at < Math.min(archive.length, 6_000); at += 512) archives.push(archive.subarray(0, at - 1), archive.subarray(0, at), archive.subarray(0, at + 1));
    await expectAsGo(go, archives);
  });

  test("TarDecoder reads damaged archives as Go does", async () => {
    const random = seededRandom(20_260_802);
    const originals = READ.filter(({ archive }) => archive.length < 20_000).map(({ archive }) => archive);
    const counts = await expectAsGo(go, Array.from({ length: 6_000 }, (_, run) => mutateTar(originals[run % originals.length] as Buffer, random)));
    expect(counts.both).toBeGreaterThan(1_000);
    expect(counts.neither).toBeGreaterThan(1_000);
  });

  test("TarDecoder reads the archives of Go's own tests as Go does", async ({ skip }) => {
    const root = (await outputOf(GO ?? "", ["env", "GOROOT"])).toString().trim();
    const archives = archivesIn(join(root, "src/archive/tar/testdata"));
    if (archives.length === 0) {
      console.log("not covered: the archives of Go's own tests, which this Go has been installed without");
      return skip("no testdata");
    }
    expect(archives.length).toBeGreaterThan(30);
    const counts = await expectAsGo(go, archives);
    expect(counts.both).toBeGreaterThan(20);
  });
});

async function expectAsGo(go: GoTar, archives: readonly Buffer[]): Promise<{ readonly both: number; readonly neither: number }> {
  const { differences, ...counts } = await differencesFromGo(go, archives);
  expect(differences).toEqual([]);
  return counts;
}

/** The archives of a directory; some are in base64, so that no virus scanner objects to Go. */
function archivesIn(directory: string): Buffer[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const bytes = readFileSync(join(directory, name));
    if (name.endsWith(".tar")) return [bytes];
    return name.endsWith(".tar.base64") ? [Buffer.from(bytes.toString(), "base64")] : [];
  });
}

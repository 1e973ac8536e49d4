/**
 * The layers, as data. A row may import rows below it, never its neighbours. `npm run architecture` writes the picture in ARCHITECTURE.md anew.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const LAYERS: readonly (readonly [places: readonly string[], what: string])[] = [
  [["cli", "index.ts"], "argv, exit codes; the public names"],
  [["composition"], "from an address to a store"],
  [["http", "grpc", "backends"], "the binary cache; the castore protocols, served; the stores: memory, packs, and any that is served over gRPC"],
  [["image", "maintenance", "transfer"], "container images in, archives of any kind out; verify a whole store; move closures from one store to another"],
  [["ingest", "render"], "NARs and tar archives to castore; castore to NARs and tar archives"],
  [["store"], "PathInfo, PathInfoService, NarIndex, documents, what was computed"],
  [["castore"], "nodes, directories, recipes, BlobService, DirectoryService: model and interfaces only"],
  [["nar", "tar", "nix", "compression", "proto"], "formats: no services, no network"],
  [["hash", "concurrency"], "BLAKE3, SHA-256, FastCDC; semaphore, bounded map, signals"],
  [["bytes"], "byte strings: compare, collect, encode"],
  [["errors.ts"], "one error class, one closed list of codes"],
];

const SOURCE = resolve(import.meta.dirname, "../src");
const PAGE = resolve(import.meta.dirname, "../ARCHITECTURE.md");
const BEGIN = "<!-- layers: written by npm run architecture -->";
const END = "<!-- end of layers -->";

interface Import {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

test("every file in src belongs to a layer", () => {
  const unknown = sourceFiles().filter((file) => layerOf(placeOf(file)) === undefined);
  expect(unknown).toEqual([]);
});

test("no import goes up, or to a neighbour in the same row", () => {
  const wrong = imports().filter(({ from, to }) => from !== to && (layerOf(to) ?? -1) <= (layerOf(from) ?? -1));
  expect(wrong).toEqual([]);
});

test("no file imports itself by way of others", () => {
  expect(findCycle()).toBeUndefined();
});

test("only composition and the public index name a backend by value", () => {
  const named = imports().filter(({ to, file }) => to === "backends" && !file.startsWith("backends/") && !file.startsWith("composition/") && file !== "index.ts");
  const byValue = named.filter(({ file }) => /^import (?!type )[^;]*from "[^"]*backends\//m.test(read(file)));
  expect(byValue).toEqual([]);
});

test("no source file holds what the style forbids: any, a default export, an enum", () => {
  const forbidden = /\bas any\b|: any\b|<any>|^export default\b|^(export )?(const )?enum\b/m;
  const found = sourceFiles().filter((file) => !file.startsWith("proto/gen/") && !file.endsWith(".d.ts") && forbidden.test(read(file)));
  expect(found).toEqual([]);
});

test("ARCHITECTURE.md shows the layers as they are", () => {
  const page = readFileSync(PAGE, "utf8");
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  expect(begin).toBeGreaterThan(0);
  const current = `${page.slice(0, begin)}${BEGIN}\n${picture()}${page.slice(end)}`;
  if (process.env["UPDATE_ARCHITECTURE"] === "1") writeFileSync(PAGE, current);
  else expect(page, "stale: run npm run architecture").toBe(current);
});

function picture(): string {
  const uses = new Map<string, Set<string>>();
  for (const { from, to } of imports()) if (from !== to) uses.set(from, (uses.get(from) ?? new Set()).add(to));
  const rows = LAYERS.map(([places, what], index) => {
    const present = places.filter((place) => sourceFiles().some((file) => placeOf(file) === place));
    const arrows = present.map((place) => {
      const targets = [...(uses.get(place) ?? [])].sort((a, b) => (layerOf(a) ?? 0) - (layerOf(b) ?? 0) || a.localeCompare(b));
      return `\`${place}\` → ${targets.filter((target) => target !== "errors.ts").join(", ") || "nothing"}`;
    });
    return present.length === 0 ? "" : `| ${index + 1} | ${present.map((place) => `\`${place}\``).join(" ")} | ${what} | ${arrows.join("<br>")} |\n`;
  });
  return `\n| | Folders | What they are | What they import (errors.ts aside) |\n|--:|---|---|---|\n${rows.join("")}\n`;
}

function sourceFiles(): string[] {
  return (readdirSync(SOURCE, { recursive: true }) as string[]).filter((file) => file.endsWith(".ts")).sort();
}

function read(file: string): string {
  return readFileSync(join(SOURCE, file), "utf8");
}

function placeOf(file: string): string {
  return file.split("/")[0] ?? file;
}

function layerOf(place: string): number | undefined {
  const layer = LAYERS.findIndex(([places]) => places.includes(place));
  return layer < 0 ? undefined : layer;
}

function importedFiles(file: string): string[] {
  return [...read(file).matchAll(/(?:from|import)(?:\s+|\()"(\.[^"]+)"/g)].map(([, specifier]) => relative(SOURCE, resolve(SOURCE, dirname(file), specifier ?? "")));
}

function imports(): Import[] {
  return sourceFiles().flatMap((file) => importedFiles(file).map((target) => ({ file, from: placeOf(file), to: placeOf(target) })));
}

/** A cycle of imports that are there when the program runs (types are not), if there is one. */
function findCycle(): readonly string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, above: readonly string[]): readonly string[] | undefined => {
    if (above.includes(file)) return [...above.slice(above.indexOf(file)), file];
    if (done.has(file)) return undefined;
    const text = read(file).replace(/^(import|export) type [^;]*;/gm, "");
    const targets = [...text.matchAll(/from\s+"(\.[^"]+\.ts)"/g)].map(([, specifier]) => relative(SOURCE, resolve(SOURCE, dirname(file), specifier ?? "")));
    for (const target of targets) {
      const cycle = visit(target, [...above, file]);
      if (cycle !== undefined) return cycle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of sourceFiles()) {
    const cycle = visit(file, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

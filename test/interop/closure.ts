/** Store paths that refer to each other, made without a builder: as the stream that `nix-store --export` writes. */
import { createHash } from "node:crypto";
import { encodeNix32 } from "../../src/nix/nix32.ts";
import { sampleBytes } from "../helpers/bytes.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { directory, file, referenceNar, str, symlink } from "../helpers/reference-nar.ts";

export interface ClosurePath {
  readonly path: string;
  /** Made anew at each call: a closure may be larger than is good to hold. */
  readonly nar: () => Uint8Array;
  readonly references: readonly string[];
  readonly deriver?: string;
}

const EXPORT_MAGIC = 0x4558494e;

/** A store path by its name; its hash is made of that and `salt`. */
export function storePathOf(name: string, salt = ""): string {
  return `/nix/store/${encodeNix32(createHash("sha256").update(`${salt}:${name}`).digest().subarray(0, 20))}-${name}`;
}

/** `<hash>` of `/nix/store/<hash>-<name>`. */
export function hashPartOf(path: string): string {
  return path.slice("/nix/store/".length).split("-")[0] ?? "";
}

/** What `nix-store --import` reads. Paths must come after those they refer to. */
export function* exportStream(paths: readonly ClosurePath[]): Generator<Uint8Array, void, undefined> {
  for (const { path, nar, references, deriver = "" } of paths) {
    yield uint64(1);
    yield nar();
    const strings = [path, uint64(references.length), ...references, deriver].map((part) => (typeof part === "string" ? str(part) : part));
    // The last is for signatures of a form that was given up before Nix 2.
    yield Buffer.concat([uint64(EXPORT_MAGIC), ...strings, uint64(0)]);
  }
  yield uint64(0);
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function closurePath(name: string, tree: (path: string) => Tree, references: readonly ClosurePath[], options: { readonly self?: boolean; readonly deriver?: string } = {}): ClosurePath {
  const path = storePathOf(name);
  return {
    path,
    nar: () => referenceNar(tree(path)),
    references: [...references.map((reference) => reference.path), ...(options.self === true ? [path] : [])],
    ...(options.deriver !== undefined && { deriver: options.deriver }),
  };
}

/** Every kind of path in little: all kinds of root, names and targets of all sorts, references to others and to itself. The last refers to all. */
export function sampleClosure(): ClosurePath[] {
  const everything = closurePath(
    "everything-1.0",
    () =>
      directory({
        "a b": file("a name with a space"),
        "__proto__": file("a name that is special to JavaScript"),
        bin: directory({ tool: file("#!/bin/sh\necho tool\n", true), link: symlink("tool"), nowhere: symlink("/nonexistent") }),
        empty: file(""),
        "empty-directory": directory({}),
        "\u{ff5e}": file("after the next in UTF-16, before it in UTF-8"),
        "\u{1f600}": file("\u{1f600}"),
        share: directory({
          "300k": file(sampleBytes(300_001)),
          "300k-again": file(sampleBytes(300_001)),
          "zeros": file(new Uint8Array(1_000_000)),
          deep: directory({ deeper: directory({ deepest: directory({ file: file("x") }) }) }),
        }),
      }),
    [],
  );
  const program = closurePath("program", (path) => file(`#!/bin/sh\nexec ${path} ${everything.path}/bin/tool\n`, true), [everything], { self: true, deriver: storePathOf("program.drv") });
  const link = closurePath("link", () => symlink(program.path), [program]);
  const data = closurePath("data.txt", () => file("only bytes\n"), []);
  const all = [everything, program, link, data];
  return [...all, closurePath("all", () => directory(Object.fromEntries(all.map(({ path }, index) => [`link-${index}`, symlink(path)]))), all)];
}

/** `count` paths, each referring to some before it; the last one's closure is all of them. */
export function manyPaths(count: number, bytesEach = 500): ClosurePath[] {
  const paths: ClosurePath[] = [];
  for (let index = 0; index < count; index++) {
    const references = [...new Set([index - 1, index - 7, index >> 1])].flatMap((other) => (other >= 0 && other < index ? [paths[other] as ClosurePath] : []));
    const tree = (): Tree =>
      directory({
        deps: file(references.map(({ path }) => path).join("\n")),
        data: file(sampleBytes(bytesEach, index + 1)),
        link: symlink("data"),
        shared: file("the same in all"),
      });
    paths.push(closurePath(`path-${index}`, tree, references));
  }
  return paths;
}

/** A path of `directories` directories of 200 small files each, many of them alike. */
export function manyFiles(directories: number): ClosurePath {
  const files = (base: number): Tree =>
    directory(Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`file-${index}`, file(`file ${(base * 200 + index) % 30_000}\n`, index % 10 === 0)])));
  return closurePath("many-files", () => directory(Object.fromEntries(Array.from({ length: directories }, (_, index) => [`directory-${index}`, files(index)]))), []);
}

/** Paths of one file each that nothing refers to. */
export function looseFiles(count: number, prefix: string): ClosurePath[] {
  return Array.from({ length: count }, (_, index) => closurePath(`${prefix}-${index}`, () => file(`${prefix} ${index}`), []));
}

/** Two paths with the same contents. */
export function twins(): readonly [ClosurePath, ClosurePath] {
  const tree = directory({ same: file("contents") });
  return [closurePath("twin-a", () => tree, []), closurePath("twin-b", () => tree, [])];
}

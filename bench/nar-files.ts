/** NARs as files, as a binary cache that is served by a file server has them. */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { encodeNix32 } from "../dist/nix/nix32.js";
import type { Corpus } from "./nar-corpus.ts";

/** Write a NAR into a directory that has a `nar/`, and give its path there, which is its path in a binary cache. */
export async function writeNar(directory: string, corpus: Corpus): Promise<string> {
  const hash = createHash("sha256");
  const unnamed = join(directory, "unnamed");
  await pipeline(
    corpus.read(),
    async function* (source) {
      for await (const chunk of source) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(unnamed),
  );
  const path = `/nar/${encodeNix32(hash.digest())}.nar`;
  await rename(unnamed, join(directory, path));
  return path;
}

/** Upload such a file. */
export async function uploadNar(url: string, directory: string, path: string): Promise<void> {
  const uploaded = await fetch(`${url}${path}`, { method: "PUT", body: createReadStream(join(directory, path)), duplex: "half" });
  if (uploaded.status !== 201) throw new Error(`PUT: ${uploaded.status} ${await uploaded.text()}`);
}

/** How a person names a path of this machine's Nix store: by itself, something below it, or a link that leads there. */
import { lstat, readlink } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { NarborError } from "../errors.ts";
import type { StorePath } from "../nix/store-path.ts";
import { parseStorePath, parseStorePathBaseName, STORE_DIR } from "../nix/store-path.ts";

/** More links than that go around in a circle. */
const MAX_LINKS = 40;

/**
 * The store path that is meant. Links are followed until they lead into the store, as Nix does it; what they lead to need not be there.
 *
 * @throws NarborError ERR_NOT_FOUND when there is no such file, ERR_INVALID when it is not in the Nix store, ERR_NIX_INVALID when it is no store path
 */
export async function resolveLocalStorePath(text: string): Promise<StorePath> {
  if (/^[0-9a-z]{32}-[^/]+$/.test(text)) return parseStorePathBaseName(text);
  let path = resolve(text);
  for (let links = 0; links <= MAX_LINKS; links++) {
    if (path.startsWith(`${STORE_DIR}/`)) return parseStorePath(path.split("/").slice(0, 4).join("/"));
    const next = await followFirstLink(path, text);
    if (next === undefined) throw new NarborError("ERR_INVALID", `Cannot push ${JSON.stringify(text)}: it is not in the Nix store; "narbor import --add" takes in what is elsewhere`);
    path = next;
  }
  throw new NarborError("ERR_INVALID", `Cannot push ${JSON.stringify(text)}: its links go around in a circle`);
}

/** `path` with the first link in it replaced by what that leads to; undefined when there is none. */
async function followFirstLink(path: string, text: string): Promise<string | undefined> {
  const names = path.split(sep).slice(1);
  for (let count = 1; count <= names.length; count++) {
    const above = `/${names.slice(0, count).join("/")}`;
    const stats = await lstat(above).catch((error: unknown) => {
      throw new NarborError("ERR_NOT_FOUND", `There is no ${JSON.stringify(text)}`, { cause: error });
    });
    if (stats.isSymbolicLink()) return join(resolve(dirname(above), await readlink(above)), ...names.slice(count));
  }
  return undefined;
}

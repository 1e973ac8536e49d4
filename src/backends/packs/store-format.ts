/** What a store is: `narbor.json` in its directory, written once when the store is made. */
import { randomBytes } from "node:crypto";
import { link, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { DirectorySizeProfile } from "../../castore/directory.ts";
import { NarborError } from "../../errors.ts";
import { syncDirectory } from "./pack-appender.ts";
import { hasErrorCode, toStoreError } from "./system-error.ts";

/** The format this program writes, and the newest it reads. 1 had no framing in blocks, and reads it as chunks of gigabytes. */
export const STORE_VERSION = 2;

export interface StoreFormat {
  readonly version: number;
  readonly directorySizeProfile: DirectorySizeProfile;
}

const FILE_NAME = "narbor.json";

/** @throws NarborError ERR_STORE_VERSION for a newer store, ERR_STORE for something else; undefined when there is none */
export async function readStoreFormat(directory: string): Promise<StoreFormat | undefined> {
  let text: string;
  try {
    text = await readFile(join(directory, FILE_NAME), "utf8");
  } catch (error) {
    if (hasErrorCode(error, "ENOENT") || hasErrorCode(error, "ENOTDIR")) return undefined;
    throw toStoreError(`Cannot open the store "${directory}"`, error);
  }
  const { format, version, directorySize } = parseObject(directory, text);
  if (format !== "narbor-store" || typeof version !== "number") throw notAStore(directory);
  if (version > STORE_VERSION) {
    throw new NarborError(
      "ERR_STORE_VERSION",
      `Cannot open the store "${directory}": its format is version ${version}, this narbor reads up to ${STORE_VERSION}; use a newer narbor`,
    );
  }
  if (directorySize !== "documented" && directorySize !== "doubled") throw notAStore(directory);
  return { version, directorySizeProfile: directorySize };
}

/** Write it, unless another process did so first; then that one counts. */
export async function createStoreFormat(directory: string, directorySizeProfile: DirectorySizeProfile): Promise<void> {
  // A link, unlike a rename, never takes another one's place.
  await writeFormat(directory, directorySizeProfile, `Cannot make a store in "${directory}"`, async (temporary, file) =>
    await link(temporary, file).catch((error: unknown) => {
      if (!hasErrorCode(error, "EEXIST")) throw error;
    }),
  );
}

/** Say that an older store is of this version from now on, before anything is written to it that an older program would misread. */
export async function upgradeStoreFormat(directory: string, { directorySizeProfile }: StoreFormat): Promise<void> {
  await writeFormat(directory, directorySizeProfile, `Cannot open the store "${directory}": it is of an older format, which is written anew`, rename);
}

async function writeFormat(directory: string, directorySizeProfile: DirectorySizeProfile, cannot: string, place: (temporary: string, file: string) => Promise<void>): Promise<void> {
  const text = `${JSON.stringify({ format: "narbor-store", version: STORE_VERSION, directorySize: directorySizeProfile }, undefined, 2)}\n`;
  const temporary = join(directory, `.${FILE_NAME}.${randomBytes(6).toString("hex")}`);
  try {
    await writeFile(temporary, text, { flush: true });
    await place(temporary, join(directory, FILE_NAME));
    await syncDirectory(directory);
  } catch (error) {
    throw toStoreError(cannot, error);
  } finally {
    await unlink(temporary).catch(() => undefined);
  }
}

function parseObject(directory: string, text: string): Record<"format" | "version" | "directorySize", unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return { format: undefined, version: undefined, directorySize: undefined, ...value };
  } catch {
    // Said below.
  }
  throw notAStore(directory);
}

function notAStore(directory: string): NarborError {
  return new NarborError("ERR_STORE", `Cannot open the store "${directory}": its ${FILE_NAME} is not one that narbor wrote`);
}

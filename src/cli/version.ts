import { createRequire } from "node:module";

/** Of the program, from its package. */
export const VERSION = (createRequire(import.meta.url)("../../package.json") as { readonly version: string }).version;

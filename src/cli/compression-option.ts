import { InvalidArgumentError } from "commander";
import type { BlockCompression } from "../castore/block-writer.ts";

/** `--compression`: a zstd level, or none. */
export function parseCompressionOption(text: string): BlockCompression {
  if (text === "none") return "none";
  const level = Number(text);
  if (!/^-?\d{1,2}$/.test(text) || level < -7 || level > 19) throw new InvalidArgumentError("It is a zstd level from -7 to 19, or none.");
  return level;
}

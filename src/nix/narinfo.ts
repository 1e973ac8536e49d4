/**
 * narinfo: what a binary cache knows of a store path, as `Key: value` lines.
 * See https://nix.dev/manual/nix/latest/protocols/binary-cache/narinfo
 *
 * Nix's reader, which this one follows: fields come in any order, of a repeated field the last one counts (but References
 * and CA may not repeat, and each Sig counts), unknown fields are ignored, every line ends in a newline, the last one too.
 * It takes the byte after the colon for a space without looking, so that `NarSize:280` is 80 to it, and an empty line for
 * a part of the next one's key: where it would misread, this reader refuses.
 */
import { NarborError, errorMessage, isNarborError } from "../errors.ts";
import { type ContentAddress, formatContentAddress, parseContentAddress } from "./content-address.ts";
import { formatNixHash, parseSha256 } from "./nix-hash.ts";
import { type Signature, formatSignature, parseSignature } from "./signature.ts";
import { type StorePath, formatStorePath, parseStorePath, parseStorePathBaseName, sortStorePaths, storePathBaseName } from "./store-path.ts";

/** A parsed narinfo. */
export interface NarInfo {
  readonly storePath: StorePath;
  /** Where the (compressed) NAR is: a reference to be resolved against the cache's URL. Not empty. */
  readonly url: string;
  /** Nix's name of how the NAR is compressed: `none`, `xz`, `zstd`, … A narinfo without one means `bzip2`. */
  readonly compression: string;
  /** SHA-256 of the file at `url`, 32 bytes. Nix does not check it. */
  readonly fileHash?: Uint8Array;
  /** Bytes in the file at `url`. Nix does not check it. */
  readonly fileSize?: number;
  /** SHA-256 of the NAR, 32 bytes. */
  readonly narHash: Uint8Array;
  /** Bytes in the NAR, at least 1. */
  readonly narSize: number;
  /** In the order of their base names, each once. */
  readonly references: readonly StorePath[];
  /** The derivation it was built from. */
  readonly deriver?: StorePath;
  readonly signatures: readonly Signature[];
  readonly ca?: ContentAddress;
}

/**
 * Read a narinfo. The caller bounds its length, and with it that of every field.
 *
 * @throws NarborError ERR_NIX_INVALID naming the field and the line
 */
export function parseNarInfo(source: string | Uint8Array): NarInfo {
  const text = typeof source === "string" ? source : decodeUtf8(source);
  const fields: { -readonly [Field in keyof NarInfo]?: NarInfo[Field] } = {};
  const signatures: Signature[] = [];

  for (const [index, line] of splitLines(text).entries()) {
    const { key, value } = splitLine(line, index + 1);
    const read = <T>(parse: (text: string) => T): T => readField(parse, value, key, index + 1);
    switch (key) {
      case "StorePath":
        fields.storePath = read(parseStorePath);
        break;
      case "URL":
        fields.url = read(parseNonEmpty);
        break;
      case "Compression":
        fields.compression = value;
        break;
      case "FileHash":
        fields.fileHash = read(parseSha256);
        break;
      case "FileSize":
        fields.fileSize = read(parseSize);
        break;
      case "NarHash":
        fields.narHash = read(parseSha256);
        break;
      case "NarSize":
        fields.narSize = read(parseSize);
        break;
      case "References":
        if (fields.references !== undefined) throw invalid("References, found a second time", index + 1);
        fields.references = read(parseReferences);
        break;
      case "Deriver":
        if (value === "unknown-deriver") delete fields.deriver;
        else fields.deriver = read(parseStorePathBaseName);
        break;
      case "Sig":
        signatures.push(read(parseSignature));
        break;
      case "CA":
        if (fields.ca !== undefined) throw invalid("CA, found a second time", index + 1);
        if (value !== "") fields.ca = read(parseContentAddress);
        break;
    }
  }

  const { storePath, url, narHash, narSize, compression, references, ...optional } = fields;
  if (storePath === undefined) throw invalid("found no StorePath");
  if (url === undefined) throw invalid("found no URL");
  if (narHash === undefined) throw invalid("found no NarHash");
  if (narSize === undefined) throw invalid("found no NarSize");
  if (narSize === 0) throw invalid("found a NarSize of 0");
  // An empty Compression is a missing one.
  return { storePath, url, compression: compression || "bzip2", narHash, narSize, references: references ?? [], signatures, ...optional };
}

/** The text of a narinfo, its fields in the order in which Nix writes them. */
export function formatNarInfo(info: NarInfo): string {
  const lines = [
    `StorePath: ${formatStorePath(info.storePath)}`,
    `URL: ${checkLine(info.url)}`,
    `Compression: ${checkLine(info.compression)}`,
    ...(info.fileHash === undefined ? [] : [`FileHash: ${formatSha256(info.fileHash)}`]),
    ...(info.fileSize === undefined ? [] : [`FileSize: ${info.fileSize}`]),
    `NarHash: ${formatSha256(info.narHash)}`,
    `NarSize: ${info.narSize}`,
    // With its space even when there are none: Nix would take the newline for it.
    `References: ${sortStorePaths(info.references).map(storePathBaseName).join(" ")}`,
    ...(info.deriver === undefined ? [] : [`Deriver: ${storePathBaseName(info.deriver)}`]),
    ...info.signatures.map((signature) => `Sig: ${formatSignature(signature)}`),
    ...(info.ca === undefined ? [] : [`CA: ${formatContentAddress(info.ca)}`]),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function splitLines(text: string): string[] {
  const lines = text.split("\n");
  if (lines.pop() !== "") throw invalid("found no newline at its end", lines.length + 1);
  return lines;
}

function splitLine(line: string, lineNumber: number): { key: string; value: string } {
  if (line === "") throw invalid("found an empty line", lineNumber);
  if (line.endsWith("\r")) throw invalid("found a carriage return before the newline", lineNumber);
  const colon = line.indexOf(":");
  if (colon < 0) throw invalid(`found ${quote(line)}, expected a colon`, lineNumber);
  if (line.charAt(colon + 1) !== " ") throw invalid(`found ${quote(line)}, expected a space after the colon`, lineNumber);
  return { key: line.slice(0, colon), value: line.slice(colon + 2) };
}

/** Parse one field's value, with its name and line in what is thrown. */
function readField<T>(parse: (text: string) => T, value: string, key: string, lineNumber: number): T {
  try {
    return parse(value);
  } catch (error) {
    if (!isNarborError(error)) throw error;
    // "Cannot parse hash: found …" is here "Cannot parse narinfo: NarHash, found …".
    const reason = errorMessage(error).replace(/^Cannot [^:]*: /, "");
    throw new NarborError("ERR_NIX_INVALID", `Cannot parse narinfo: ${key}, ${reason}, at line ${lineNumber}`, { cause: error });
  }
}

function parseNonEmpty(text: string): string {
  if (text === "") throw new NarborError("ERR_NIX_INVALID", "Cannot read text: found nothing");
  return text;
}

function parseSize(text: string): number {
  const size = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(size)) {
    throw new NarborError("ERR_NIX_INVALID", `Cannot read size: found ${quote(text)}, expected an integer up to ${Number.MAX_SAFE_INTEGER}`);
  }
  return size;
}

function parseReferences(text: string): readonly StorePath[] {
  return sortStorePaths(text.split(/[ \t]+/).filter((word) => word !== "").map(parseStorePathBaseName));
}

function formatSha256(digest: Uint8Array): string {
  return formatNixHash({ algorithm: "sha256", digest });
}

/** @throws TypeError for a value that would make another line of itself */
function checkLine(value: string): string {
  if (value === "" || /[\r\n]/.test(value)) throw new TypeError(`Cannot format narinfo: found ${quote(value)}`);
  return value;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new NarborError("ERR_NIX_INVALID", "Cannot parse narinfo: found bytes that are not UTF-8", { cause: error });
  }
}

/** A value as errors show it: bounded, since it may be megabytes from outside. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function invalid(found: string, lineNumber?: number): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot parse narinfo: ${found}${lineNumber === undefined ? "" : `, at line ${lineNumber}`}`);
}

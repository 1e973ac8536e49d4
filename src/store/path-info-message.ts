/**
 * PathInfo messages of store.v1, as bytes. A message is checked in full when it is read: what comes out is a valid PathInfo, and what goes in again gives the
 * same bytes. Field by field, without the schema, which every command that opens a store would have to build (docs/decisions/0025).
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { equalBytes } from "../bytes/compare-bytes.ts";
import { decodeEntry, encodeEntry } from "../castore/directory-proto.ts";
import { NarborError, errorMessage } from "../errors.ts";
import type { ContentAddress } from "../nix/content-address.ts";
import { type HashAlgorithm, toNixHash } from "../nix/nix-hash.ts";
import { toSignature } from "../nix/signature.ts";
import {
  STORE_PATH_DIGEST_LENGTH,
  type StorePath,
  formatStorePath,
  parseStorePathBaseName,
  sortStorePaths,
  storePathBaseName,
  toStorePath,
} from "../nix/store-path.ts";
import { type PathInfo, checkDeriver } from "./path-info.ts";

const SHA256_LENGTH = 32;
const DERIVATION_SUFFIX = ".drv";

/** The wire's number of each content address. */
const CA_TYPES: readonly (readonly [ContentAddress["method"], HashAlgorithm, number])[] = [
  ["nar", "sha256", 0],
  ["nar", "sha1", 1],
  ["nar", "sha512", 2],
  ["nar", "md5", 3],
  ["text", "sha256", 4],
  ["flat", "sha1", 5],
  ["flat", "md5", 6],
  ["flat", "sha256", 7],
  ["flat", "sha512", 8],
];

/** Tags of proto/snix/store/v1/pathinfo.proto: field numbers with their wire types. */
const PATH_INFO = { entry: 0x0a, references: 0x12, narinfo: 0x1a } as const;
const NARINFO = { narSize: 0x08, narSha256: 0x12, signatures: 0x1a, referenceNames: 0x22, deriver: 0x2a, ca: 0x32 } as const;
/** Of Signature and StorePath: a name, and its data or digest. */
const NAMED = { name: 0x0a, bytes: 0x12 } as const;
const CA = { type: 0x08, digest: 0x12 } as const;

/** A message as it came. */
interface Message {
  entry: Uint8Array | undefined;
  readonly references: Uint8Array[];
  narinfo: NarInfoMessage | undefined;
}

interface NarInfoMessage {
  narSize: bigint;
  narSha256: Uint8Array;
  readonly signatures: NamedBytes[];
  readonly referenceNames: string[];
  deriver: NamedBytes | undefined;
  ca: CaMessage | undefined;
}

/** Signatures and store paths. */
interface NamedBytes {
  name: string;
  bytes: Uint8Array;
}

interface CaMessage {
  type: number;
  digest: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

/** A PathInfo as bytes: always the same ones. @throws NarborError ERR_NIX_INVALID when the deriver is not a derivation */
export function encodePathInfo(pathInfo: PathInfo): Uint8Array {
  const { storePath, root, narSize, narSha256, signatures, deriver, ca } = pathInfo;
  const references = sortStorePaths(pathInfo.references);
  checkDeriver(deriver);
  const writer = new BinaryWriter();
  writeBytes(writer, PATH_INFO.entry, encodeEntry(root, Buffer.from(storePathBaseName(storePath))));
  for (const { digest } of references) writeBytes(writer, PATH_INFO.references, digest);
  writer.uint32(PATH_INFO.narinfo).fork();
  if (narSize !== 0) writer.uint32(NARINFO.narSize).uint64(narSize);
  writeBytes(writer, NARINFO.narSha256, narSha256);
  for (const { keyName, bytes } of signatures) writeNamed(writer, NARINFO.signatures, keyName, bytes);
  for (const reference of references) writer.uint32(NARINFO.referenceNames).string(storePathBaseName(reference));
  if (deriver !== undefined) writeNamed(writer, NARINFO.deriver, deriver.name.slice(0, -DERIVATION_SUFFIX.length), deriver.digest);
  if (ca !== undefined) {
    const type = caType(ca);
    writer.uint32(NARINFO.ca).fork();
    if (type !== 0) writer.uint32(CA.type).int32(type);
    writeBytes(writer, CA.digest, ca.hash.digest);
    writer.join();
  }
  return writer.join().finish();
}

/** Neither is empty: both were checked when they were made. */
function writeNamed(writer: BinaryWriter, tag: number, name: string, bytes: Uint8Array): void {
  writer.uint32(tag).fork();
  writer.uint32(NAMED.name).string(name);
  writeBytes(writer, NAMED.bytes, bytes);
  writer.join();
}

function writeBytes(writer: BinaryWriter, tag: number, bytes: Uint8Array): void {
  writer.uint32(tag).bytes(bytes);
}

/**
 * The PathInfo of a message. References are put in order, and one sent twice counts once.
 *
 * @throws NarborError ERR_NIX_INVALID, or ERR_CASTORE_INVALID for what is wrong with the root node
 */
export function decodePathInfo(bytes: Uint8Array): PathInfo {
  // Views of a Buffer would be Buffers, which compare and print as something else.
  const { entry, references, narinfo } = readMessage(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length));
  if (entry === undefined || entry.length === 0) throw invalid("no entry");
  if (narinfo === undefined) throw invalid("no narinfo");
  const { name, node } = decodeEntry(entry);
  const { narSize, narSha256, signatures, deriver, ca } = narinfo;
  if (narSize > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`a nar_size of ${narSize}, beyond 2^53`);
  if (narSha256.length !== SHA256_LENGTH) throw invalid(`a nar_sha256 of ${narSha256.length} bytes, expected ${SHA256_LENGTH}`);
  return {
    // A base name is ASCII; Latin-1 keeps any other byte one character, for the parser to refuse.
    storePath: readPart("entry", () => parseStorePathBaseName(Buffer.from(name).toString("latin1"))),
    root: node,
    references: toReferences(references, narinfo.referenceNames),
    narSize: Number(narSize),
    narSha256,
    signatures: signatures.map((signature, index) => readPart(`signatures[${index}]`, () => toSignature(signature.name, signature.bytes))),
    ...(deriver && { deriver: toDeriver(deriver) }),
    ...(ca && { ca: toContentAddress(ca) }),
  };
}

function readMessage(bytes: Uint8Array): Message {
  try {
    const message: Message = { entry: undefined, references: [], narinfo: undefined };
    readFields(bytes, (tag, reader) => {
      if (tag === PATH_INFO.entry) message.entry = reader.bytes();
      else if (tag === PATH_INFO.references) message.references.push(reader.bytes());
      else if (tag === PATH_INFO.narinfo) message.narinfo = readNarInfo(reader.bytes());
      else return false;
      return true;
    });
    return message;
  } catch (error) {
    throw new NarborError("ERR_NIX_INVALID", "Cannot read PathInfo: found bytes that are not a message", { cause: error });
  }
}

function readNarInfo(bytes: Uint8Array): NarInfoMessage {
  const message: NarInfoMessage = { narSize: 0n, narSha256: NO_BYTES, signatures: [], referenceNames: [], deriver: undefined, ca: undefined };
  readFields(bytes, (tag, reader) => {
    if (tag === NARINFO.narSize) message.narSize = BigInt(reader.uint64());
    else if (tag === NARINFO.narSha256) message.narSha256 = reader.bytes();
    else if (tag === NARINFO.signatures) message.signatures.push(readNamed(reader.bytes()));
    else if (tag === NARINFO.referenceNames) message.referenceNames.push(reader.string(true));
    else if (tag === NARINFO.deriver) message.deriver = readNamed(reader.bytes());
    else if (tag === NARINFO.ca) message.ca = readCa(reader.bytes());
    else return false;
    return true;
  });
  return message;
}

function readNamed(bytes: Uint8Array): NamedBytes {
  const message: NamedBytes = { name: "", bytes: NO_BYTES };
  readFields(bytes, (tag, reader) => {
    if (tag === NAMED.name) message.name = reader.string(true);
    else if (tag === NAMED.bytes) message.bytes = reader.bytes();
    else return false;
    return true;
  });
  return message;
}

function readCa(bytes: Uint8Array): CaMessage {
  const message: CaMessage = { type: 0, digest: NO_BYTES };
  readFields(bytes, (tag, reader) => {
    if (tag === CA.type) message.type = reader.int32();
    else if (tag === CA.digest) message.digest = reader.bytes();
    else return false;
    return true;
  });
  return message;
}

/** @param read a field's value; false, and nothing, for one that is not known, which a later version may have */
function readFields(bytes: Uint8Array, read: (tag: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read(field * 8 + wireType, reader)) reader.skip(wireType, field);
  }
}

function toReferences(digests: readonly Uint8Array[], names: readonly string[]): readonly StorePath[] {
  if (digests.length !== names.length) throw invalid(`${digests.length} references, but ${names.length} reference_names`);
  return sortStorePaths(
    names.map((name, index) => {
      const path = readPart(`reference_names[${index}]`, () => parseStorePathBaseName(name));
      const digest = digests[index] ?? new Uint8Array();
      if (digest.length !== STORE_PATH_DIGEST_LENGTH) {
        throw invalid(`references[${index}] of ${digest.length} bytes, expected ${STORE_PATH_DIGEST_LENGTH}`);
      }
      if (!equalBytes(path.digest, digest)) {
        throw invalid(`reference_names[${index}] ${formatStorePath(path)}, whose hash is not references[${index}]`);
      }
      return path;
    }),
  );
}

function toDeriver({ name, bytes }: NamedBytes): StorePath {
  return readPart("deriver", () => {
    // Checked without the suffix too: it must not be what makes an empty name one.
    toStorePath(bytes, name);
    return toStorePath(bytes, name + DERIVATION_SUFFIX);
  });
}

function caType({ method, hash }: ContentAddress): number {
  const found = CA_TYPES.find(([knownMethod, algorithm]) => knownMethod === method && algorithm === hash.algorithm);
  if (found === undefined) throw new TypeError(`Cannot write PathInfo: found a content address by ${method} and ${hash.algorithm}`);
  return found[2];
}

function toContentAddress({ type, digest }: CaMessage): ContentAddress {
  const found = CA_TYPES.find(([, , number]) => number === type);
  if (found === undefined) throw invalid(`a content address of unknown type ${type}`);
  const [method, algorithm] = found;
  const hash = readPart("ca", () => toNixHash(algorithm, digest));
  return method === "text" ? { method, hash: { algorithm: "sha256", digest: hash.digest } } : { method, hash };
}

/** Run a parser, and name the part of the message in what it throws. */
function readPart<T>(part: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const reason = errorMessage(error).replace(/^Cannot [^:]*: /, "");
    throw new NarborError("ERR_NIX_INVALID", `Cannot read PathInfo: ${part}, ${reason}`, { cause: error });
  }
}

function invalid(found: string): NarborError {
  return new NarborError("ERR_NIX_INVALID", `Cannot read PathInfo: found ${found}`);
}

/**
 * PathInfo messages of store.v1. A message is checked in full when it is read: what comes out is a valid PathInfo, and what
 * goes in again gives the same bytes.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
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
import { EntrySchema } from "../proto/gen/snix/castore/v1/castore_pb.ts";
import {
  NARInfo_CASchema,
  NARInfo_CA_Hash,
  NARInfo_SignatureSchema,
  NARInfoSchema,
  type NARInfo_CA as ContentAddressMessage,
  type PathInfo as PathInfoMessage,
  PathInfoSchema,
  StorePathSchema,
} from "../proto/gen/snix/store/v1/pathinfo_pb.ts";
import { type PathInfo, checkDeriver } from "./path-info.ts";

const SHA256_LENGTH = 32;
const DERIVATION_SUFFIX = ".drv";

/** The wire's number of each content address. */
const CA_TYPES: readonly (readonly [ContentAddress["method"], HashAlgorithm, NARInfo_CA_Hash])[] = [
  ["nar", "sha256", NARInfo_CA_Hash.NAR_SHA256],
  ["nar", "sha1", NARInfo_CA_Hash.NAR_SHA1],
  ["nar", "sha512", NARInfo_CA_Hash.NAR_SHA512],
  ["nar", "md5", NARInfo_CA_Hash.NAR_MD5],
  ["text", "sha256", NARInfo_CA_Hash.TEXT_SHA256],
  ["flat", "sha1", NARInfo_CA_Hash.FLAT_SHA1],
  ["flat", "md5", NARInfo_CA_Hash.FLAT_MD5],
  ["flat", "sha256", NARInfo_CA_Hash.FLAT_SHA256],
  ["flat", "sha512", NARInfo_CA_Hash.FLAT_SHA512],
];

/** The message of a PathInfo. @throws NarborError ERR_NIX_INVALID when the deriver is not a derivation */
export function pathInfoToProto(pathInfo: PathInfo): PathInfoMessage {
  const { storePath, root, narSize, narSha256, signatures, deriver, ca } = pathInfo;
  const references = sortStorePaths(pathInfo.references);
  checkDeriver(deriver);
  return create(PathInfoSchema, {
    // castore has its own encoder and decoder, and with them the only place where nodes are checked.
    entry: fromBinary(EntrySchema, encodeEntry(root, Buffer.from(storePathBaseName(storePath)))),
    references: references.map(({ digest }) => digest),
    narinfo: create(NARInfoSchema, {
      narSize: BigInt(narSize),
      narSha256,
      signatures: signatures.map(({ keyName, bytes }) => create(NARInfo_SignatureSchema, { name: keyName, data: bytes })),
      referenceNames: references.map(storePathBaseName),
      ...(deriver && { deriver: create(StorePathSchema, { name: deriver.name.slice(0, -DERIVATION_SUFFIX.length), digest: deriver.digest }) }),
      ...(ca && { ca: contentAddressToProto(ca) }),
    }),
  });
}

/**
 * The PathInfo of a message. References are put in order, and one sent twice counts once.
 *
 * @throws NarborError ERR_NIX_INVALID, or ERR_CASTORE_INVALID for what is wrong with the root node
 */
export function pathInfoFromProto(message: PathInfoMessage): PathInfo {
  const { entry, narinfo } = message;
  if (entry?.entry.case === undefined) throw invalid("no entry");
  if (narinfo === undefined) throw invalid("no narinfo");
  const { name, node } = decodeEntry(toBinary(EntrySchema, entry));
  if (narinfo.narSize > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`a nar_size of ${narinfo.narSize}, beyond 2^53`);
  if (narinfo.narSha256.length !== SHA256_LENGTH) throw invalid(`a nar_sha256 of ${narinfo.narSha256.length} bytes, expected ${SHA256_LENGTH}`);
  return {
    // A base name is ASCII; Latin-1 keeps any other byte one character, for the parser to refuse.
    storePath: readPart("entry", () => parseStorePathBaseName(Buffer.from(name).toString("latin1"))),
    root: node,
    references: referencesFromProto(message.references, narinfo.referenceNames),
    narSize: Number(narinfo.narSize),
    narSha256: narinfo.narSha256,
    signatures: narinfo.signatures.map((signature, index) => readPart(`signatures[${index}]`, () => toSignature(signature.name, signature.data))),
    ...(narinfo.deriver && { deriver: deriverFromProto(narinfo.deriver) }),
    ...(narinfo.ca && { ca: contentAddressFromProto(narinfo.ca) }),
  };
}

/** A PathInfo as bytes: always the same ones. @throws NarborError ERR_NIX_INVALID when the deriver is not a derivation */
export function encodePathInfo(pathInfo: PathInfo): Uint8Array {
  return toBinary(PathInfoSchema, pathInfoToProto(pathInfo));
}

/** The PathInfo of `encodePathInfo`'s bytes. @throws NarborError ERR_NIX_INVALID or ERR_CASTORE_INVALID */
export function decodePathInfo(bytes: Uint8Array): PathInfo {
  let message: PathInfoMessage;
  try {
    message = fromBinary(PathInfoSchema, bytes);
  } catch (error) {
    throw new NarborError("ERR_NIX_INVALID", "Cannot read PathInfo: found bytes that are not a message", { cause: error });
  }
  return pathInfoFromProto(message);
}

function referencesFromProto(digests: readonly Uint8Array[], names: readonly string[]): readonly StorePath[] {
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

function deriverFromProto(deriver: { readonly name: string; readonly digest: Uint8Array }): StorePath {
  return readPart("deriver", () => {
    // Checked without the suffix too: it must not be what makes an empty name one.
    toStorePath(deriver.digest, deriver.name);
    return toStorePath(deriver.digest, deriver.name + DERIVATION_SUFFIX);
  });
}

function contentAddressToProto({ method, hash }: ContentAddress): ContentAddressMessage {
  const found = CA_TYPES.find(([knownMethod, algorithm]) => knownMethod === method && algorithm === hash.algorithm);
  if (found === undefined) throw new TypeError(`Cannot write PathInfo: found a content address by ${method} and ${hash.algorithm}`);
  return create(NARInfo_CASchema, { type: found[2], digest: hash.digest });
}

function contentAddressFromProto({ type, digest }: ContentAddressMessage): ContentAddress {
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

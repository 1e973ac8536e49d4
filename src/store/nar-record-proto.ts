/** NAR and document records as narbor.store.v1 messages, for both ends of a connection. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { toB3Digest } from "../castore/digest.ts";
import { decodeRootNode, encodeEntry } from "../castore/directory-proto.ts";
import type { Node } from "../castore/node.ts";
import { parseCompression } from "../compression/codec.ts";
import { NarborError } from "../errors.ts";
import type { Document, DocumentSchema, Nar, NarFile, NarFileSchema, NarSchema } from "../proto/gen/narbor/store/v1/rpc_store_pb.ts";
import type { Entry } from "../proto/gen/snix/castore/v1/castore_pb.ts";
import { EntrySchema } from "../proto/gen/snix/castore/v1/castore_pb.ts";
import type { DocumentRecord } from "./document-index.ts";
import type { NarFileRecord, NarRecord } from "./nar-index.ts";

const SHA256_LENGTH = 32;
/** Longer than any document of a binary cache is called. */
const DOCUMENT_NAME_LIMIT = 4096;

export function narToProto({ narSha256, narSize, root }: NarRecord): MessageInitShape<typeof NarSchema> {
  return { narSha256, narSize: BigInt(narSize), root: rootToProto(root) };
}

/** @throws NarborError ERR_INVALID, ERR_CASTORE_INVALID */
export function narFromProto(nar: Nar | undefined): NarRecord {
  if (nar === undefined) throw invalid("no NAR");
  return { narSha256: sha256FromProto(nar.narSha256, "nar_sha256"), narSize: sizeFromProto(nar.narSize, "nar_size"), root: rootFromProto(nar.root) };
}

export function narFileToProto({ fileSha256, fileSize, codec }: NarFileRecord): MessageInitShape<typeof NarFileSchema> {
  return { fileSha256, fileSize: BigInt(fileSize), compression: codec };
}

/** @throws NarborError ERR_INVALID, ERR_COMPRESSION_UNSUPPORTED */
export function narFileFromProto({ fileSha256, fileSize, compression }: NarFile): NarFileRecord {
  return { fileSha256: sha256FromProto(fileSha256, "file_sha256"), fileSize: sizeFromProto(fileSize, "file_size"), codec: parseCompression(compression) };
}

export function rootToProto(root: Node): Entry {
  return fromBinary(EntrySchema, encodeEntry(root));
}

/** @throws NarborError ERR_INVALID, ERR_CASTORE_INVALID */
export function rootFromProto(entry: Entry | undefined): Node {
  if (entry?.entry.case === undefined) throw invalid("no root");
  return decodeRootNode(toBinary(EntrySchema, entry));
}

export function documentToProto({ name, digest, size }: DocumentRecord): MessageInitShape<typeof DocumentSchema> {
  return { name, digest, size: BigInt(size) };
}

/** @throws NarborError ERR_INVALID, ERR_CASTORE_INVALID */
export function documentFromProto(document: Document | undefined): DocumentRecord {
  if (document === undefined) throw invalid("no document");
  if (document.name.length === 0 || document.name.length > DOCUMENT_NAME_LIMIT) throw invalid(`a name of ${document.name.length} characters, expected 1 to ${DOCUMENT_NAME_LIMIT}`);
  return { name: document.name, digest: toB3Digest(document.digest), size: sizeFromProto(document.size, "size") };
}

/** @throws NarborError ERR_INVALID */
export function sha256FromProto(bytes: Uint8Array, field: string): Uint8Array {
  if (bytes.length !== SHA256_LENGTH) throw invalid(`${field} of ${bytes.length} bytes, expected ${SHA256_LENGTH}`);
  return bytes;
}

function sizeFromProto(size: bigint, field: string): number {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`${field} ${size}, beyond 2^53`);
  return Number(size);
}

function invalid(found: string): NarborError {
  return new NarborError("ERR_INVALID", `Cannot read the record: found ${found}`);
}

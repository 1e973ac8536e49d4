import { type DescMethod, type DescMessage, ScalarType, type DescField } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { file_snix_castore_v1_castore } from "../../src/proto/gen/snix/castore/v1/castore_pb.ts";
import { BlobService, file_snix_castore_v1_rpc_blobstore } from "../../src/proto/gen/snix/castore/v1/rpc_blobstore_pb.ts";
import { DirectoryService, file_snix_castore_v1_rpc_directory } from "../../src/proto/gen/snix/castore/v1/rpc_directory_pb.ts";
import { NARInfo_CA_HashSchema, file_snix_store_v1_pathinfo } from "../../src/proto/gen/snix/store/v1/pathinfo_pb.ts";
import { PathInfoService, file_snix_store_v1_rpc_pathinfo } from "../../src/proto/gen/snix/store/v1/rpc_pathinfo_pb.ts";

/** `1 name bytes`: what of a field is on the wire, and its name, which reflection shows. */
function describeField(field: DescField): string {
  const type =
    field.fieldKind === "scalar" ? ScalarType[field.scalar].toLowerCase()
    : field.fieldKind === "message" ? field.message.typeName
    : field.fieldKind === "enum" ? field.enum.typeName
    : field.fieldKind === "list" && field.listKind === "message" ? `repeated ${field.message.typeName}`
    : field.fieldKind === "list" && field.listKind === "scalar" ? `repeated ${ScalarType[field.scalar].toLowerCase()}`
    : field.fieldKind;
  return `${field.number} ${field.name} ${type}${field.oneof ? ` in ${field.oneof.name}` : ""}`;
}

function withNested(message: DescMessage): DescMessage[] {
  return [message, ...message.nestedMessages.flatMap(withNested)];
}

const MESSAGES = [
  file_snix_castore_v1_castore,
  file_snix_castore_v1_rpc_blobstore,
  file_snix_castore_v1_rpc_directory,
  file_snix_store_v1_pathinfo,
  file_snix_store_v1_rpc_pathinfo,
].flatMap((file) => file.messages.flatMap(withNested));

// As tvix and snix have it, changed by neither since 2024.
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  "snix.castore.v1.Directory": [
    "1 directories repeated snix.castore.v1.DirectoryEntry",
    "2 files repeated snix.castore.v1.FileEntry",
    "3 symlinks repeated snix.castore.v1.SymlinkEntry",
  ],
  "snix.castore.v1.DirectoryEntry": ["1 name bytes", "2 digest bytes", "3 size uint64"],
  "snix.castore.v1.FileEntry": ["1 name bytes", "2 digest bytes", "3 size uint64", "4 executable bool"],
  "snix.castore.v1.SymlinkEntry": ["1 name bytes", "2 target bytes"],
  "snix.castore.v1.Entry": [
    "1 directory snix.castore.v1.DirectoryEntry in entry",
    "2 file snix.castore.v1.FileEntry in entry",
    "3 symlink snix.castore.v1.SymlinkEntry in entry",
  ],
  "snix.castore.v1.StatBlobRequest": ["1 digest bytes", "2 send_chunks bool", "3 send_bao bool"],
  "snix.castore.v1.StatBlobResponse": ["2 chunks repeated snix.castore.v1.StatBlobResponse.ChunkMeta", "3 bao bytes"],
  "snix.castore.v1.StatBlobResponse.ChunkMeta": ["1 digest bytes", "2 size uint64"],
  "snix.castore.v1.ReadBlobRequest": ["1 digest bytes"],
  "snix.castore.v1.BlobChunk": ["1 data bytes"],
  "snix.castore.v1.PutBlobResponse": ["1 digest bytes"],
  "snix.castore.v1.GetDirectoryRequest": ["1 digest bytes in by_what", "2 recursive bool"],
  "snix.castore.v1.PutDirectoryResponse": ["1 root_digest bytes"],
  "snix.store.v1.PathInfo": ["1 entry snix.castore.v1.Entry", "2 references repeated bytes", "3 narinfo snix.store.v1.NARInfo"],
  "snix.store.v1.StorePath": ["1 name string", "2 digest bytes"],
  "snix.store.v1.NARInfo": [
    "1 nar_size uint64",
    "2 nar_sha256 bytes",
    "3 signatures repeated snix.store.v1.NARInfo.Signature",
    "4 reference_names repeated string",
    "5 deriver snix.store.v1.StorePath",
    "6 ca snix.store.v1.NARInfo.CA",
  ],
  "snix.store.v1.NARInfo.Signature": ["1 name string", "2 data bytes"],
  "snix.store.v1.NARInfo.CA": ["1 type snix.store.v1.NARInfo.CA.Hash", "2 digest bytes"],
  "snix.store.v1.GetPathInfoRequest": ["1 by_output_hash bytes in by_what"],
  "snix.store.v1.ListPathInfoRequest": [],
  "snix.store.v1.CalculateNARResponse": ["1 nar_size uint64", "2 nar_sha256 bytes"],
};

test("The schema has these messages and no other", () => {
  expect(MESSAGES.map(({ typeName }) => typeName).toSorted()).toEqual(Object.keys(FIELDS).toSorted());
});

test.for(Object.entries(FIELDS))("The fields of %s are those of tvix and snix", ([typeName, fields]) => {
  expect(MESSAGES.find((message) => message.typeName === typeName)?.fields.map(describeField)).toEqual(fields);
});

test("The kinds of content address have the numbers of tvix and snix", () => {
  expect(NARInfo_CA_HashSchema.values.map(({ number, name }) => `${number} ${name}`)).toEqual([
    "0 NAR_SHA256",
    "1 NAR_SHA1",
    "2 NAR_SHA512",
    "3 NAR_MD5",
    "4 TEXT_SHA256",
    "5 FLAT_SHA1",
    "6 FLAT_MD5",
    "7 FLAT_SHA256",
    "8 FLAT_SHA512",
  ]);
});

function describeMethod({ name, methodKind, input, output }: DescMethod): string {
  return `${name} ${methodKind} ${input.name} ${output.name}`;
}

test.for([
  [
    "snix.castore.v1.BlobService",
    BlobService,
    ["Stat unary StatBlobRequest StatBlobResponse", "Read server_streaming ReadBlobRequest BlobChunk", "Put client_streaming BlobChunk PutBlobResponse"],
  ],
  [
    "snix.castore.v1.DirectoryService",
    DirectoryService,
    ["Get server_streaming GetDirectoryRequest Directory", "Put client_streaming Directory PutDirectoryResponse"],
  ],
  [
    "snix.store.v1.PathInfoService",
    PathInfoService,
    [
      "Get unary GetPathInfoRequest PathInfo",
      "Put unary PathInfo PathInfo",
      "CalculateNAR unary Entry CalculateNARResponse",
      "List server_streaming ListPathInfoRequest PathInfo",
    ],
  ],
] as const)("The methods of %s are those of tvix and snix", ([typeName, service, methods]) => {
  expect(service.typeName).toBe(typeName);
  expect(service.methods.map(describeMethod)).toEqual(methods);
});

/**
 * The library. Symbols in the first part are what a program that imports or renders trees needs; those in the second are for programs
 * that bring a service of their own.
 */
export { importNar } from "./ingest/ingest-nar.ts";
export type { ImportedNar, ImportNarOptions } from "./ingest/ingest-nar.ts";
export { dumpFilesystem } from "./ingest/dump-filesystem.ts";
export { planNar } from "./render/render-nar.ts";
export type { TreeServices } from "./render/render-nar.ts";
export { renderArchive } from "./render/segments.ts";
export type { RenderOptions, RenderPlan } from "./render/segments.ts";
export { importImages } from "./image/import-images.ts";
export type { ImageProgress, ImportedImages, ImportedLayer, ImportImagesOptions } from "./image/import-images.ts";
export { findImages, listImageNames, removeImages } from "./image/image-catalog.ts";
export type { ImageRecord, LayerFile, LayerRecord, NamedImages } from "./image/image-record.ts";
export { planExport, planImageExport } from "./image/plan-export.ts";
export type { ExportOptions, PlannedExport, WrittenArchive } from "./image/plan-export.ts";
export { parseNar } from "./nar/parse-nar.ts";
export type { NarEvent } from "./nar/nar-event.ts";
export { decompress } from "./compression/decompress.ts";
export type { DecompressOptions } from "./compression/decompress.ts";
export type { Codec } from "./compression/codec.ts";
export { PacksStore } from "./backends/packs/packs-store.ts";
export type { PacksStoreOptions } from "./backends/packs/packs-store.ts";
export { GrpcStore } from "./backends/grpc/grpc-store.ts";
export type { GrpcStoreOptions, SideStore } from "./backends/grpc/grpc-store.ts";
export { MemoryStore } from "./backends/memory/memory-store.ts";
export { NarborError, isNarborError } from "./errors.ts";
export type { ErrorCode } from "./errors.ts";

export { formatDigest, toB3Digest } from "./castore/digest.ts";
export type { B3Digest } from "./castore/digest.ts";
export type { DirectoryNode, FileNode, Node, SymlinkNode } from "./castore/node.ts";
export type { Directory, DirectorySizeProfile, Entry } from "./castore/directory.ts";
export { decodeDirectory, decodeEntry, decodeRootNode, encodeDirectory, encodeEntry } from "./castore/directory-proto.ts";
export { ClosureValidator } from "./castore/directory-order.ts";
export type { NamedDirectory } from "./castore/directory-order.ts";
export { toSmallBlob } from "./castore/blob-service.ts";
export type { BlobRef, BlobService, BlobStat, ReadOptions, SmallBlob } from "./castore/blob-service.ts";
export type { DirectoryService } from "./castore/directory-service.ts";
export type { CallOptions } from "./castore/call-options.ts";
export type { PathInfo } from "./store/path-info.ts";
export type { PathInfoService } from "./store/path-info-service.ts";
export type { NarFileRecord, NarIndex, NarRecord } from "./store/nar-index.ts";
export type { DocumentIndex, DocumentRecord } from "./store/document-index.ts";
export type { ComputedCache, ComputedKey, ComputedStats } from "./store/computed-cache.ts";
export type { Store, StoreServices, StoreWork } from "./store/store.ts";

/** grpc.reflection: which services there are and how their messages are made, so that grpcurl and its like need no files. */
import type { DescFile } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import type { FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { ServerReflectionRequest } from "../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection } from "../proto/gen/grpc/reflection/v1/reflection_pb.ts";
import { RPC_STATUS } from "../proto/rpc-status.ts";
import type { RpcService } from "./rpc-service.ts";
import { rpcService } from "./rpc-service.ts";

const V1ALPHA = "grpc.reflection.v1alpha.ServerReflection";

/** @param services those that are served, this one aside */
export function reflectionService(services: readonly RpcService[]): RpcService {
  const own = rpcService(
    ServerReflection,
    {
      serverReflectionInfo: async function* (requests) {
        for await (const request of requests) yield { validHost: request.host, originalRequest: request, messageResponse: answer(request, index) };
      },
    },
    [V1ALPHA],
  );
  const index = new DescriptorIndex([...services, own]);
  return own;
}

type Answer =
  | { readonly case: "fileDescriptorResponse"; readonly value: { readonly fileDescriptorProto: Uint8Array[] } }
  | { readonly case: "allExtensionNumbersResponse"; readonly value: { readonly baseTypeName: string; readonly extensionNumber: number[] } }
  | { readonly case: "listServicesResponse"; readonly value: { readonly service: { readonly name: string }[] } }
  | { readonly case: "errorResponse"; readonly value: { readonly errorCode: number; readonly errorMessage: string } };

function answer({ messageRequest }: ServerReflectionRequest, index: DescriptorIndex): Answer {
  switch (messageRequest.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: index.serviceNames.map((name) => ({ name })) } };
    case "fileByFilename":
      return fileAnswer(index.fileNamed(messageRequest.value), index, `file ${JSON.stringify(messageRequest.value.slice(0, 200))}`);
    case "fileContainingSymbol":
      return fileAnswer(index.fileWith(messageRequest.value), index, `symbol ${JSON.stringify(messageRequest.value.slice(0, 200))}`);
    case "allExtensionNumbersOfType":
      if (index.fileWith(messageRequest.value) === undefined) return notFound(`type ${JSON.stringify(messageRequest.value.slice(0, 200))}`);
      return { case: "allExtensionNumbersResponse", value: { baseTypeName: messageRequest.value, extensionNumber: [] } };
    case "fileContainingExtension":
      return notFound("extension");
    case undefined:
      return { case: "errorResponse", value: { errorCode: RPC_STATUS.INVALID_ARGUMENT, errorMessage: "The request asks for nothing" } };
  }
}

function fileAnswer(file: FileDescriptorProto | undefined, index: DescriptorIndex, what: string): Answer {
  if (file === undefined) return notFound(what);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: index.withImports(file).map((each) => toBinary(FileDescriptorProtoSchema, each)) } };
}

function notFound(what: string): Answer {
  return { case: "errorResponse", value: { errorCode: RPC_STATUS.NOT_FOUND, errorMessage: `There is no ${what} here` } };
}

/** The descriptors of what is served, by file and by symbol. */
class DescriptorIndex {
  readonly serviceNames: readonly string[];
  readonly #files = new Map<string, FileDescriptorProto>();
  readonly #fileOfSymbol = new Map<string, FileDescriptorProto>();

  constructor(services: readonly RpcService[]) {
    this.serviceNames = services.flatMap(({ names }) => names).sort();
    for (const { descriptor, names } of services) {
      for (const name of names) this.#addFile(descriptor.file, renamingOf(descriptor.file, name));
    }
  }

  fileNamed(name: string): FileDescriptorProto | undefined {
    return this.#files.get(name);
  }

  fileWith(symbol: string): FileDescriptorProto | undefined {
    return this.#fileOfSymbol.get(symbol);
  }

  /** A file and all it imports, each once. */
  withImports(file: FileDescriptorProto, found = new Set<FileDescriptorProto>()): readonly FileDescriptorProto[] {
    if (found.has(file)) return [];
    found.add(file);
    return [file, ...file.dependency.flatMap((name) => this.withImports(this.#files.get(name) ?? file, found))];
  }

  #addFile(file: DescFile, rename: Rename): void {
    const proto = renameFile(file.proto, rename);
    if (this.#files.has(proto.name)) return;
    this.#files.set(proto.name, proto);
    for (const symbol of symbolsOf(proto)) this.#fileOfSymbol.set(symbol, proto);
    for (const dependency of file.dependencies) this.#addFile(dependency, rename);
  }
}

/** Another name for one package and whatever stands in its family: `snix.castore.v1` as `tvix.castore.v1`. */
type Rename = readonly [from: string, to: string];

/** How a file must be renamed so that the service in it has that full name. */
function renamingOf(file: DescFile, serviceName: string): Rename {
  const packageName = serviceName.slice(0, serviceName.lastIndexOf("."));
  const own = file.proto.package.split(".");
  const other = packageName.split(".");
  const differs = own.findIndex((part, position) => part !== other[position]);
  // The first part that differs stands for the whole family: `snix` and `tvix`, or `v1` and `v1alpha`.
  return differs < 0 ? ["", ""] : [own.slice(0, differs + 1).join("."), other.slice(0, differs + 1).join(".")];
}

function renameFile(file: FileDescriptorProto, [from, to]: Rename): FileDescriptorProto {
  if (from === to) return file;
  const text = (value: string): string => (value === from || value.startsWith(`${from}.`) ? to + value.slice(from.length) : value);
  const path = (value: string): string => value.replace(`${from.replaceAll(".", "/")}/`, `${to.replaceAll(".", "/")}/`);
  const type = (value: string): string => (value.startsWith(".") ? `.${text(value.slice(1))}` : value);
  const message = (each: FileDescriptorProto["messageType"][number]): FileDescriptorProto["messageType"][number] => ({
    ...each,
    // A field of a scalar type has no name of one, and an empty name that is set is an error to others.
    field: each.field.map((field) => (field.typeName === "" ? field : { ...field, typeName: type(field.typeName) })),
    nestedType: each.nestedType.map(message),
  });
  return {
    ...file,
    name: path(file.name),
    package: text(file.package),
    dependency: file.dependency.map(path),
    messageType: file.messageType.map(message),
    service: file.service.map((service) => ({
      ...service,
      method: service.method.map((method) => ({ ...method, inputType: type(method.inputType), outputType: type(method.outputType) })),
    })),
  };
}

function symbolsOf(file: FileDescriptorProto): readonly string[] {
  const within = (scope: string, { name, field, nestedType, enumType }: FileDescriptorProto["messageType"][number]): readonly string[] => {
    const own = `${scope}.${name}`;
    return [own, ...field.map((each) => `${own}.${each.name}`), ...nestedType.flatMap((each) => within(own, each)), ...enumType.map((each) => `${own}.${each.name}`)];
  };
  return [
    ...file.messageType.flatMap((each) => within(file.package, each)),
    ...file.enumType.map((each) => `${file.package}.${each.name}`),
    ...file.service.flatMap((each) => [`${file.package}.${each.name}`, ...each.method.map((method) => `${file.package}.${each.name}.${method.name}`)]),
  ];
}

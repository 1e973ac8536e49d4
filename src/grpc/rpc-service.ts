/** The thin glue between generated descriptors, our handlers and grpc-js. */
import type { DescMessage, DescMethod, DescMethodBiDiStreaming, DescMethodClientStreaming, DescMethodServerStreaming, DescMethodUnary, DescService } from "@bufbuild/protobuf";
import type { handleBidiStreamingCall, handleClientStreamingCall, handleServerStreamingCall, handleUnaryCall, MethodDefinition, Server, UntypedHandleCall } from "@grpc/grpc-js";
import { mapItems } from "../concurrency/map-items.ts";
import type { Received, ToSend } from "../proto/rpc-codec.ts";
import { rpcCodec } from "../proto/rpc-codec.ts";
import type { RpcCalls, RpcContext } from "./rpc-call.ts";

type Handler<M> =
  M extends DescMethodUnary<infer I, infer O> ? (request: Received<I>, context: RpcContext) => Promise<ToSend<O>>
  : M extends DescMethodServerStreaming<infer I, infer O> ? (request: Received<I>, context: RpcContext) => AsyncIterable<ToSend<O>>
  : M extends DescMethodClientStreaming<infer I, infer O> ? (requests: AsyncIterable<Received<I>>, context: RpcContext) => Promise<ToSend<O>>
  : M extends DescMethodBiDiStreaming<infer I, infer O> ? (requests: AsyncIterable<Received<I>>, context: RpcContext) => AsyncIterable<ToSend<O>>
  : never;

/** A function for every method of a service. */
export type Handlers<S extends DescService> = { readonly [Name in keyof S["method"]]: Handler<S["method"][Name]> };

/** A service with what answers it. */
export interface RpcService {
  readonly descriptor: DescService;
  /** The full names it goes by, such as `snix.castore.v1.BlobService`. */
  readonly names: readonly string[];
  readonly handlers: Readonly<Record<string, AnyHandler>>;
}

type AnyHandler = (request: never, context: RpcContext) => unknown;

/** @param aliases other full names under which the same handlers are found */
export function rpcService<S extends DescService>(descriptor: S, handlers: Handlers<S>, aliases: readonly string[] = []): RpcService {
  return { descriptor, names: [descriptor.typeName, ...aliases], handlers };
}

/** Make a server answer a service, under all its names. */
export function addRpcService(server: Server, service: RpcService, calls: RpcCalls): void {
  const implementation = Object.fromEntries(service.descriptor.methods.map((method) => [method.localName, methodOf(service, method, calls)]));
  for (const name of service.names) {
    server.addService(Object.fromEntries(service.descriptor.methods.map((method) => [method.localName, definitionOf(name, method)])), implementation);
  }
}

/** Messages are bytes to grpc-js: what cannot be read is then the caller's fault, which grpc-js would call INTERNAL. */
function definitionOf(serviceName: string, { name, methodKind }: DescMethod): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${serviceName}/${name}`,
    requestStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
    responseStream: methodKind === "server_streaming" || methodKind === "bidi_streaming",
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
}

function identity(bytes: Buffer): Buffer {
  return bytes;
}

function methodOf(service: RpcService, { localName, methodKind, input, output }: DescMethod, calls: RpcCalls): UntypedHandleCall {
  const request = rpcCodec<DescMessage>(input);
  const response = rpcCodec<DescMessage>(output);
  const handler = service.handlers[localName] as (request: unknown, context: RpcContext) => unknown;
  switch (methodKind) {
    case "unary": {
      const handle: handleUnaryCall<Buffer, Buffer> = (call, callback) => {
        void calls.answer(call, callback, async (rpc) => response.encode((await handler(request.decode(call.request), rpc)) as ToSend<DescMessage>));
      };
      return handle;
    }
    case "client_streaming": {
      const handle: handleClientStreamingCall<Buffer, Buffer> = (call, callback) => {
        void calls.answer(call, callback, async (rpc) => response.encode((await handler(mapItems(rpc.received(call), request.decode), rpc)) as ToSend<DescMessage>));
      };
      return handle;
    }
    case "server_streaming": {
      const handle: handleServerStreamingCall<Buffer, Buffer> = (call) => {
        void calls.stream(call, (rpc) => decodeThen(() => handler(request.decode(call.request), rpc), response.encode));
      };
      return handle;
    }
    case "bidi_streaming": {
      const handle: handleBidiStreamingCall<Buffer, Buffer> = (call) => {
        void calls.stream(call, (rpc) => decodeThen(() => handler(mapItems(rpc.received(call), request.decode), rpc), response.encode));
      };
      return handle;
    }
  }
}

/** A stream of answers, where the request may be what is wrong. */
async function* decodeThen(begin: () => unknown, encode: (message: ToSend<DescMessage>) => Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const message of begin() as AsyncIterable<ToSend<DescMessage>>) yield encode(message);
}

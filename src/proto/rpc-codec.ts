/** Messages of gRPC calls as bytes. */
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { NarborError } from "../errors.ts";

/** Messages that are handled as bytes: a BlobChunk as its data, a Directory as the message itself, whose bytes are what it is named by. */
type BytesTypeName = "snix.castore.v1.BlobChunk" | "snix.castore.v1.Directory";
type IsBytes<D extends DescMessage> = MessageShape<D>["$typeName"] extends BytesTypeName ? true : false;

/** What a received message is in our code. */
export type Received<D extends DescMessage> = IsBytes<D> extends true ? Uint8Array : MessageShape<D>;
/** What a message to send is made from. */
export type ToSend<D extends DescMessage> = IsBytes<D> extends true ? Uint8Array : MessageInitShape<D>;

/** Turns one type of message to bytes and back. */
export interface RpcCodec<D extends DescMessage> {
  readonly encode: (message: ToSend<D>) => Uint8Array;
  /** Unknown fields are ignored. Bytes in the result may be views of `bytes`. @throws NarborError ERR_INVALID */
  readonly decode: (bytes: Uint8Array) => Received<D>;
}

const CODECS = new WeakMap<DescMessage, unknown>();

/** The codec of a message type. */
export function rpcCodec<D extends DescMessage>(schema: D): RpcCodec<D> {
  const known = CODECS.get(schema) as RpcCodec<D> | undefined;
  if (known !== undefined) return known;
  const codec = BYTES_CODECS[schema.typeName as BytesTypeName] ?? messageCodec(schema);
  CODECS.set(schema, codec);
  return codec as RpcCodec<D>;
}

function messageCodec<D extends DescMessage>(schema: D): { encode(message: MessageInitShape<D>): Uint8Array; decode(bytes: Uint8Array): MessageShape<D> } {
  return {
    encode: (message) => toBinary(schema, create(schema, message)),
    decode: (bytes) => {
      try {
        return fromBinary(schema, bytes, { readUnknownFields: false });
      } catch (error) {
        throw new NarborError("ERR_INVALID", `Cannot read ${schema.name}: found ${bytes.length} bytes that are not such a message`, { cause: error });
      }
    },
  };
}

interface BytesCodec {
  encode(bytes: Uint8Array): Uint8Array;
  decode(bytes: Uint8Array): Uint8Array;
}

const DATA_KEY = (1 << 3) | WireType.LengthDelimited;

// protobuf-es takes five times as long to write a message that is nothing but bytes.
const BYTES_CODECS: Readonly<Record<BytesTypeName, BytesCodec>> = {
  "snix.castore.v1.BlobChunk": { encode: encodeBlobChunk, decode: decodeBlobChunk },
  "snix.castore.v1.Directory": { encode: (bytes) => bytes, decode: (bytes) => bytes },
};

function encodeBlobChunk(data: Uint8Array): Uint8Array {
  if (data.length === 0) return data;
  const head = [DATA_KEY];
  let rest = data.length;
  for (; rest >= 0x80; rest >>>= 7) head.push((rest & 0x7f) | 0x80);
  head.push(rest);
  const message = Buffer.allocUnsafe(head.length + data.length);
  message.set(head);
  message.set(data, head.length);
  return message;
}

function decodeBlobChunk(bytes: Uint8Array): Uint8Array {
  try {
    const reader = new BinaryReader(bytes);
    let data: Uint8Array = new Uint8Array(0);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 1 && wireType === WireType.LengthDelimited) data = reader.bytes();
      else reader.skip(wireType, field);
    }
    return data;
  } catch (error) {
    throw new NarborError("ERR_INVALID", `Cannot read BlobChunk: found ${bytes.length} bytes that are not such a message`, { cause: error });
  }
}

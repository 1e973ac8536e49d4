/** Messages of gRPC calls as bytes. */
import type { DescField, DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ScalarType, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { NarborError } from "../errors.ts";
import { BatchUpdateBlobsRequestSchema } from "./gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";

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
  const codec = BYTES_CODECS[schema.typeName as BytesTypeName] ?? (schema.typeName === BatchUpdateBlobsRequestSchema.typeName ? BATCH_UPDATE_CODEC : messageCodec(schema));
  CODECS.set(schema, codec);
  return codec as RpcCodec<D>;
}

function messageCodec<D extends DescMessage>(schema: D): { encode(message: MessageInitShape<D>): Uint8Array; decode(bytes: Uint8Array): MessageShape<D> } {
  return {
    encode: (message) => toBinary(schema, create(schema, message)),
    decode: (bytes) => {
      try {
        checkFieldCount(schema, bytes);
        return fromBinary(schema, bytes, { readUnknownFields: false });
      } catch (error) {
        throw new NarborError("ERR_INVALID", `Cannot read ${schema.name}: found ${bytes.length} bytes that are not such a message`, { cause: error });
      }
    },
  };
}

/**
 * Fields that a message may have, with those of the messages within it, repeated ones counted each time: two bytes of an empty one become an object
 * of some hundred. No honest message has more: 4 MiB of digests are 180,000, and each of the 131,072 chunks of a blob of 32 GiB is three.
 */
const MAX_FIELDS = 393_216;

function checkFieldCount(schema: DescMessage, bytes: Uint8Array): void {
  if (bytes.length < MAX_FIELDS) return;
  const reader = new BinaryReader(bytes);
  let count = 0;
  const add = (fields: number): void => {
    count += fields;
    if (count > MAX_FIELDS) throw new RangeError(`more than ${MAX_FIELDS} fields`);
  };
  const walk = (message: DescMessage, end: number): void => {
    while (reader.pos < end) {
      add(1);
      const [number, wireType] = reader.tag();
      const field = wireType === WireType.LengthDelimited ? message.fields.find((known) => known.number === number) : undefined;
      if (field?.message !== undefined) {
        const length = reader.uint32();
        walk(field.message, reader.pos + length);
      } else {
        const { length } = reader.skip(wireType, number);
        // A number takes a byte at least.
        if (field !== undefined && holdsNumbers(field)) add(length);
      }
    }
  };
  walk(schema, reader.len);
}

/** Whether one field holds many values, each without a key of its own. */
function holdsNumbers(field: DescField): boolean {
  return field.fieldKind === "list" && (field.listKind === "enum" || (field.listKind === "scalar" && field.scalar !== ScalarType.STRING && field.scalar !== ScalarType.BYTES));
}

interface BytesCodec {
  encode(bytes: Uint8Array): Uint8Array;
  decode(bytes: Uint8Array): Uint8Array;
}

type BatchUpdateRequest = NonNullable<MessageInitShape<typeof BatchUpdateBlobsRequestSchema>["requests"]>[number];

/** Of a key and a length. */
const MAX_LENGTH_BYTES = 11;
const NO_BYTES = new Uint8Array(0);
const DATA_KEY = (1 << 3) | WireType.LengthDelimited;

// protobuf-es takes five times as long to write a message that is nothing but bytes.
const BYTES_CODECS: Readonly<Record<BytesTypeName, BytesCodec>> = {
  "snix.castore.v1.BlobChunk": { encode: encodeBlobChunk, decode: decodeBlobChunk },
  "snix.castore.v1.Directory": { encode: (bytes) => bytes, decode: (bytes) => bytes },
};

/** protobuf-es copies what is in a message within a message twice, and clears the memory for it before: for megabytes of blobs that is most of its time. */
const BATCH_UPDATE_CODEC: RpcCodec<typeof BatchUpdateBlobsRequestSchema> = { ...messageCodec(BatchUpdateBlobsRequestSchema), encode: encodeBatchUpdate };

function encodeBatchUpdate({ instanceName = "", requests = [], digestFunction = 0 }: MessageInitShape<typeof BatchUpdateBlobsRequestSchema>): Uint8Array {
  const heads = requests.map((request) => encodeRequestHead(request));
  const total = requests.reduce((sum, { data }, index) => sum + (heads[index]?.length ?? 0) + (data?.length ?? 0) + MAX_LENGTH_BYTES, instanceName.length * 3 + 2 * MAX_LENGTH_BYTES);
  const writer = new ByteWriter(total);
  writeBytesField(writer, 1, Buffer.from(instanceName));
  for (const [index, { data = NO_BYTES }] of requests.entries()) {
    const head = heads[index] as Uint8Array;
    writer.writeVarint((2 << 3) | WireType.LengthDelimited);
    writer.writeVarint(head.length + data.length);
    writer.writeBytes(head);
    writer.writeBytes(data);
  }
  writeNumberField(writer, 5, digestFunction);
  return writer.take();
}

/** A request up to its data, which the order of fields allows to be last. */
function encodeRequestHead({ digest, data = NO_BYTES, compressor = 0 }: BatchUpdateRequest): Uint8Array {
  const writer = new ByteWriter();
  if (digest !== undefined) {
    const inner = new ByteWriter();
    writeBytesField(inner, 1, Buffer.from(digest.hash ?? ""));
    writeNumberField(inner, 2, Number(digest.sizeBytes ?? 0n));
    writer.writeVarint((1 << 3) | WireType.LengthDelimited);
    writer.writeVarint(inner.length);
    writer.writeBytes(inner.view());
  }
  writeNumberField(writer, 3, compressor);
  if (data.length > 0) {
    writer.writeVarint((2 << 3) | WireType.LengthDelimited);
    writer.writeVarint(data.length);
  }
  return writer.take();
}

function writeBytesField(writer: ByteWriter, field: number, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  writer.writeVarint((field << 3) | WireType.LengthDelimited);
  writer.writeVarint(bytes.length);
  writer.writeBytes(bytes);
}

function writeNumberField(writer: ByteWriter, field: number, value: number): void {
  if (value === 0) return;
  writer.writeVarint((field << 3) | WireType.Varint);
  writer.writeVarint(value);
}

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

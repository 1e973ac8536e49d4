/** Protobuf written and read by hand, from the wire format alone: what tests hold our messages against. */

/** A field of bytes: a string, a message, bytes. Left out when empty, as proto3 leaves out defaults, unless `always`. */
export function lengthField(number: number, value: string | Uint8Array, always = false): Buffer {
  const bytes = Buffer.from(value as string);
  return bytes.length === 0 && !always ? Buffer.alloc(0) : Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

/** A field that is a number; left out when 0. */
export function numberField(number: number, value: number | bigint | boolean): Buffer {
  return BigInt(value) === 0n ? Buffer.alloc(0) : Buffer.concat([varint(number << 3), varint(value)]);
}

/** A message of these fields, in this order. */
export function message(...fields: readonly Uint8Array[]): Buffer {
  return Buffer.concat(fields);
}

/** Fields that no message of ours has, one of every wire type. */
export const UNKNOWN_FIELDS = message(
  numberField(1001, 77),
  lengthField(1002, "what is this"),
  Buffer.concat([varint((1003 << 3) | 5), Buffer.from("01020304", "hex")]),
  Buffer.concat([varint((1004 << 3) | 1), Buffer.from("0102030405060708", "hex")]),
);

/** A field as it stands on the wire: a number for a varint, bytes for what has a length. */
export interface RawField {
  readonly number: number;
  readonly value: bigint | Buffer;
}

/** The fields of a message, in the order in which they stand. */
export function readFields(bytes: Uint8Array): RawField[] {
  const fields: RawField[] = [];
  const buffer = Buffer.from(bytes);
  let position = 0;
  const readVarint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = buffer.readUInt8(position++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (position < buffer.length) {
    const key = Number(readVarint());
    const number = key >> 3;
    if ((key & 7) === 0) fields.push({ number, value: readVarint() });
    else if ((key & 7) === 2) {
      const length = Number(readVarint());
      if (position + length > buffer.length) throw new Error(`field ${number} has ${length} bytes, ${buffer.length - position} are left`);
      fields.push({ number, value: buffer.subarray(position, (position += length)) });
    } else throw new Error(`wire type ${key & 7}`);
  }
  return fields;
}

/** All values of a field that is bytes. */
export function bytesOf(bytes: Uint8Array, number: number): Buffer[] {
  return readFields(bytes).flatMap((field) => (field.number === number && Buffer.isBuffer(field.value) ? [field.value] : []));
}

/** A field that is a number; 0 when it is left out. Negative ones as protobuf's int64 has them. */
export function numberOf(bytes: Uint8Array, number: number): number {
  const found = readFields(bytes).find((field) => field.number === number)?.value;
  return typeof found === "bigint" ? Number(BigInt.asIntN(64, found)) : 0;
}

function varint(value: number | bigint | boolean): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

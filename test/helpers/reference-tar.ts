/**
 * A tar writer that shares nothing with src/tar, and writes whatever it is told to: each field of a header is a number, which goes in as
 * octal digits, or bytes as they are.
 */

const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
  gnuTimes: [345, 24],
  sparse: [386, 97],
  realSize: [483, 12],
  starPrefix: [345, 131],
  starTimes: [476, 24],
  trailer: [508, 4],
} as const;

export type TarField = keyof typeof FIELDS;
export type TarFields = Readonly<Partial<Record<TarField, number | string | Uint8Array>>>;

export const USTAR = "ustar\x0000";
export const GNU = "ustar  \0";
/** Two blocks of zeros. */
export const END = Buffer.alloc(1024);

/** A header: of a file, in ustar, if nothing else is said. Its checksum is right unless it is said. */
export function tarHeader(fields: TarFields): Buffer {
  const block = Buffer.alloc(512);
  const { checksum, ...others } = { name: "a", mode: 0o644, uid: 0, gid: 0, size: 0, mtime: 0, type: "0", magic: USTAR, ...fields };
  for (const [name, value] of Object.entries(others)) put(block, name as TarField, value);
  if (checksum === undefined) fixChecksum(block);
  else put(block, "checksum", checksum);
  return block;
}

/** Make a header's checksum right. */
export function fixChecksum(block: Buffer): void {
  put(block, "checksum", "        ");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(block, "checksum", `${sum.toString(8).padStart(6, "0")}\0 `);
}

/** Write a field into a header. */
export function put(block: Buffer, name: TarField, value: number | string | Uint8Array): void {
  const [start, length] = FIELDS[name];
  const bytes = typeof value === "number" ? Buffer.from(`${value.toString(8).padStart(length - 1, "0")}\0`) : Buffer.from(value as string);
  if (bytes.length > length) throw new TypeError(`${bytes.length} bytes do not fit into ${name}`);
  bytes.copy(block, start);
}

/** A number in base 256, as GNU tar writes those that octal digits have no room for. */
export function base256(value: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = length - 1, rest = value; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  bytes[0] = (bytes[0] as number) | 0x80;
  return bytes;
}

/** Bytes and the zeros that follow them. */
export function padded(bytes: Uint8Array | string): Buffer {
  const contents = Buffer.from(bytes as string);
  return Buffer.concat([contents, Buffer.alloc((512 - (contents.length % 512)) % 512)]);
}

/** A header with its contents, of which it says the size if nothing else is said. */
export function tarEntry(fields: TarFields, contents: Uint8Array | string = ""): Buffer {
  return Buffer.concat([tarHeader({ size: Buffer.from(contents as string).length, ...fields }), padded(contents)]);
}

/** A PAX record. */
export function paxRecord(key: string, value: string | Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, "latin1"), Buffer.from(value as string), Buffer.from("\n")]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** A PAX extended header; `g` for a global one. */
export function pax(records: readonly (readonly [key: string, value: string | Uint8Array])[], type: "x" | "g" = "x"): Buffer {
  return tarEntry({ name: "././@PaxHeader", type }, Buffer.concat(records.map(([key, value]) => paxRecord(key, value))));
}

/** GNU's long name, or long link. */
export function longName(name: string | Uint8Array, type: "L" | "K" = "L"): Buffer {
  return tarEntry({ name: "././@LongLink", type, magic: GNU }, Buffer.concat([Buffer.from(name as string), Buffer.alloc(1)]));
}

/** Ranges as old GNU headers have them: 4 in a header, 21 in a block after it. */
export function gnuRanges(ranges: readonly (readonly [offset: number, length: number])[], more = false, room = 4): Buffer {
  const bytes = Buffer.alloc(room * 24 + 1);
  const octal = (value: number): string => `${value.toString(8).padStart(11, "0")}\0`;
  for (const [index, [offset, length]] of ranges.entries()) bytes.write(octal(offset) + octal(length), index * 24, "latin1");
  bytes[room * 24] = more ? 1 : 0;
  return bytes;
}

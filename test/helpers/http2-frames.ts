/** HTTP/2 frames made by hand, for what no client library would send: streams cut at any byte, and in one piece with what comes before. */
const TYPE = { data: 0, headers: 1, rstStream: 3, settings: 4, ping: 6, goAway: 7 } as const;

export function frame(type: keyof typeof TYPE, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(TYPE[type], 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The preface and empty SETTINGS, with which every client begins. */
export const CLIENT_BEGINS = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame("settings", 0, 0)]);

/** HEADERS of a gRPC call, none of them compressed. */
export function callHeaders(stream: number, path: string): Buffer {
  const headers = { ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test", te: "trailers", "content-type": "application/grpc" };
  const text = (value: string): Buffer => Buffer.concat([Buffer.of(value.length), Buffer.from(value)]);
  const block = Object.entries(headers).map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)]));
  return frame("headers", 0x4, stream, Buffer.concat(block));
}

export function data(stream: number, bytes: Uint8Array, endStream = false): Buffer {
  return frame("data", endStream ? 1 : 0, stream, bytes);
}

/** RST_STREAM, CANCEL unless another code is given. */
export function rstStream(stream: number, code = 8): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(code);
  return frame("rstStream", 0, stream, payload);
}

export function goAway(): Buffer {
  return frame("goAway", 0, 0, Buffer.alloc(8));
}

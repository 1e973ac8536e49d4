/** A piece of a stream that becomes a zstd frame of its own when that is compressed, so that a frame that was made of it before can go in its place. */
export interface FramedBytes {
  readonly bytes: Uint8Array;
  /** What compressing them would make, where that is there already. */
  readonly frame: Uint8Array | undefined;
}

/** A piece of a stream: bytes that go together with those around them, or alone. */
export type StreamPiece = Uint8Array | FramedBytes;

export function bytesOf(piece: StreamPiece): Uint8Array {
  return piece instanceof Uint8Array ? piece : piece.bytes;
}

/**
 * What a NAR says, in the order in which it says it.
 *
 * `name` is the entry's name in its directory, and empty for the root. Names, targets and data are views of the bytes that
 * were pushed into the decoder: copy what you keep.
 */
export type NarEvent =
  /** A directory begins; its entries follow, then its `endDirectory`. */
  | { readonly type: "directory"; readonly name: Uint8Array }
  | { readonly type: "endDirectory" }
  | { readonly type: "symlink"; readonly name: Uint8Array; readonly target: Uint8Array }
  /** A file begins; `data` follows until `size` bytes have come, then `endFile`. `offset` is where its contents lie in the NAR. */
  | { readonly type: "file"; readonly name: Uint8Array; readonly executable: boolean; readonly size: number; readonly offset: number }
  | { readonly type: "data"; readonly bytes: Uint8Array }
  | { readonly type: "endFile" };

/** The longest name of a directory entry, in bytes. */
export const MAX_NAME_LENGTH = 255;
/** The longest target of a symbolic link, in bytes. */
export const MAX_TARGET_LENGTH = 4095;
/** A node's depth is below this; the root's is 0. */
export const MAX_DEPTH = 64;

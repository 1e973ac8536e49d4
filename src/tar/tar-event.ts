/**
 * What a tar archive says, in the order of its bytes.
 *
 * The bytes of all `raw` and `data` events, joined, are the archive: that is what lets one be made again byte for byte. Byte arrays of
 * events are views of what was pushed into the decoder: copy what you keep. Those of a `TarEntry` are its own.
 */
export type TarEvent =
  /** Bytes that are no one's contents: headers, extended headers with their contents, sparse maps, padding, the end and what follows it. */
  | { readonly type: "raw"; readonly bytes: Uint8Array }
  /** An entry begins; its headers have been given before. `data` follows until `entry.storedSize` bytes have come, then `endEntry`, and then its padding. */
  | { readonly type: "entry"; readonly entry: TarEntry }
  | { readonly type: "data"; readonly bytes: Uint8Array }
  | { readonly type: "endEntry" };

/** `other` is what no POSIX file is: a volume's label, GNU tar's list of a directory's names, whatever a vendor thought of. It may have data. */
export type TarEntryKind = "file" | "directory" | "symlink" | "hardlink" | "characterDevice" | "blockDevice" | "fifo" | "other";

export interface TarEntry {
  /** As it is named after all extended headers, and not cleaned: it may be absolute, empty, have `..` in it, or end with a slash whatever it names. */
  readonly path: Uint8Array;
  readonly kind: TarEntryKind;
  /** The header's letter for the kind, for errors: `D` of an `other`, say. */
  readonly typeFlag: string;
  /** Empty but for symlinks and hard links. A hard link's is the path of an entry, as that is named. */
  readonly linkTarget: Uint8Array;
  /** Permissions with set-user-ID, set-group-ID and sticky bit: 0 to 0o7777. */
  readonly mode: number;
  /** May be negative, which some archivers write for no one. */
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970; may be negative and have a fraction, as far as a number holds it. */
  readonly mtime: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Bytes of `data` that follow: 0 for links, directories, devices and fifos, whatever their headers say. */
  readonly storedSize: number;
  /** Bytes of the file: more than `storedSize` when it has holes, and then as many as the archive claims. */
  readonly size: number;
  /** Where the stored bytes belong in a file with holes: in order, apart, within `size`, their lengths `storedSize` together. Zeros are between them. */
  readonly sparse: readonly SparseRange[] | undefined;
  /** Extended attributes, from PAX records `SCHILY.xattr.NAME`. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Where the entry's own header is in the archive, which is the last of those that precede its data. */
  readonly offset: number;
}

export interface SparseRange {
  readonly offset: number;
  readonly length: number;
}

/** The longest path of an entry and the longest target of a link, in bytes. */
export const MAX_PATH_LENGTH = 4096;
/** Most bytes of one extended header's contents, and of one sparse map: as in Go's archive/tar and in libarchive. */
export const MAX_EXTENDED_HEADER_LENGTH = 1024 * 1024;
/** Most ranges of data in a file with holes. */
export const MAX_SPARSE_RANGES = 65_536;

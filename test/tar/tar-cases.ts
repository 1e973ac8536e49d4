/**
 * Archives of one or two entries, each for one thing that may stand in a tar, and what is read in them or said of them. Go's archive/tar is
 * asked the same (references.test.ts): where it reads what we refuse, `go` says so.
 */
import { base256, END, GNU, gnuRanges, longName, padded, pax, put, tarEntry, tarHeader, fixChecksum } from "../helpers/reference-tar.ts";
import type { PlainTarEntry } from "../helpers/tar-events.ts";

export interface ReadCase {
  readonly what: string;
  readonly archive: Buffer;
  /** Whether two blocks of zeros are its end, and nothing follows them. */
  readonly hasEnd: boolean;
  /** What is to be found of each entry. */
  readonly entries: readonly Partial<PlainTarEntry>[];
}

export interface RefusedCase {
  readonly what: string;
  readonly archive: Buffer;
  /** The message, after `Cannot parse tar: `. */
  readonly error: string;
  /** That Go reads it. */
  readonly go?: "reads";
}

const STAR_TIMES = "00000000000\x0000000000000\0";

const read = (what: string, parts: readonly Uint8Array[], ...entries: readonly Partial<PlainTarEntry>[]): ReadCase => ({ what, archive: Buffer.concat([...parts, END]), hasEnd: true, entries });
/** Without an end. */
const readAsIs = (what: string, parts: readonly Uint8Array[], ...entries: readonly Partial<PlainTarEntry>[]): ReadCase => ({ what, archive: Buffer.concat(parts), hasEnd: false, entries });
const refused = (what: string, parts: readonly Uint8Array[], error: string, go?: "reads"): RefusedCase => ({ what, archive: Buffer.concat(parts), error, ...(go !== undefined && { go }) });

/** A file after what is tested, which is found only when that took the right number of bytes. */
const NEXT = tarEntry({ name: "next" }, "next");
const next = { path: "next", data: "next" };

const A = tarEntry({ name: "a" }, "hello");
const a = { path: "a", data: "hello" };
const LONG = "d/".repeat(100) + "e";
const SPARSE_DATA = Buffer.concat([Buffer.alloc(512, "x"), Buffer.alloc(100, "y")]);
const SPARSE = { size: 5_000, storedSize: 612, sparse: [{ offset: 1_024, length: 512 }, { offset: 4_096, length: 100 }], data: SPARSE_DATA.toString() };

function signedChecksum(): Buffer {
  const header = tarHeader({ name: "\xfc\xfc", size: 0 });
  const sum = header.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 0x20 : byte >= 0x80 ? byte - 256 : byte), 0);
  put(header, "checksum", `${sum.toString(8).padStart(6, "0")}\0 `);
  return header;
}

function withField(name: Parameters<typeof put>[1], value: string, base: Buffer = tarHeader({})): Buffer {
  const header = Buffer.from(base);
  put(header, name, value);
  fixChecksum(header);
  return header;
}

export const READ: readonly ReadCase[] = [
  readAsIs("nothing at all", []),
  readAsIs("nothing but an end", [END]),
  readAsIs("one block of zeros and no other", [A, END.subarray(512)], a),
  readAsIs("no block of zeros", [A], a),
  readAsIs("an end without its padding", [A.subarray(0, 512 + 5)], a),
  readAsIs("an end within its padding", [A.subarray(0, 512 + 300)], a),
  readAsIs("anything after the end", [A, END, A, Buffer.from("whatever")], a),
  readAsIs("a record of twenty blocks", [A, Buffer.alloc(10_240 - A.length)], a),

  read("V7", [tarEntry({ name: "a", magic: "" }, "hello"), NEXT], a, next),
  read("V7, with anything where ustar has device numbers", [tarEntry({ name: "a", magic: "", deviceMajor: "whatever" }, "hello")], { ...a, deviceMajor: 0 }),
  read("V7, whose directories have a slash and no type", [tarHeader({ name: "d/", magic: "", type: "\0" }), NEXT], { path: "d/", kind: "directory", typeFlag: "5" }, next),
  read("type NUL without a slash", [tarEntry({ name: "a", type: "\0" }, "hello")], { ...a, kind: "file", typeFlag: "0" }),
  read("type NUL with a slash in its PAX path", [pax([["path", "d/"]]), tarHeader({ type: "\0" }), NEXT], { path: "d/", kind: "directory" }, next),
  read("type NUL with a slash in its header and none in its long name", [longName("b"), tarEntry({ name: "d/", type: "\0" }, "hello"), NEXT], { path: "b", kind: "file" }, next),
  read("type 0 with a slash", [tarEntry({ name: "d/" }, "hello"), NEXT], { path: "d/", kind: "file", data: "hello" }, next),
  read("ustar's prefix", [tarEntry({ name: "name", prefix: "the/prefix" }, "hello")], { path: "the/prefix/name" }),
  read("a name and a prefix that fill their fields", [tarEntry({ name: "n".repeat(100), prefix: "p".repeat(155) })], { path: `${"p".repeat(155)}/${"n".repeat(100)}` }),
  read("a name with more after its NUL", [tarEntry({ name: "a\0b" }, "hello")], a),
  read("a link target that fills its field", [tarHeader({ type: "2", linkName: "t".repeat(100) })], { kind: "symlink", linkTarget: "t".repeat(100) }),
  read("star's prefix and times", [tarEntry({ name: "name", starPrefix: "p".repeat(131), starTimes: STAR_TIMES, trailer: "tar\0" })], { path: `${"p".repeat(131)}/name` }),
  read("GNU's times, which are no prefix", [tarEntry({ name: "a", magic: GNU, gnuTimes: "14717055623\x0014717055624\0" }, "hello")], a),
  read("a prefix in a GNU header, as Go wrote once", [tarEntry({ name: "name", magic: GNU, prefix: "the/prefix" }, "hello")], { path: "the/prefix/name" }),
  read("what is neither times nor text in a GNU header", [tarEntry({ name: "a", magic: GNU, gnuTimes: "hell\xc3\xb6" }, "hello")], a),
  read("a GNU change time of base 256 and no access time", [tarEntry({ name: "a", magic: GNU, gnuTimes: Buffer.concat([Buffer.alloc(12), base256(5n, 12)]) }, "hello")], a),
  read("ustar's magic with another version", [tarEntry({ name: "name", magic: "ustar\0zz", prefix: "p" })], { path: "p/name" }),
  read("GNU's magic with another version, which is V7's", [tarEntry({ name: "name", magic: "ustar 00", prefix: "p" })], { path: "name" }),

  read("a checksum of signed bytes", [signedChecksum(), NEXT], {}, next),
  read("a checksum with spaces before it", [tarHeader({ checksum: "  7720 \0", mode: 0o644, name: "zz", uid: 0 })].map((block) => withSpacedChecksum(block)), { path: "zz" }),
  read("numbers with spaces, and without a NUL", [tarHeader({ mode: "   755 ", uid: "00001750", mtime: "13371337133" })], { mode: 0o755, uid: 0o1750, mtime: 0o13371337133 }),
  read("numbers that are empty", [withField("uid", "\0\0\0\0\0\0\0\0", withField("mode", "        "))], { uid: 0, mode: 0 }),
  read("a number that ends at a NUL", [withField("uid", "12\x00377\0\0")], { uid: 0o12 }),
  read("a mode with a file's type in it", [tarHeader({ mode: 0o104755 })], { mode: 0o4755 }),
  read("ids of base 256", [tarHeader({ magic: GNU, uid: base256(3_000_000n, 8), gid: base256(2n ** 40n, 8) })], { uid: 3_000_000, gid: 2 ** 40 }),
  read("a negative id, and a time before 1970", [tarHeader({ magic: GNU, uid: base256(-2n, 8), mtime: base256(-86_400n, 12) })], { uid: -2, mtime: -86_400 }),
  read("a size of base 256", [tarEntry({ name: "a", magic: GNU, size: base256(5n, 12) }, "hello"), NEXT], a, next),

  read("every kind", [
    tarEntry({ name: "file" }, "hello"),
    tarHeader({ name: "hard link", type: "1", linkName: "file" }),
    tarHeader({ name: "symlink", type: "2", linkName: "../x" }),
    tarHeader({ name: "character device", type: "3", deviceMajor: 1, deviceMinor: 3 }),
    tarHeader({ name: "block device", type: "4", deviceMajor: 8, deviceMinor: 0 }),
    tarHeader({ name: "directory/", type: "5" }),
    tarHeader({ name: "fifo", type: "6" }),
    tarEntry({ name: "contiguous", type: "7" }, "hello"),
    tarEntry({ name: "dumpdir/", type: "D", magic: GNU }, "Yfile\0\0"),
    tarHeader({ name: "a label", type: "V", magic: GNU }),
    tarEntry({ name: "Solaris", type: "X" }, "16 path=another\n"),
    tarEntry({ name: "no one's", type: "Z" }, "hello"),
    NEXT,
  ],
    { path: "file", kind: "file", typeFlag: "0" },
    { path: "hard link", kind: "hardlink", linkTarget: "file", typeFlag: "1" },
    { path: "symlink", kind: "symlink", linkTarget: "../x" },
    { path: "character device", kind: "characterDevice", deviceMajor: 1, deviceMinor: 3 },
    { path: "block device", kind: "blockDevice", deviceMajor: 8, deviceMinor: 0 },
    { path: "directory/", kind: "directory" },
    { path: "fifo", kind: "fifo" },
    { path: "contiguous", kind: "file", data: "hello", typeFlag: "7" },
    { path: "dumpdir/", kind: "other", data: "Yfile\0\0", typeFlag: "D" },
    { path: "a label", kind: "other", data: "", typeFlag: "V" },
    { path: "Solaris", kind: "other", typeFlag: "X" },
    { path: "no one's", kind: "other", data: "hello", typeFlag: "Z" },
    next,
  ),
  ...["1", "2", "3", "4", "5", "6"].map((type) =>
    read(`a size in a header of type ${type}, which has no data`, [tarHeader({ type, size: 5_000 }), NEXT], { size: 0, storedSize: 0, data: "" }, next),
  ),
  ...["1", "2", "5"].map((type) =>
    read(`a PAX size for type ${type}, which has no data`, [pax([["size", "5000"]]), tarHeader({ type }), NEXT], { size: 0, storedSize: 0, data: "" }, next),
  ),
  read("a file of size 0", [tarHeader({ name: "empty" }), NEXT], { path: "empty", size: 0, data: "" }, next),
  read("files of one byte less, as many and one more than a block", [511, 512, 513].map((size) => tarEntry({ name: String(size) }, "x".repeat(size))), { size: 511 }, { size: 512 }, { size: 513 }),
  read("names that lead elsewhere", ["/etc/passwd", "../../up", "./a//b/../c", ""].map((name) => tarHeader({ name })), { path: "/etc/passwd" }, { path: "../../up" }, { path: "./a//b/../c" }, { path: "" }),
  read("the same name twice", [A, tarEntry({ name: "a" }, "again")], a, { path: "a", data: "again" }),

  read("a long name of GNU", [longName(LONG), tarEntry({ name: LONG.slice(0, 100), magic: GNU }, "hello"), NEXT], { path: LONG, data: "hello" }, next),
  read("a long link of GNU", [longName(LONG, "K"), tarHeader({ type: "2", linkName: "short", magic: GNU })], { linkTarget: LONG }),
  read("both, for one entry only", [longName(LONG, "K"), longName("the name"), tarHeader({ type: "1", magic: GNU }), tarHeader({ name: "b", type: "2", linkName: "c" })], { path: "the name", linkTarget: LONG }, { path: "b", linkTarget: "c" }),
  read("a long name that ends at a NUL", [longName("short\0and more"), A], { ...a, path: "short" }),
  read("a long name without its NUL", [tarEntry({ type: "L", magic: GNU }, "name"), A], { ...a, path: "name" }),
  read("an empty long name, which is none", [longName(""), longName("", "K"), tarHeader({ name: "a", type: "2", linkName: "b" })], { path: "a", linkTarget: "b" }),
  read("two long names, of which the second counts", [longName("first"), longName("second"), A], { ...a, path: "second" }),
  read("a long name of 4,096 bytes", [longName("n".repeat(4_096)), A], { path: "n".repeat(4_096) }),
  read("a long name after a PAX path", [pax([["path", "of PAX"], ["linkpath", "link of PAX"]]), longName("of GNU"), longName("link of GNU", "K"), tarHeader({ type: "2" })], { path: "of GNU", linkTarget: "link of GNU" }),
  read("a long name before a PAX path", [longName("of GNU"), longName("link of GNU", "K"), pax([["path", "of PAX"], ["linkpath", "link of PAX"]]), tarHeader({ type: "2" })], { path: "of GNU", linkTarget: "link of GNU" }),

  read("PAX records", [
    pax([["path", "\u{1f600}"], ["uid", "3000000"], ["gid", "-1"], ["size", "5"], ["mtime", "1700000000.25"], ["atime", "1.5"], ["ctime", "-1.5"], ["uname", "me"], ["comment", "nothing"], ["hdrcharset", "BINARY"]]),
    tarEntry({ name: "b", uid: 1, gid: 1, mtime: 1 }, "hello"),
    NEXT,
  ], { path: Buffer.from("\u{1f600}").toString("latin1"), uid: 3_000_000, gid: -1, size: 5, mtime: 1_700_000_000.25 }, { ...next, uid: 0, gid: 0, mtime: 0 }),
  read("a PAX header with nothing in it", [pax([]), A], a),
  read("a PAX path that is not UTF-8", [pax([["path", Buffer.from([0x66, 0xff, 0xfe])]]), A], { ...a, path: "f\xff\xfe" }),
  read("a PAX path with a newline and an equals sign", [pax([["path", "a\nb=c"]]), A], { path: "a\nb=c" }),
  read("the last of several records", [pax([["path", "first"], ["uid", "1"], ["path", "last"], ["uid", "2"]]), A], { path: "last", uid: 2 }),
  read("empty records, which are none", [pax([["path", ""], ["linkpath", ""], ["uid", ""], ["size", ""], ["mtime", ""]]), tarEntry({ name: "a", uid: 7, mtime: 8 }, "hello"), NEXT], { ...a, uid: 7, mtime: 8 }, next),
  read("an empty record after another, which takes it back", [pax([["path", "first"], ["path", ""]]), A], a),
  read("two PAX headers, of which the second takes the first's place", [pax([["path", "first"], ["uid", "1"]]), pax([["path", "second"]]), A], { path: "second", uid: 0 }),
  read("a PAX size larger than the header's", [pax([["size", "5"]]), tarEntry({ name: "a", size: 0 }, "hello"), NEXT], a, next),
  read("a PAX size smaller than the header's", [pax([["size", "5"]]), tarEntry({ name: "a", size: 4_000 }, "hello"), NEXT], a, next),
  read("signs and leading zeros in PAX numbers", [pax([["size", "+0005"], ["uid", "-0"]]), A], { ...a, uid: 0 }),
  ...([["-1.5", -1.5], ["-0.5", -0.5], ["12.", 12], ["0.000000001", 1e-9], ["1.9999999999", 1.999999999], ["+3", 3]] as const).map(([text, mtime]) => read(`a PAX time of ${text}`, [pax([["mtime", text]]), A], { mtime })),
  read("extended attributes", [pax([["SCHILY.xattr.user.a", "value"], ["SCHILY.xattr.user.nul", "\0a\0=\n"], ["SCHILY.xattr.user.none", ""], ["SCHILY.xattr.user.a", "last"], ["SCHILY.acl.access", "user::rw-"]]), A, NEXT], { xattrs: { "user.a": "last", "user.nul": "\0a\0=\n", "user.none": "" } }, { xattrs: {} }),
  read("a PAX header in pieces of padding and more", [pax([["comment", "c".repeat(5_000)], ["path", "after it"]]), A], { path: "after it" }),
  read("a PAX header before a global one, which ends it", [pax([["path", "lost"]]), longName("lost too"), pax([["comment", "of all"]], "g"), A], a),

  read("an old GNU file with holes", [tarEntry({ name: "s", type: "S", magic: GNU, realSize: 5_000, sparse: gnuRanges([[1_024, 512], [4_096, 100]]) }, SPARSE_DATA), NEXT], { path: "s", kind: "file", typeFlag: "S", ...SPARSE }, next),
  read("an old GNU file with more ranges than a header holds", [
    tarHeader({ name: "s", type: "S", magic: GNU, realSize: 1_000_000, size: 30 * 10, sparse: gnuRanges(rangesFrom(0, 4), true) }),
    padded(gnuRanges(rangesFrom(4, 21), true, 21)),
    padded(gnuRanges(rangesFrom(25, 5), false, 21)),
    padded("0123456789".repeat(30)),
    NEXT,
  ], { size: 1_000_000, storedSize: 300, sparse: rangesFrom(0, 30).map(([offset, length]) => ({ offset, length })) }, next),
  read("an old GNU file with an empty block of ranges", [tarHeader({ name: "s", type: "S", magic: GNU, realSize: 10, sparse: gnuRanges([], true) }), Buffer.alloc(512), NEXT], { size: 10, storedSize: 0, sparse: [] }, next),
  read("an old GNU file that is all hole", [tarHeader({ name: "s", type: "S", magic: GNU, realSize: 1_000, sparse: gnuRanges([[1_000, 0]]) }), NEXT], { size: 1_000, storedSize: 0, sparse: [{ offset: 1_000, length: 0 }] }, next),
  read("an old GNU file with holes whose name is long", [longName(LONG), tarEntry({ type: "S", magic: GNU, realSize: 5_000, sparse: gnuRanges([[1_024, 512], [4_096, 100]]) }, SPARSE_DATA)], { path: LONG, ...SPARSE }),
  read("a file with holes in PAX 0.0", [
    pax([["GNU.sparse.size", "5000"], ["GNU.sparse.numblocks", "2"], ["GNU.sparse.offset", "1024"], ["GNU.sparse.numbytes", "512"], ["GNU.sparse.offset", "4096"], ["GNU.sparse.numbytes", "100"]]),
    tarEntry({ name: "s" }, SPARSE_DATA),
    NEXT,
  ], { path: "s", ...SPARSE }, next),
  read("a file with holes in PAX 0.1", [
    pax([["GNU.sparse.size", "5000"], ["GNU.sparse.numblocks", "2"], ["GNU.sparse.name", "real name"], ["GNU.sparse.map", "1024,512,4096,100"]]),
    tarEntry({ name: "GNUSparseFile.1/s" }, SPARSE_DATA),
    NEXT,
  ], { path: "real name", ...SPARSE }, next),
  read("a file with holes in PAX 0.1 that says its version", [
    pax([["GNU.sparse.major", "0"], ["GNU.sparse.minor", "1"], ["GNU.sparse.realsize", "10"], ["GNU.sparse.numblocks", "0"], ["GNU.sparse.map", ""]]),
    tarHeader({ name: "s" }),
    NEXT,
  ], { path: "s", size: 10, storedSize: 0, sparse: [] }, next),
  read("a file with holes in PAX 1.0", [
    pax([["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "5000"], ["GNU.sparse.name", "real name"]]),
    tarEntry({ name: "GNUSparseFile.1/s" }, Buffer.concat([padded("2\n1024\n512\n4096\n100\n"), SPARSE_DATA])),
    NEXT,
  ], { path: "real name", ...SPARSE }, next),
  read("a file with holes in PAX 1.0 with a long name of GNU, which its own name goes before", [
    longName("long name"),
    pax([["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "5000"], ["GNU.sparse.name", "real name"], ["path", "PAX name"]]),
    tarEntry({ name: "s" }, Buffer.concat([padded("2\n1024\n512\n4096\n100\n"), SPARSE_DATA])),
  ], { path: "real name", ...SPARSE }),
  read("a map of PAX 1.0 in three blocks, with a number across two of them", [
    pax([["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "100000"]]),
    tarEntry({ name: "s" }, Buffer.concat([padded(`00150\n${rangesFrom(0, 150).map(([offset, length]) => `${offset}\n${length}\n`).join("")}`), Buffer.alloc(1_500, "z")])),
    NEXT,
  ], { size: 100_000, storedSize: 1_500 }, next),
  read("a map of PAX 1.0 of no ranges", [
    pax([["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", "7"]]),
    tarEntry({ name: "s" }, padded("0\nwhatever\n")),
    NEXT,
  ], { size: 7, storedSize: 0, sparse: [] }, next),
  read("a sparse name without a map", [pax([["GNU.sparse.name", "not this"], ["GNU.sparse.size", "99"]]), A], a),
];

function rangesFrom(first: number, count: number): (readonly [offset: number, length: number])[] {
  return Array.from({ length: count }, (_, index) => [(first + index) * 600 + 600, 10] as const);
}

function withSpacedChecksum(block: Buffer): Buffer {
  put(block, "checksum", "        ");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(block, "checksum", `${sum.toString(8).padStart(7, " ")} `);
  return block;
}

const refusedPax = (what: string, contents: string, error: string, go?: "reads"): RefusedCase => refused(what, [tarEntry({ type: "x" }, contents), A, END], error, go);
const sparse10 = (map: string | Uint8Array, data = "", realSize = "1000"): Buffer =>
  Buffer.concat([pax([["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], ["GNU.sparse.realsize", realSize]]), tarEntry({ name: "s" }, Buffer.concat([padded(map), Buffer.from(data)])), END]);
const sparse01 = (records: readonly (readonly [key: string, value: string])[], data = "0123456789"): Buffer =>
  Buffer.concat([pax(records.map(([key, value]) => [`GNU.sparse.${key}`, value] as const)), tarEntry({ name: "s" }, data), END]);
const gnuSparse = (ranges: Buffer, realSize: number | Uint8Array, data = ""): Buffer => tarEntry({ name: "s", type: "S", magic: GNU, realSize, sparse: ranges }, data);

export const REFUSED: readonly RefusedCase[] = [
  refused("a wrong checksum", [A, tarHeader({ name: "b", checksum: "001234\0 " })], "header checksum is 668, its fields give 3135, at byte 1024"),
  refused("a checksum that is no number", [tarHeader({ checksum: "what?" })], "header checksum is not a number at byte 0"),
  refused("a checksum that is missing", [tarHeader({ checksum: "\0\0\0\0\0\0\0\0" })], "header checksum is 0, its fields give 3134, at byte 0"),
  refused("text", [Buffer.alloc(1_024, "This is not a tar archive.\n")], "header checksum is not a number at byte 0"),
  refused("one block of zeros and then a header", [A, END.subarray(512), A, END], "a header follows a block of zeros at byte 1536"),
  refused("one block of zeros and a part of another", [A, END.subarray(300)], "input ends within the end at byte 1748"),
  refused("a header cut short", [A, A.subarray(0, 100)], "input ends within a header at byte 1124"),
  refused("contents cut short", [A.subarray(0, 516)], 'input ends within the contents of entry "a" at byte 516'),
  refused("no contents", [A.subarray(0, 512)], 'input ends within the contents of entry "a" at byte 512'),
  refused("a tiny archive of 10 GB", [tarHeader({ name: "huge", size: base256(10_000_000_000n, 12) }), Buffer.alloc(600)], 'input ends within the contents of entry "huge" at byte 1112'),
  refused("an extended header cut short", [pax([["path", "b"]]).subarray(0, 515)], "input ends within an extended header at byte 515"),
  refused("an extended header without an entry", [A, pax([["path", "b"]])], "input ends within an entry, after its extended header at byte 2048", "reads"),
  refused("an extended header without all of its padding", [A, pax([["path", "b"]]).subarray(0, 600)], "input ends within an entry, after its extended header at byte 1624", "reads"),
  refused("an extended header before the end", [A, longName("b"), END], "the end follows an extended header at byte 2048", "reads"),
  refused("an extended header of more than 1 MiB", [tarEntry({ type: "x" }, Buffer.alloc(1_048_577)), A, END], "extended header of 1048577 bytes is longer than 1048576 at byte 0"),
  refused("a long name of more than 1 MiB", [tarEntry({ type: "L", magic: GNU }, Buffer.alloc(1_048_577)), A, END], "extended header of 1048577 bytes is longer than 1048576 at byte 0"),

  refused("a size that is no number", [tarHeader({ size: "0000000000z" })], 'size of entry "a" is not a number at byte 0'),
  refused("a size with an 8", [tarHeader({ size: "00000000008" })], 'size of entry "a" is not a number at byte 0'),
  refused("a size with a minus", [tarHeader({ size: "-0000000005" })], 'size of entry "a" is not a number at byte 0'),
  refused("a negative size", [tarHeader({ magic: GNU, size: base256(-1n, 12) })], 'size of entry "a" is -1 at byte 0'),
  refused("a negative size of a directory", [tarHeader({ magic: GNU, type: "5", size: base256(-512n, 12) })], 'size of entry "a" is -512 at byte 0', "reads"),
  refused("a size of 2^53", [tarHeader({ magic: GNU, size: base256(2n ** 53n, 12) })], 'size of entry "a" is beyond 2^53 at byte 0'),
  refused("a size of 2^64 and a bit", [tarHeader({ magic: GNU, size: base256(2n ** 64n + 512n, 12) })], 'size of entry "a" is beyond 2^53 at byte 0'),
  refused("an id beyond 2^53", [tarHeader({ magic: GNU, uid: base256(2n ** 54n, 8) }), END], 'uid of entry "a" is beyond 2^53 at byte 0', "reads"),
  refused("an id that is no number", [tarHeader({ gid: "me" })], 'gid of entry "a" is not a number at byte 0'),
  refused("a mode that is no number", [tarHeader({ mode: "rwxr-x" })], 'mode of entry "a" is not a number at byte 0'),
  refused("a time that is no number", [tarHeader({ mtime: "yesterday" })], 'mtime of entry "a" is not a number at byte 0'),
  refused("a number with a space in it", [tarHeader({ mode: "64 4" })], 'mode of entry "a" is not a number at byte 0'),
  refused("a device number that is no number", [tarHeader({ type: "3", deviceMajor: "x" })], 'device number of entry "a" is not a number at byte 0'),
  refused("a time of star that is no number", [tarHeader({ starTimes: "x".repeat(24), trailer: "tar\0" })], 'access time of entry "a" is not a number at byte 0'),
  refused("a time of GNU beyond 2^53", [tarHeader({ magic: GNU, gnuTimes: base256(2n ** 60n, 12) }), END], 'a time of entry "a" is beyond 2^53 at byte 0', "reads"),

  refused("a path of 4,097 bytes", [longName("n".repeat(4_097)), A, END], "path of 4097 bytes is longer than 4096 at byte 5120", "reads"),
  refused("a PAX path of 5,000 bytes", [pax([["path", "n".repeat(5_000)]]), A, END], "path of 5000 bytes is longer than 4096 at byte 5632", "reads"),
  refused("a link target of 4,097 bytes", [longName("n".repeat(4_097), "K"), tarHeader({ type: "2" }), END], 'link target of entry "a" of 4097 bytes is longer than 4096 at byte 5120', "reads"),

  refusedPax("a record without a length", "path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record without a space", "6", "malformed PAX record at byte 512"),
  refusedPax("a record of length 0", "0 path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record that is shorter than its length's digits", "000000001 path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record that is longer than the header", "11 path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record of a length beyond any", `${"9".repeat(400)} path=b\n`, "malformed PAX record at byte 512"),
  refusedPax("a record with a negative length", "-10 path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record with a sign before its length", "+11 path=b\n", "malformed PAX record at byte 512", "reads"),
  refusedPax("a record without a newline", "10 path=bb", "malformed PAX record at byte 512"),
  refusedPax("a record without an equals sign", "10 pathbb\n", "malformed PAX record at byte 512"),
  refusedPax("a record without an equals sign, before one with it", "9 pathbb\n10 path=b\n", "malformed PAX record at byte 512"),
  refusedPax("a record without a key", "5 =b\n", "malformed PAX record at byte 512"),
  refusedPax("the second record, malformed", "10 path=b\nx", "malformed PAX record at byte 522"),
  refusedPax("padding in a PAX header", "10 path=b\n\0\0", "malformed PAX record at byte 522"),
  refusedPax("a key with a NUL", "11 pa\0th=b\n", "malformed PAX record at byte 512"),
  refused("a path with a NUL", [pax([["path", "a\0b"]]), A], 'PAX record "path" holds a NUL byte at byte 512'),
  refused("a link target with a NUL", [pax([["uid", "1"], ["linkpath", "a\0"]]), A], 'PAX record "linkpath" holds a NUL byte at byte 520'),
  refused("a user's name with a NUL", [pax([["uname", "\0"]]), A], 'PAX record "uname" holds a NUL byte at byte 512'),
  refused("a PAX size that is no number", [pax([["size", "0x10"]]), A], 'PAX record "size" is not a number at byte 512'),
  refused("a PAX size with a space", [pax([["size", " 5"]]), A], 'PAX record "size" is not a number at byte 512'),
  refused("a negative PAX size", [pax([["size", "-5"]]), A], 'size of entry "a" is -5 at byte 1024'),
  refused("a negative PAX size of a link", [pax([["size", "-5"]]), tarHeader({ type: "2" }), END], 'size of entry "a" is -5 at byte 1024', "reads"),
  refused("a PAX size of 2^53", [pax([["size", "9007199254740992"]]), A], 'PAX record "size" is beyond 2^53 at byte 512'),
  refused("a PAX size of four hundred digits", [pax([["size", "9".repeat(400)]]), A], 'PAX record "size" is beyond 2^53 at byte 512'),
  refused("a PAX id that is no number", [pax([["uid", "me"]]), A], 'PAX record "uid" is not a number at byte 512'),
  ...["now", ".5", "1.5.5", "1.x", "1e3", "-"].map((text) => refused(`a PAX time of ${text}`, [pax([["mtime", text]]), A], 'PAX record "mtime" is not a number at byte 512')),
  refused("a PAX access time that is no number", [pax([["atime", "now"]]), A], 'PAX record "atime" is not a number at byte 512'),
  refused("a PAX number in a header that another takes the place of", [pax([["uid", "me"]]), pax([]), A, END], 'PAX record "uid" is not a number at byte 512', "reads"),
  refused("a global PAX header that is malformed", [tarEntry({ type: "g" }, "path=b\n"), A], "malformed PAX record at byte 512"),
  refused("a global PAX number that is none", [pax([["uid", "me"]], "g"), A], 'PAX record "uid" is not a number at byte 512', "reads"),

  refused("GNU's sparse type in ustar", [tarHeader({ type: "S", name: "s" })], 'entry "s" has GNU\'s sparse type and another format\'s header at byte 0'),
  refused("ranges that overlap", [gnuSparse(gnuRanges([[0, 10], [5, 10]]), 100, "x".repeat(20))], 'sparse map of entry "s" goes back from 10 to 5 at byte 0'),
  refused("ranges that are out of order", [gnuSparse(gnuRanges([[50, 10], [0, 10]]), 100, "x".repeat(20))], 'sparse map of entry "s" goes back from 60 to 0 at byte 0'),
  refused("a range beyond the file's end", [gnuSparse(gnuRanges([[95, 10]]), 100, "x".repeat(10))], 'sparse map of entry "s" goes beyond the file\'s 100 bytes at byte 0'),
  refused("a range of negative length", [gnuSparse(Buffer.concat([Buffer.from("00000000001\0"), base256(-5n, 12)]), 100)], 'sparse map of entry "s" has a range of -5 bytes at 1 at byte 0'),
  refused("a range that is no number", [gnuSparse(Buffer.from("0000000000x\x0000000000001\0"), 100)], 'sparse map of entry "s" has a range of 1 bytes at NaN at byte 0'),
  refused("a sparse size that is negative", [gnuSparse(gnuRanges([]), base256(-1n, 12))], 'size of entry "s" is -1 at byte 0'),
  refused("a sparse size that is no number", [gnuSparse(gnuRanges([]), Buffer.from("what"))], 'sparse size of entry "s" is not a number at byte 0'),
  refused("less data than the map says", [gnuSparse(gnuRanges([[0, 10]]), 100, "x".repeat(9))], 'sparse map of entry "s" is of 10 bytes, and 9 are stored at byte 0'),
  refused("more data than the map says", [gnuSparse(gnuRanges([[0, 10]]), 100, "x".repeat(11))], 'sparse map of entry "s" is of 10 bytes, and 11 are stored at byte 0'),
  refused("a map cut short", [gnuSparse(gnuRanges([], true), 100)], 'input ends within the sparse map of entry "s" at byte 512'),
  refused("a map without end", [tarHeader({ name: "s", type: "S", magic: GNU, realSize: 100, sparse: gnuRanges([], true) }), ...Array.from({ length: 2_048 }, () => padded(gnuRanges([], true, 21)))], 'sparse map of entry "s" is longer than 1048576 bytes at byte 0'),
  refused("a sparse map of an unknown version", [sparse01([["major", "2"], ["minor", "0"], ["realsize", "100"]])], 'entry "s" has a sparse map of an unknown version at byte 1024', "reads"),
  refused("a sparse map of half a version", [sparse01([["major", "1"], ["realsize", "100"]])], 'entry "s" has a sparse map of an unknown version at byte 1024', "reads"),
  refused("a sparse map of a directory", [pax([["GNU.sparse.numblocks", "0"], ["GNU.sparse.map", "0,0"]]), tarHeader({ type: "5", name: "d/" })], 'entry "d/" is a directory with a sparse map at byte 1024'),
  refused("a sparse map that does not say how long it is", [sparse01([["size", "100"], ["map", "0,10"]])], 'sparse map of entry "s" has NaN ranges at byte 1024'),
  refused("a sparse map of another length", [sparse01([["size", "100"], ["numblocks", "2"], ["map", "0,10"]])], 'sparse map of entry "s" has 2 numbers for 2 ranges at byte 1024'),
  refused("a sparse map of a negative length", [sparse01([["size", "100"], ["numblocks", "-1"], ["map", "0,10"]])], 'sparse map of entry "s" has -1 ranges at byte 1024'),
  refused("a sparse map with what is no number", [sparse01([["size", "100"], ["numblocks", "1"], ["map", "0,x"]])], 'sparse map of entry "s" has a range of NaN bytes at 0 at byte 1024'),
  refused("a sparse size in PAX that is no number", [sparse01([["size", "x"], ["numblocks", "1"], ["map", "0,10"]])], 'sparse size of entry "s" is not a number at byte 1024'),
  refused("sparse records out of order", [sparse01([["size", "100"], ["numblocks", "1"], ["numbytes", "10"], ["offset", "0"]])], 'PAX record "GNU.sparse.numbytes" out of order at byte 561'),
  refused("a sparse record with a comma", [sparse01([["size", "100"], ["numblocks", "1"], ["offset", "0,0"], ["numbytes", "10"]])], 'PAX record "GNU.sparse.offset" out of order at byte 561'),
  refused("more sparse ranges than there may be", [
    pax([["GNU.sparse.size", "0"], ["GNU.sparse.numblocks", "65537"], ["GNU.sparse.map", Array.from({ length: 65_537 }, () => "0,0").join(",")]]),
    tarHeader({ name: "s" }),
    END,
  ], 'sparse map of entry "s" has more than 65536 ranges at byte 263168', "reads"),
  refused("a map of PAX 1.0 with what is no number", [sparse10("1\n0\nx\n")], 'sparse map of entry "s" holds what is not a number at byte 1024'),
  refused("a map of PAX 1.0 with a number that is empty", [sparse10("1\n\n0\n")], 'sparse map of entry "s" holds what is not a number at byte 1024'),
  refused("a map of PAX 1.0 with a number beyond 2^53", [sparse10("1\n0\n9007199254740992\n")], 'sparse map of entry "s" holds a number beyond 2^53 at byte 1024'),
  refused("a map of PAX 1.0 that goes beyond the data", [sparse10(`40\n${"1\n".repeat(20)}${"x".repeat(0)}`.padEnd(512, "0"))], 'sparse map of entry "s" is longer than its data at byte 1024'),
  refused("a map of PAX 1.0 that says it has 65,537 ranges", [sparse10("65537\n")], 'sparse map of entry "s" has more than 65536 ranges at byte 1024'),
  refused("a map of PAX 1.0 that is cut short", [sparse10("1\n0\n0\n").subarray(0, 1_600)], 'input ends within the sparse map of entry "s" at byte 1600'),
  refused("a map of PAX 1.0 of more than 1 MiB", [sparse10(Buffer.alloc(1_048_577, "0"))], 'sparse map of entry "s" is longer than 1048576 bytes at byte 1024'),
];

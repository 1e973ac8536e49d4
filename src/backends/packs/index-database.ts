/**
 * The index: one SQLite file that says where each chunk lies and repeats the records of all packs in a form that can be asked.
 *
 * It holds nothing that the packs do not, so it is not synced on its own: a commit syncs the pack and then writes here, and what a power cut takes
 * from here is read again from the packs when the store is opened (`indexedBytes` says how far each pack was read).
 */
import Database from "better-sqlite3";
import type { ChunkEntry } from "../../castore/blob-block.ts";
import type { B3Digest } from "../../castore/digest.ts";
import { toB3Digest } from "../../castore/digest.ts";
import { decodeRootNode, encodeEntry } from "../../castore/directory-proto.ts";
import type { Node } from "../../castore/node.ts";
import type { Codec } from "../../compression/codec.ts";
import { blake3 } from "../../hash/blake3.ts";
import type { DocumentRecord } from "../../store/document-index.ts";
import type { ComputedKey, ComputedStats } from "../../store/computed-cache.ts";
import { FRAMED_NAR_KIND } from "../../store/computed-cache.ts";
import type { NarFileRecord, NarRecord } from "../../store/nar-index.ts";
import { mergePathInfo } from "../../store/path-info.ts";
import { decodePathInfo, encodePathInfo } from "../../store/path-info-message.ts";
import { encodeChunkTable } from "./chunk-table.ts";
import type { StoreRecord } from "./record-format.ts";
import { decodeChunkList } from "./record-format.ts";
import { toStoreError } from "./system-error.ts";

/** Where a chunk lies. */
export interface ChunkLocation {
  readonly pack: number;
  /** Of the block's header in the pack. */
  readonly blockOffset: number;
  /** Of the whole block, header and table included. */
  readonly blockLength: number;
  /** Of the chunk in the block's bytes before compression. */
  readonly offset: number;
  readonly length: number;
}

/** A block that has been written, as far as the index is told of it. */
export interface IndexedBlock {
  /** The pack's number in the index. */
  readonly pack: number;
  /** Of the header in the pack. */
  readonly offset: number;
  /** Of the whole block. */
  readonly length: number;
  readonly chunks: readonly ChunkEntry[];
  readonly records: readonly StoreRecord[];
}

/** The same, with records that are read one after the other. */
export interface BlockToAdd extends Omit<IndexedBlock, "records"> {
  readonly records: Iterable<StoreRecord>;
}

/** A pack as the index knows it. */
export interface IndexedPack {
  readonly id: number;
  readonly name: string;
  /** Bytes of it that the index has taken in. */
  readonly indexedBytes: number;
}

/** What was computed, and the seconds that it took. */
export interface ComputedValue {
  readonly value: Uint8Array;
  readonly seconds: number;
}

/** Marks for a check of all chunks. */
export interface ChunkCheck extends Disposable {
  /** These chunks of a block were read and are whole. */
  add(pack: number, blockOffset: number, chunks: readonly { readonly digest: Uint8Array; readonly offset: number }[]): void;
  /** Chunks that were in the index when the check began and were not marked at the place where it says they are. */
  unseenChunks(): Iterable<B3Digest>;
}

/** Most directories to ask for at once. */
export const DIRECTORIES_PER_QUERY = 128;
/** Larger messages are not given where several are asked for. */
const BATCHED_MESSAGE_BYTES = 64 * 1024;

/** Chunks that go into the index in one statement. */
const CHUNKS_PER_INSERT = 16;
const CHUNK_ROW = "(?, ?, ?, ?, ?, ?)";
const CHUNK_COLUMNS = 6;

/** So long several looks may be of the same moment. */
const MAX_SNAPSHOT_MILLISECONDS = 1;

/** How long one process waits for another's write. */
const BUSY_TIMEOUT_MS = 30_000;

const SCHEMA = `
CREATE TABLE IF NOT EXISTS packs (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  indexed_bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS chunks (
  digest BLOB PRIMARY KEY,
  pack INTEGER NOT NULL,
  block_offset INTEGER NOT NULL,
  block_length INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (
  digest BLOB NOT NULL UNIQUE,
  size INTEGER NOT NULL,
  chunks BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS directories (
  digest BLOB NOT NULL UNIQUE,
  message BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS path_infos (
  digest BLOB PRIMARY KEY,
  time INTEGER NOT NULL,
  message BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trees (
  root BLOB NOT NULL UNIQUE,
  nar_sha256 BLOB NOT NULL,
  nar_size INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS trees_by_nar ON trees (nar_sha256);
CREATE TABLE IF NOT EXISTS nar_files (
  file_sha256 BLOB PRIMARY KEY,
  file_size INTEGER NOT NULL,
  codec TEXT NOT NULL,
  nar_sha256 BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
  name TEXT PRIMARY KEY,
  time INTEGER NOT NULL,
  digest BLOB NOT NULL,
  size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS computed (
  kind TEXT NOT NULL,
  digest BLOB NOT NULL,
  value BLOB NOT NULL,
  seconds REAL NOT NULL,
  used INTEGER NOT NULL,
  PRIMARY KEY (kind, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS computed_by_use ON computed (used);
CREATE TABLE IF NOT EXISTS computed_counts (
  kind TEXT PRIMARY KEY,
  hits INTEGER NOT NULL,
  misses INTEGER NOT NULL,
  seconds_saved REAL NOT NULL
) WITHOUT ROWID;
`;
/** What the packs have, too: all but what was computed. */
const TABLES = ["chunks", "blobs", "directories", "path_infos", "trees", "nar_files", "documents"] as const;

/** Version in SQLite's own header; the store's format version covers it. */
const USER_VERSION = 3;

/** Values that no one has asked for in so long are forgotten, and of more than so many those not asked for longest. */
const COMPUTED_MILLISECONDS = 90 * 24 * 3600 * 1000;
const COMPUTED_ENTRIES = 100_000;
/** Before one in so many is put, the others are looked through. */
const COMPUTED_PUTS_PER_SWEEP = 256;

/** Of a document that was deleted. */
const NO_DIGEST = Buffer.alloc(0);

/** Before, a NAR had one tree. */
const FROM_VERSION_1 = `
INSERT OR IGNORE INTO trees SELECT root, nar_sha256, nar_size FROM nars;
DROP TABLE nars;
`;

export class IndexDatabase implements Disposable {
  readonly #database: Database.Database;
  readonly #statements;
  readonly #snapshot: Snapshot;
  #computedPuts = 0;

  /** @throws NarborError ERR_READ_ONLY, ERR_STORE, ERR_NO_SPACE */
  constructor(file: string) {
    let database: Database.Database | undefined;
    try {
      database = new Database(file, { timeout: BUSY_TIMEOUT_MS });
      database.pragma("journal_mode = WAL");
      database.pragma("synchronous = NORMAL");
      database.pragma("cache_size = -8192");
      // By default the log is emptied after a thousand pages, which a single import writes several times over, the same ones each time.
      database.pragma("wal_autocheckpoint = 2048");
      // One who reads keeps it from being emptied for a moment, in which another writes; it need not stay as long as it has ever been.
      database.pragma("journal_size_limit = 16777216");
      prepareTables(database);
      this.#snapshot = new Snapshot(database);
      this.#statements = prepareStatements(database, this.#snapshot);
    } catch (error) {
      database?.close();
      throw toStoreError(`Cannot open the index "${file}"`, error);
    }
    this.#database = database;
  }

  chunk(digest: B3Digest): ChunkLocation | undefined {
    const row = this.#statements.getChunk.get(digest);
    if (row === undefined) return undefined;
    const { pack, block_offset, block_length, offset, length } = row;
    return { pack, blockOffset: block_offset, blockLength: block_length, offset, length };
  }

  hasChunk(digest: B3Digest): boolean {
    return this.#statements.hasChunk.has(digest);
  }

  /** The chunks of a blob that was cut, or undefined when there is no such blob. */
  splitBlob(digest: B3Digest): readonly ChunkEntry[] | undefined {
    const row = this.#statements.getBlob.get(digest);
    return row === undefined ? undefined : decodeChunkList(row.chunks);
  }

  hasBlob(digest: B3Digest): boolean {
    return this.#statements.hasBlob.has(digest);
  }

  directory(digest: B3Digest): Uint8Array | undefined {
    return this.#statements.getDirectory.get(digest)?.message;
  }

  /**
   * Messages of several directories in one query, in the order asked. Undefined where one is not stored, and where one of several has more
   * than 64 KiB: many at once must not take much memory, so whoever wants that one asks for it alone.
   *
   * @param digests at most DIRECTORIES_PER_QUERY
   */
  directories(digests: readonly B3Digest[]): readonly (Uint8Array | undefined)[] {
    const messages: (Uint8Array | undefined)[] = digests.map(() => undefined);
    const [first] = digests;
    // A query that is made for many takes twice as long for one.
    if (digests.length === 1 && first !== undefined) return [this.directory(first)];
    for (const { position, message } of this.#statements.getDirectories(digests)) messages[position] = message;
    return messages;
  }

  hasDirectory(digest: B3Digest): boolean {
    return this.#statements.hasDirectory.has(digest);
  }

  /** The PathInfo message for a store path's digest. */
  pathInfo(digest: Uint8Array): Uint8Array | undefined {
    return this.#statements.getPathInfo.get(digest)?.message ?? undefined;
  }

  /** A time for a new record of a path: now, and later than its last one, whatever the clock was set to in between. */
  nextPathInfoTime(digest: Uint8Array): number {
    return Math.max(Date.now(), (this.#statements.getPathInfo.get(digest)?.time ?? 0) + 1);
  }

  /** The same for a document. */
  nextDocumentTime(name: string): number {
    return Math.max(Date.now(), (this.#statements.getDocument.get(name)?.time ?? 0) + 1);
  }

  /** The first path info behind `after`, and its digest. */
  nextPathInfo(after: Uint8Array): { readonly digest: Uint8Array; readonly message: Uint8Array } | undefined {
    return this.#statements.nextPathInfo.get(after);
  }

  nar(narSha256: Uint8Array): NarRecord | undefined {
    const row = this.#statements.getNar.get(narSha256);
    return row === undefined ? undefined : { narSha256, narSize: row.nar_size, root: decodeRootNode(row.root) };
  }

  narFile(fileSha256: Uint8Array): (NarFileRecord & NarRecord) | undefined {
    const row = this.#statements.getNarFile.get(fileSha256);
    const nar = row === undefined ? undefined : this.nar(row.nar_sha256);
    if (row === undefined || nar === undefined) return undefined;
    return { fileSha256, fileSize: row.file_size, codec: row.codec as Codec, ...nar };
  }

  narOfRoot(root: Node): NarRecord | undefined {
    const row = this.#statements.getNarOfRoot.get(encodeEntry(root));
    return row === undefined ? undefined : { narSha256: row.nar_sha256, narSize: row.nar_size, root };
  }

  document(name: string): DocumentRecord | undefined {
    const row = this.#statements.getDocument.get(name);
    if (row === undefined || row.digest.length === NO_DIGEST.length) return undefined;
    return { name, digest: toB3Digest(row.digest), size: row.size };
  }

  /** The first document from `name` on whose name begins with `prefix`. */
  documentFrom(name: string, prefix: string): DocumentRecord | undefined {
    const row = this.#statements.nextDocument.get(name);
    return row?.name.startsWith(prefix) === true ? { ...row, digest: toB3Digest(row.digest) } : undefined;
  }

  computed({ kind, digest }: ComputedKey): ComputedValue | undefined {
    return reading(() => this.#statements.getComputed.get(kind, digest));
  }

  /** Count that a value was asked for, and remember when. */
  countComputed({ kind, digest }: ComputedKey, found: ComputedValue | undefined): void {
    const { useComputed, countComputed } = this.#statements;
    this.#transaction(() => {
      if (found !== undefined) useComputed.run(Date.now(), kind, digest);
      countComputed.run(kind, found === undefined ? 0 : 1, found === undefined ? 1 : 0, found?.seconds ?? 0);
    });
  }

  putComputed({ kind, digest }: ComputedKey, value: Uint8Array, seconds: number): void {
    this.#transaction(() => {
      if (this.#computedPuts++ % COMPUTED_PUTS_PER_SWEEP === 0) {
        this.#statements.forgetOldComputed.run(Date.now() - COMPUTED_MILLISECONDS);
        this.#statements.forgetManyComputed.run(COMPUTED_ENTRIES);
      }
      this.#statements.putComputed.run(kind, digest, value, seconds, Date.now());
    });
  }

  computedStats(): readonly ComputedStats[] {
    return reading(() => this.#statements.computedStats.all()).map(({ seconds_saved, ...rest }) => ({ ...rest, secondsSaved: seconds_saved }));
  }

  clearComputed(): number {
    let entries = 0;
    this.#transaction(() => {
      entries = this.#database.prepare("DELETE FROM computed").run().changes;
      this.#database.exec("DELETE FROM computed_counts");
    });
    return entries;
  }

  packs(): readonly IndexedPack[] {
    return reading(() => this.#statements.listPacks.all()).map(({ id, name, indexed_bytes }) => ({ id, name, indexedBytes: indexed_bytes }));
  }

  /** Bytes of a pack that the index has taken in by now. */
  indexedBytes(name: string): number {
    return this.#statements.getPackId.get(name)?.indexed_bytes ?? 0;
  }

  /** The pack's number, given to it when it is first named. */
  packId(name: string): number {
    const known = this.#statements.getPackId.get(name);
    if (known !== undefined) return known.id;
    this.#transaction(() => void this.#statements.addPack.run(name));
    return (this.#statements.getPackId.get(name) as { id: number }).id;
  }

  /**
   * Take in blocks in one transaction. What is known already stays as it is, so the same block may come twice.
   */
  addBlocks(blocks: readonly BlockToAdd[]): void {
    if (blocks.length === 0) return;
    this.#transaction(() => {
      this.#addChunks(blocks);
      for (const block of blocks) {
        for (const record of block.records) this.#addRecord(record);
        this.#statements.extendPack.run(block.offset + block.length, block.pack);
      }
    });
  }

  /** Show what others have written by now to whoever looks next. */
  refresh(): void {
    this.#snapshot.end();
  }

  /** Numbers for a person: how much there is of what. */
  counts(): { readonly chunks: number; readonly directories: number; readonly pathInfos: number; readonly nars: number; readonly contentBytes: number } {
    const count = (sql: string): number => (reading(() => this.#database.prepare(sql).pluck().get()) as number | null) ?? 0;
    return {
      chunks: count("SELECT count(*) FROM chunks"),
      directories: count("SELECT count(*) FROM directories"),
      pathInfos: count("SELECT count(*) FROM path_infos WHERE message IS NOT NULL"),
      nars: count("SELECT count(DISTINCT nar_sha256) FROM trees"),
      contentBytes: count("SELECT sum(length) FROM chunks"),
    };
  }

  /** All directories, for a check of the whole store. */
  allDirectories(): Iterable<{ readonly digest: Uint8Array; readonly message: Uint8Array }> {
    return this.#snapshot.iterate(this.#statements.allDirectories);
  }

  /**
   * Begin to mark which chunks were found whole, and where. The marks are kept by SQLite, on the disk when they are many, and dropped when this is disposed.
   */
  beginCheck(): ChunkCheck {
    const database = this.#database;
    const snapshot = this.#snapshot;
    snapshot.end();
    database.exec(`
      CREATE TEMP TABLE seen_chunks (digest BLOB PRIMARY KEY) WITHOUT ROWID;
      CREATE TEMP TABLE checked_packs AS SELECT id, indexed_bytes FROM packs;
    `);
    const mark = database.prepare("INSERT OR IGNORE INTO seen_chunks SELECT digest FROM chunks WHERE digest = ? AND pack = ? AND block_offset = ? AND offset = ?");
    const addAll = database.transaction((pack: number, blockOffset: number, chunks: readonly { readonly digest: Uint8Array; readonly offset: number }[]) => {
      for (const { digest, offset } of chunks) mark.run(digest, pack, blockOffset, offset);
    });
    // What another process has written since this began was not looked at, and is not meant.
    const unseen = database
      .prepare<[], Uint8Array>(
        `SELECT digest FROM chunks JOIN checked_packs ON pack = id
         WHERE block_offset < checked_packs.indexed_bytes AND digest NOT IN (SELECT digest FROM seen_chunks)`,
      )
      .pluck();
    return {
      add: (pack, blockOffset, chunks) => {
        snapshot.end();
        addAll(pack, blockOffset, chunks);
      },
      *unseenChunks() {
        for (const digest of snapshot.iterate(unseen)) yield toB3Digest(digest);
      },
      [Symbol.dispose]: () => {
        snapshot.end();
        database.exec("DROP TABLE seen_chunks; DROP TABLE checked_packs");
      },
    };
  }

  /** Whether SQLite finds its own file in order. */
  isSound(): boolean {
    try {
      return this.#database.pragma("quick_check(1)", { simple: true }) === "ok";
    } catch {
      return false;
    }
  }

  /** Forget everything, to be read again from the packs. They keep their numbers, which another process may have in use. */
  clear(): void {
    this.#transaction(() => {
      this.#database.exec("CREATE TEMP TABLE old_path_infos AS SELECT digest, message FROM path_infos WHERE message IS NOT NULL");
      this.#database.exec("UPDATE packs SET indexed_bytes = 0");
      for (const table of TABLES) this.#database.exec(`DELETE FROM ${table}`);
      this.#database.prepare("DELETE FROM computed WHERE kind = ?").run(FRAMED_NAR_KIND);
    });
  }

  /** Forget blobs of which a piece is gone: one that is believed to be here would not be stored again. */
  forgetBrokenBlobs(): void {
    this.#transaction(() => {
      const broken: Uint8Array[] = [];
      for (const { digest, chunks } of this.#database.prepare<[], { digest: Uint8Array; chunks: Uint8Array }>("SELECT digest, chunks FROM blobs").iterate()) {
        if (decodeChunkList(chunks).some((chunk) => !this.hasChunk(chunk.digest))) broken.push(digest);
      }
      const forget = this.#database.prepare<[Uint8Array]>("DELETE FROM blobs WHERE digest = ?");
      for (const digest of broken) forget.run(digest);
    });
  }

  /** PathInfo messages that were here before `clear` and have not come back; none when it was not called. */
  lostPathInfos(): readonly Uint8Array[] {
    const wasCleared = this.#database.prepare("SELECT 1 FROM temp.sqlite_master WHERE name = 'old_path_infos'").get() !== undefined;
    if (!wasCleared) return [];
    return this.#database.prepare<[], Uint8Array>("SELECT message FROM old_path_infos WHERE digest NOT IN (SELECT digest FROM path_infos)").pluck().all();
  }

  [Symbol.dispose](): void {
    this.#snapshot.end();
    this.#database.close();
  }

  #transaction(work: () => void): void {
    this.#snapshot.end();
    try {
      this.#database.transaction(work).immediate();
    } catch (error) {
      throw toStoreError("Cannot write the index", error);
    }
  }

  /** Several rows with each call: half of a row's time is the way into SQLite and back. */
  #addChunks(blocks: readonly BlockToAdd[]): void {
    const { addChunk, addManyChunks } = this.#statements;
    let values: (Uint8Array | number)[] = [];
    for (const block of blocks) {
      let offset = 0;
      for (const { digest, length, isFraming } of block.chunks) {
        if (isFraming !== true) values.push(digest, block.pack, block.offset, block.length, offset, length);
        offset += length;
        if (values.length < CHUNK_COLUMNS * CHUNKS_PER_INSERT) continue;
        addManyChunks.run(values);
        values = [];
      }
    }
    for (let row = 0; row < values.length; row += CHUNK_COLUMNS) addChunk.run(values.slice(row, row + CHUNK_COLUMNS));
  }

  #addRecord(record: StoreRecord): void {
    const statements = this.#statements;
    switch (record.type) {
      case "directory":
        statements.addDirectory.run(blake3(record.message), record.message);
        return;
      case "blob":
        statements.addBlob.run(record.digest, record.size, encodeChunkTable(record.chunks));
        return;
      case "nar":
        statements.putTree.run(encodeEntry(record.nar.root), record.nar.narSha256, record.nar.narSize);
        return;
      case "narFile":
        statements.putNarFile.run(record.file.fileSha256, record.file.fileSize, record.file.codec, record.narSha256);
        return;
      case "document": {
        const { name, digest, size } = record.document;
        statements.putDocument.run(name, record.time, digest, size);
        return;
      }
      case "documentDeleted":
        statements.putDocument.run(record.name, record.time, NO_DIGEST, 0);
        return;
      case "pathInfoDeleted":
        statements.putPathInfo.run(record.digest, record.time, null);
        return;
      case "pathInfo":
        this.#putPathInfo(record.time, record.message);
    }
  }

  #putPathInfo(time: number, message: Uint8Array): void {
    const pathInfo = decodePathInfo(message);
    const { digest } = pathInfo.storePath;
    const stored = this.#statements.getPathInfo.get(digest);
    if (stored === undefined || stored.message === null) {
      this.#statements.putPathInfo.run(digest, time, message);
      return;
    }
    // The later one counts, whichever comes first here: after a loss the packs are read in another order than they were written in.
    const other = decodePathInfo(stored.message);
    const [earlier, later] = time >= stored.time ? [other, pathInfo] : [pathInfo, other];
    this.#statements.putPathInfo.run(digest, Math.max(time, stored.time), encodePathInfo(mergePathInfo(earlier, later)));
  }
}

function prepareTables(database: Database.Database): void {
  const version = (): unknown => database.pragma("user_version", { simple: true });
  if (version() === USER_VERSION) return;
  database
    .transaction(() => {
      const before = version();
      database.exec(SCHEMA);
      if (before === 1) database.exec(FROM_VERSION_1);
      database.pragma(`user_version = ${USER_VERSION}`);
    })
    .immediate();
}

/**
 * What the index shows to whoever looks things up in the same turn of the event loop: alone, each look takes SQLite's locks and gives them back, which is
 * three quarters of its time. No longer than that, and no longer than a millisecond, since in the next turn may come someone who has heard of what another process has written.
 */
class Snapshot {
  readonly #database: Database.Database;
  readonly #begin: Database.Statement<[]>;
  readonly #rollback: Database.Statement<[]>;
  #state: "none" | "looked" | "open" = "none";
  /** As `performance.now()` has it. */
  #openedAt = 0;
  /** Statements that are being read row by row: as long as there are some, nothing can be begun or ended, and looks take no locks. */
  #iterations = 0;
  #isEnding = false;
  // Node.js runs these when it has been through all that came.
  readonly #endTurn = (): void => {
    this.#isEnding = false;
    this.end();
  };

  constructor(database: Database.Database) {
    this.#database = database;
    this.#begin = database.prepare("BEGIN");
    this.#rollback = database.prepare("ROLLBACK");
  }

  /** Before something is looked up. The first look is alone, most likely. */
  take(): void {
    if (this.#state === "open" && performance.now() - this.#openedAt > MAX_SNAPSHOT_MILLISECONDS) this.end();
    if (this.#state === "none") {
      this.#state = "looked";
      if (!this.#isEnding) setImmediate(this.#endTurn);
      this.#isEnding = true;
      return;
    }
    // In a transaction, it is what that has written so far.
    if (this.#state === "open" || this.#iterations > 0 || this.#database.inTransaction) return;
    this.#begin.run();
    this.#state = "open";
    this.#openedAt = performance.now();
  }

  /** Before something is written, since of what others have written since it was taken SQLite would refuse to go on from it; and when something was written elsewhere. */
  end(): void {
    const wasOpen = this.#state === "open";
    this.#state = "none";
    // Nothing was written. To commit it fails where a page is damaged, of which whoever met that has heard; after some faults SQLite has ended it.
    if (wasOpen && this.#database.inTransaction) this.#rollback.run();
  }

  /** The rows of a statement, however long it takes. */
  *iterate<Row>(statement: Database.Statement<[], Row>): Generator<Row, void, undefined> {
    this.end();
    const iterator = reading(() => statement.iterate());
    this.#iterations++;
    try {
      for (let result = reading(() => iterator.next()); result.done !== true; result = reading(() => iterator.next())) yield result.value;
    } finally {
      iterator.return?.();
      this.#iterations--;
    }
  }
}

/** A damaged page shows when it is read. */
function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw toStoreError("Cannot read the index", error);
  }
}

function readingFrom<Row>(snapshot: Snapshot, statement: Database.Statement<[unknown], Row>, key: unknown): Row | undefined {
  try {
    snapshot.take();
    return statement.get(key);
  } catch (error) {
    throw toStoreError("Cannot read the index", error);
  }
}

/** One statement for any number of digests: those that are wanting are NULL, which equals nothing. */
function directoriesQuery(database: Database.Database, snapshot: Snapshot) {
  const places = Array.from({ length: DIRECTORIES_PER_QUERY }, (_, position) => `(${position}, ?)`);
  // The cross join keeps to the order in which SQLite is to go: one look into the directories for each that is wanted.
  const statement = database.prepare<(Uint8Array | null)[], { position: number; message: Uint8Array }>(
    `WITH wanted (position, digest) AS (VALUES ${places.join(", ")})
     SELECT position, message FROM wanted CROSS JOIN directories USING (digest) WHERE length(message) <= ${BATCHED_MESSAGE_BYTES}`,
  );
  return (digests: readonly B3Digest[]) =>
    reading(() => {
      snapshot.take();
      return statement.all(...digests, ...places.slice(digests.length).map(() => null));
    });
}

function prepareStatements(database: Database.Database, snapshot: Snapshot) {
  const one = <Row>(sql: string): { get(key: unknown): Row | undefined } => {
    const statement = database.prepare<[unknown], Row>(sql);
    return { get: (key) => readingFrom(snapshot, statement, key) };
  };
  /** No object for a row that only has to be there. */
  const existence = (sql: string): { has(key: unknown): boolean } => {
    const statement = database.prepare<[unknown], number>(sql).pluck();
    return { has: (key) => readingFrom(snapshot, statement, key) !== undefined };
  };
  return {
    getChunk: one<{ pack: number; block_offset: number; block_length: number; offset: number; length: number }>(
      "SELECT pack, block_offset, block_length, offset, length FROM chunks WHERE digest = ?",
    ),
    hasChunk: existence("SELECT 1 FROM chunks WHERE digest = ?"),
    addChunk: database.prepare(`INSERT OR IGNORE INTO chunks VALUES ${CHUNK_ROW}`),
    addManyChunks: database.prepare(`INSERT OR IGNORE INTO chunks VALUES ${Array.from({ length: CHUNKS_PER_INSERT }, () => CHUNK_ROW).join(", ")}`),
    getBlob: one<{ chunks: Uint8Array }>("SELECT chunks FROM blobs WHERE digest = ?"),
    hasBlob: existence("SELECT 1 FROM (SELECT ? AS wanted) WHERE EXISTS (SELECT 1 FROM chunks WHERE digest = wanted) OR EXISTS (SELECT 1 FROM blobs WHERE digest = wanted)"),
    addBlob: database.prepare("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)"),
    getDirectory: one<{ message: Uint8Array }>("SELECT message FROM directories WHERE digest = ?"),
    getDirectories: directoriesQuery(database, snapshot),
    hasDirectory: existence("SELECT 1 FROM directories WHERE digest = ?"),
    addDirectory: database.prepare("INSERT OR IGNORE INTO directories VALUES (?, ?)"),
    allDirectories: database.prepare<[], { digest: Uint8Array; message: Uint8Array }>("SELECT digest, message FROM directories"),
    getPathInfo: one<{ time: number; message: Uint8Array | null }>("SELECT time, message FROM path_infos WHERE digest = ?"),
    nextPathInfo: one<{ digest: Uint8Array; message: Uint8Array }>(
      "SELECT digest, message FROM path_infos WHERE digest > ? AND message IS NOT NULL ORDER BY digest LIMIT 1",
    ),
    putPathInfo: database.prepare(
      `INSERT INTO path_infos VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET time = excluded.time, message = excluded.message
       WHERE excluded.time >= time`,
    ),
    getNar: one<{ nar_size: number; root: Uint8Array }>("SELECT nar_size, root FROM trees WHERE nar_sha256 = ? ORDER BY rowid DESC LIMIT 1"),
    getNarOfRoot: one<{ nar_sha256: Uint8Array; nar_size: number }>("SELECT nar_sha256, nar_size FROM trees WHERE root = ?"),
    putTree: database.prepare("INSERT OR REPLACE INTO trees VALUES (?, ?, ?)"),
    getNarFile: one<{ file_size: number; codec: string; nar_sha256: Uint8Array }>(
      "SELECT file_size, codec, nar_sha256 FROM nar_files WHERE file_sha256 = ?",
    ),
    putNarFile: database.prepare("INSERT OR REPLACE INTO nar_files VALUES (?, ?, ?, ?)"),
    getDocument: one<{ time: number; digest: Uint8Array; size: number }>(
      "SELECT time, digest, size FROM documents WHERE name = ?",
    ),
    nextDocument: one<{ name: string; digest: Uint8Array; size: number }>(
      "SELECT name, digest, size FROM documents WHERE name >= ? AND length(digest) > 0 ORDER BY name LIMIT 1",
    ),
    putDocument: database.prepare(
      `INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET time = excluded.time,
       digest = excluded.digest, size = excluded.size WHERE excluded.time >= time`,
    ),
    getComputed: database.prepare<[string, Uint8Array], ComputedValue>("SELECT value, seconds FROM computed WHERE kind = ? AND digest = ?"),
    useComputed: database.prepare("UPDATE computed SET used = ? WHERE kind = ? AND digest = ?"),
    countComputed: database.prepare(
      `INSERT INTO computed_counts VALUES (?, ?, ?, ?) ON CONFLICT (kind) DO UPDATE SET hits = hits + excluded.hits,
       misses = misses + excluded.misses, seconds_saved = seconds_saved + excluded.seconds_saved`,
    ),
    putComputed: database.prepare("INSERT OR REPLACE INTO computed VALUES (?, ?, ?, ?, ?)"),
    forgetOldComputed: database.prepare("DELETE FROM computed WHERE used < ?"),
    forgetManyComputed: database.prepare(
      "DELETE FROM computed WHERE (kind, digest) IN (SELECT kind, digest FROM computed ORDER BY used DESC LIMIT -1 OFFSET ?)",
    ),
    computedStats: database.prepare<[], { kind: string; entries: number; hits: number; misses: number; seconds_saved: number }>(
      `SELECT kind, (SELECT count(*) FROM computed WHERE computed.kind = kinds.kind) AS entries, coalesce(hits, 0) AS hits, coalesce(misses, 0) AS misses,
       coalesce(seconds_saved, 0) AS seconds_saved FROM (SELECT kind FROM computed UNION SELECT kind FROM computed_counts) AS kinds LEFT JOIN computed_counts USING (kind) ORDER BY kind`,
    ),
    listPacks: database.prepare<[], { id: number; name: string; indexed_bytes: number }>("SELECT id, name, indexed_bytes FROM packs ORDER BY name"),
    getPackId: one<{ id: number; indexed_bytes: number }>("SELECT id, indexed_bytes FROM packs WHERE name = ?"),
    addPack: database.prepare("INSERT OR IGNORE INTO packs (name, indexed_bytes) VALUES (?, 0)"),
    extendPack: database.prepare("UPDATE packs SET indexed_bytes = max(indexed_bytes, ?) WHERE id = ?"),
  };
}

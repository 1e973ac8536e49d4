/** The thread that takes blocks into the index. Started by index-thread.ts; see index-thread-protocol.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { collectGarbage, countGarbage } from "../../concurrency/thread-garbage.ts";
import { decodeChunkTable } from "./chunk-table.ts";
import type { BlockToAdd } from "./index-database.ts";
import { IndexDatabase } from "./index-database.ts";
import type { IndexFile } from "./index-file.ts";
import { checkIndexFile } from "./index-file.ts";
import type { BlockMessage, IndexAnswer, IndexRequest } from "./index-thread-protocol.ts";
import { readRecords } from "./record-format.ts";
import { toStoreError } from "./system-error.ts";

/** Chunks that go into the index in one transaction, so that no one who writes something small waits for long. */
const ROWS_PER_TRANSACTION = 1024;

if (parentPort === null) throw new TypeError("index-worker is started by index-thread");
const port = parentPort;
const file = workerData as IndexFile;
let index: IndexDatabase | undefined;

port.on("message", (request: IndexRequest) => {
  if (request === "end") {
    index?.[Symbol.dispose]();
    port.close();
    return;
  }
  try {
    index ??= openIndex();
    addInSteps(index, request.blocks);
    answer({ type: "added" });
    countGarbage(request.blocks.reduce((sum, { chunks, records }) => sum + chunks.buffer.byteLength + records.buffer.byteLength, 0));
  } catch (error) {
    const { code, message } = toStoreError("Cannot write the index", error);
    answer({ type: "error", code, message });
  }
  // What was in the request is held no more when this has returned.
  setImmediate(collectGarbage);
});

/** Looked at before, so that none is made where there is none, and after it was opened. */
function openIndex(): IndexDatabase {
  checkIndexFile(file);
  const opened = new IndexDatabase(file.path);
  try {
    checkIndexFile(file);
  } catch (error) {
    opened[Symbol.dispose]();
    throw error;
  }
  return opened;
}

function answer(message: IndexAnswer): void {
  port.postMessage(message, []);
}

/** From the first record on in one transaction: the directories of a closure show all at once. */
function addInSteps(database: IndexDatabase, messages: readonly BlockMessage[]): void {
  let step: BlockToAdd[] = [];
  let rows = 0;
  let hasRecords = false;
  for (const { pack, offset, length, chunks, records } of messages) {
    // A group's directories are megabytes: not to be in memory twice.
    const block = { pack, offset, length, chunks: decodeChunkTable(chunks), records: { [Symbol.iterator]: () => readRecords(records) } };
    hasRecords ||= records.length > 0;
    step.push(block);
    rows += block.chunks.length;
    if (hasRecords || rows < ROWS_PER_TRANSACTION) continue;
    database.addBlocks(step);
    step = [];
    rows = 0;
  }
  database.addBlocks(step);
}

/**
 * Kill the server at random moments while clients push, start it again, and see that what it had said yes to is there and right, that nothing
 * it serves is wrong, and that the push can be repeated.
 */
import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { encodeNix32 } from "../../src/nix/nix32.ts";
import { downloadNar, narInfoText, sha256Nix32 } from "./http-cache.ts";
import { runNarbor, startServer } from "./narbor-process.ts";
import type { Tree } from "./reference-nar.ts";
import { referenceNar } from "./reference-nar.ts";

export interface CrashReport {
  rounds: number;
  acknowledged: number;
  /** Pushes that were under way when the server was killed. */
  interrupted: number;
}

interface Push {
  readonly nar: Uint8Array;
  readonly file: Uint8Array;
  readonly fileUrl: string;
  readonly narUrl: string;
  readonly hashPart: string;
  readonly narInfo: string;
}

const CLIENTS = 4;
const LONGEST_LIFE_MILLISECONDS = 400;
const LONGEST_DYING_MILLISECONDS = 1000;

/** @throws Error at the first broken promise */
export async function crashRounds(store: string, rounds: number, log: (line: string) => void = () => undefined): Promise<CrashReport> {
  const report: CrashReport = { rounds: 0, acknowledged: 0, interrupted: 0 };
  const acknowledged: Push[] = [];
  let interrupted: Push[] = [];
  for (let round = 0; round < rounds; round++) {
    const server = await startServer(store);
    // Those of the last round, whether they came through or not, and a few older ones.
    for (const push of [...acknowledged.slice(-20), ...sample(acknowledged, 10)]) await checkThere(server.url, push);
    for (const push of interrupted) await checkNotHalfThere(server.url, push);
    for (const push of interrupted) await pushAll(server.url, push, () => undefined);
    for (const push of interrupted) await checkThere(server.url, push);
    acknowledged.push(...interrupted);
    interrupted = [];

    let killed = false;
    // Node's fetch sometimes never answers (nor fails) when the other end dies early in a body: seen in 1 of 50 runs, with no socket left open.
    const patience = new AbortController();
    const timer = setTimeout(() => {
      killed = true;
      server.child.kill("SIGKILL");
      setTimeout(() => patience.abort(), LONGEST_DYING_MILLISECONDS);
    }, Math.random() * LONGEST_LIFE_MILLISECONDS);
    const client = async (): Promise<void> => {
      while (!killed) {
        const push = makePush();
        let isDone = false;
        try {
          await pushAll(server.url, push, () => (isDone = true), patience.signal);
        } catch (error) {
          if (!killed) throw error;
        }
        (isDone ? acknowledged : interrupted).push(push);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    clearTimeout(timer);
    await server.stop("SIGKILL");
    report.interrupted += interrupted.length;
    report.rounds++;
    report.acknowledged = acknowledged.length;
    if ((round + 1) % 20 === 0) log(`${round + 1} kills, ${acknowledged.length} pushes acknowledged, ${report.interrupted} interrupted`);
  }
  await using server = await startServer(store);
  for (const push of acknowledged) await checkThere(server.url, push);
  for (const push of interrupted) await checkNotHalfThere(server.url, push);
  await server.stop("SIGTERM");
  const verified = await runNarbor(["verify", "--store", store]);
  if (verified.code !== 0) throw new Error(`verify ended with ${verified.code}: ${verified.stdout.toString()}${verified.stderr}`);
  const rebuilt = await runNarbor(["verify", "--rebuild-index", "--store", store]);
  if (rebuilt.code !== 0) throw new Error(`verify --rebuild-index ended with ${rebuilt.code}: ${rebuilt.stdout.toString()}${rebuilt.stderr}`);
  return report;
}

function makePush(): Push {
  const file = (size: number): Tree => ({ type: "file", bytes: randomBytes(size) });
  const count = 1 + Math.floor(Math.random() * 30);
  const entries = Array.from({ length: count }, (_, index) => [Buffer.from(String(index).padStart(3, "0")), file(Math.floor(Math.random() ** 4 * 300_000))] as const);
  const nar = referenceNar({ type: "directory", entries: [...entries, [Buffer.from("sub"), { type: "directory", entries: [[Buffer.from("same"), { type: "file", bytes: Buffer.from("shared") }]] }]] });
  const uploaded = Math.random() < 0.3 ? new Uint8Array(gzipSync(nar, { level: 1 })) : nar;
  const fileUrl = `nar/${sha256Nix32(uploaded)}.nar`;
  const hashPart = encodeNix32(randomBytes(20));
  return {
    nar,
    file: uploaded,
    fileUrl,
    narUrl: `nar/${sha256Nix32(nar)}.nar`,
    hashPart,
    narInfo: narInfoText(nar, `/nix/store/${hashPart}-crash`, { URL: fileUrl }),
  };
}

async function pushAll(url: string, push: Push, onDone: () => void, signal?: AbortSignal): Promise<void> {
  await putOrThrow(`${url}/${push.fileUrl}`, push.file, signal);
  await putOrThrow(`${url}/${push.hashPart}.narinfo`, push.narInfo, signal);
  onDone();
}

async function putOrThrow(url: string, body: Uint8Array | string, signal?: AbortSignal): Promise<void> {
  const response = await fetch(url, { method: "PUT", body, ...(signal === undefined ? {} : { signal }) });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`PUT ${url}: ${response.status} ${text}`);
}

async function checkThere(url: string, push: Push): Promise<void> {
  const narInfo = await fetch(`${url}/${push.hashPart}.narinfo`);
  const text = await narInfo.text();
  if (narInfo.status !== 200 || !text.includes(`URL: ${push.narUrl}`)) throw new Error(`${push.hashPart}: the narinfo that was acknowledged is not there (${narInfo.status})`);
  if (Buffer.compare(await downloadNar(url, text), push.nar) !== 0) throw new Error(`${push.hashPart}: the NAR of its narinfo is another`);
  await checkNar(url, push);
}

async function checkNotHalfThere(url: string, push: Push): Promise<void> {
  const narInfo = await fetch(`${url}/${push.hashPart}.narinfo`);
  await narInfo.arrayBuffer();
  if (narInfo.status === 200) await checkNar(url, push);
  else if (narInfo.status !== 404) throw new Error(`${push.hashPart}: narinfo is ${narInfo.status}`);
  const head = await fetch(`${url}/${push.fileUrl}`, { method: "HEAD" });
  // A yes must mean that the narinfo alone will do.
  if (head.status === 200) await putOrThrow(`${url}/${push.hashPart}.narinfo`, push.narInfo);
  else if (head.status !== 404) throw new Error(`${push.fileUrl}: HEAD is ${head.status}`);
}

async function checkNar(url: string, push: Push): Promise<void> {
  const response = await fetch(`${url}/${push.narUrl}`);
  const body = new Uint8Array(await response.arrayBuffer());
  const isRight = createHash("sha256").update(body).digest().equals(createHash("sha256").update(push.nar).digest());
  if (response.status !== 200 || !isRight) throw new Error(`${push.narUrl}: ${response.status}, ${isRight ? "right" : "wrong"} bytes`);
}

function sample<T>(items: readonly T[], count: number): T[] {
  return items.length === 0 ? [] : Array.from({ length: count }, () => items[Math.floor(Math.random() * items.length)] as T);
}

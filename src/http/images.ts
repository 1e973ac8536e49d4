/** `PUT /v1/images` and `GET /v1/images`. */
import { setTimeout as sleep } from "node:timers/promises";
import type { LimitFunction } from "p-limit";
import { findImages, listImageNames } from "../image/image-catalog.ts";
import type { NamedImages } from "../image/image-record.ts";
import type { ImageProgress, ImportedImages } from "../image/import-images.ts";
import { isImageName } from "../image/image-name.ts";
import { importImages } from "../image/import-images.ts";
import { NarborError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { HttpAnswer, HttpRequest } from "./exchange.ts";
import { toHttpError } from "./http-error.ts";

/** Between two lines of progress. */
const PROGRESS_MILLISECONDS = 1000;
const LINES_TYPE = "application/x-ndjson";

/**
 * Take in an image archive. Answers 201 and what came when all of it is durable. A client that accepts `application/x-ndjson` gets 200 at once, a line
 * of JSON each second, and last of all the result, or the error that there would have been.
 *
 * @param uploads how many are taken in at once; others wait, unread
 */
export async function putImages(request: HttpRequest, store: Store, maxBytes: number, uploads: LimitFunction): Promise<HttpAnswer> {
  const begun = performance.now();
  const name = request.query.get("name") ?? undefined;
  if (name !== undefined && !isImageName(name)) throw new NarborError("ERR_INVALID", `Cannot take the image: ${JSON.stringify(name.slice(0, 200))} is no name for an image, such as hello:latest`);
  const options = { name, maxBytes, signal: request.signal };
  if (request.headers.accept?.includes(LINES_TYPE) !== true) {
    const imported = await uploads(() => importImages(request.body, store, options));
    return jsonAnswer(201, resultOf(imported, begun));
  }
  let progress: ImageProgress = { layerBytes: 0, layers: 0 };
  const importing = uploads(() => importImages(request.body, store, { ...options, onProgress: (now) => (progress = now) }));
  return { status: 200, headers: { "content-type": LINES_TYPE }, body: progressLines(importing, () => progress, begun) };
}

/** All images, by their names. */
export async function getImages(request: HttpRequest, store: Store): Promise<HttpAnswer> {
  const { signal } = request;
  async function* body(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const name of listImageNames(store, { signal })) {
      const named = await findImages(name, store, { signal }).catch((error: unknown) => {
        signal.throwIfAborted();
        // The others are there all the same.
        return { name, error: toHttpError(error).message.trimEnd() };
      });
      if (named !== undefined) yield line("error" in named ? named : describe(named));
    }
  }
  return { status: 200, headers: { "content-type": LINES_TYPE }, body: body() };
}

async function* progressLines(importing: Promise<ImportedImages>, progress: () => ImageProgress, begun: number): AsyncGenerator<Uint8Array, void, undefined> {
  const outcome = importing.then(
    (imported) => ({ type: "result", ...resultOf(imported, begun) }),
    (error: unknown) => {
      const { status, message } = toHttpError(error);
      return { type: "error", status, message: message.trimEnd() };
    },
  );
  for (;;) {
    const now = await Promise.race([outcome, sleep(PROGRESS_MILLISECONDS, undefined, { ref: false })]);
    yield line(now ?? { type: "progress", ...progress() });
    if (now !== undefined) return;
  }
}

function resultOf({ images, layers }: ImportedImages, begun: number): object {
  const seconds = (performance.now() - begun) / 1000;
  return { images: images.map(describe), layers: [...layers.values()].map(({ layer, tally }) => ({ diffId: layer.diffId, size: layer.size, ...tally })), seconds };
}

function describe({ name, images }: NamedImages): object {
  return { name, platforms: images.map(({ id, platform, layers }) => ({ platform, id, layers: layers.map(({ layer, file }) => ({ diffId: layer.diffId, size: layer.size, digest: file.digest, fileSize: file.size })) })) };
}

function jsonAnswer(status: number, value: object): HttpAnswer {
  return { status, headers: { "content-type": "application/json" }, body: `${JSON.stringify(value)}\n` };
}

function line(value: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

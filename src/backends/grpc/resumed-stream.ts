import { isUnreachable } from "./open-call.ts";

/** A stream that breaks off is opened again so often without a byte that is new. */
const REOPENED_AT_MOST = 5;

/**
 * The bytes of a stream that is opened again when the server goes away in the middle of it: a server that is started anew, or a proxy that closes its
 * connections, should not end a download of hours. What was given before is passed over.
 *
 * @param reopen the same stream from its beginning, or undefined when it is not there any more
 */
export async function* resumed(first: AsyncIterable<Uint8Array>, reopen: () => Promise<AsyncIterable<Uint8Array> | undefined>): AsyncGenerator<Uint8Array, void, undefined> {
  let position = 0;
  let content = first;
  for (let failures = 0; ; ) {
    let seen = 0;
    try {
      for await (const bytes of content) {
        seen += bytes.length;
        if (seen <= position) continue;
        const fresh = bytes.subarray(bytes.length - (seen - position));
        position = seen;
        failures = 0;
        yield fresh;
      }
      return;
    } catch (error) {
      if (!isUnreachable(error) || failures++ === REOPENED_AT_MOST) throw error;
      const again = await reopen();
      if (again === undefined) throw error;
      content = again;
    }
  }
}

/** What a client may put over gRPC is bounded where it is put, as it is over HTTP. */
import { expect, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { pathInfoOf, signatureOf, storePathOf } from "../helpers/path-infos.ts";
import { expectCode } from "../helpers/promises.ts";

async function withClient(work: (client: GrpcStore, store: MemoryStore) => Promise<void>): Promise<void> {
  await using store = new MemoryStore();
  await using server = await serveGrpc(store);
  await using client = new GrpcStore(server.address);
  await work(client, store);
}

test("PathInfoService.Put refuses more than 10,000 references, and takes as many", async () => {
  await withClient(async (client) => {
    const references = Array.from({ length: 10_001 }, (_, index) => storePathOf(`reference-${index}`));
    await expectCode(client.pathInfos.put(pathInfoOf("many", { references })), "ERR_LIMIT", "10001 references");
    await client.pathInfos.put(pathInfoOf("many", { references: references.slice(1) }));
    expect((await client.pathInfos.get(storePathOf("many").digest))?.references).toHaveLength(10_000);
  });
});

test("PathInfoService.Put refuses more than 256 signatures, those that are there counted once", async () => {
  await withClient(async (client) => {
    const signatures = Array.from({ length: 257 }, (_, index) => signatureOf(`key-${index}`, index + 1));
    await expectCode(client.pathInfos.put(pathInfoOf("signed", { signatures })), "ERR_LIMIT", "257 signatures");
    await client.pathInfos.put(pathInfoOf("signed", { signatures: signatures.slice(0, 200) }));
    await client.pathInfos.put(pathInfoOf("signed", { signatures: signatures.slice(0, 256) }));
    await expectCode(client.pathInfos.put(pathInfoOf("signed", { signatures: signatures.slice(256) })), "ERR_LIMIT", "257 signatures");
  });
});

test("StoreService.PutDocument refuses a name that is empty or longer than 4,096 characters", async () => {
  await withClient(async (client) => {
    const { digest, size } = toSmallBlob(Buffer.from("log"));
    for (const name of ["", `log/${"x".repeat(4_093)}`]) await expectCode(client.documents.put({ name, digest, size }), "ERR_INVALID", "a name of");
    await client.documents.put({ name: `log/${"x".repeat(4_092)}`, digest, size });
  });
});

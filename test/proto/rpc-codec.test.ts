import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { BatchUpdateBlobsRequestSchema } from "../../src/proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { rpcCodec } from "../../src/proto/rpc-codec.ts";

const bytes = fc.uint8Array({ maxLength: 300 });
const request = fc.record(
  { digest: fc.record({ hash: fc.string({ unit: "binary", maxLength: 80 }), sizeBytes: fc.bigInt(0n, 2n ** 53n - 1n) }), data: bytes, compressor: fc.constantFrom(0, 1, 2, 3) },
  { requiredKeys: [] },
);
const message = fc.record({ instanceName: fc.string({ unit: "binary" }), requests: fc.array(request), digestFunction: fc.constantFrom(0, 1, 9) }, { requiredKeys: [] });

test("BatchUpdateBlobsRequest as it is written by hand says what it says as protobuf-es writes it", () => {
  const { encode, decode } = rpcCodec(BatchUpdateBlobsRequestSchema);
  fc.assert(
    fc.property(message, (init) => {
      const theirs = toBinary(BatchUpdateBlobsRequestSchema, create(BatchUpdateBlobsRequestSchema, init as never));
      const ours = encode(init as never);
      expect(fromBinary(BatchUpdateBlobsRequestSchema, ours)).toEqual(fromBinary(BatchUpdateBlobsRequestSchema, theirs));
      expect(ours.length).toBe(theirs.length);
      expect(decode(ours)).toEqual(fromBinary(BatchUpdateBlobsRequestSchema, theirs));
    }),
  );
});

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { BatchReadBlobsRequestSchema, BatchUpdateBlobsRequestSchema, FindMissingBlobsRequestSchema } from "../../src/proto/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import { PathInfoSchema } from "../../src/proto/gen/snix/store/v1/pathinfo_pb.ts";
import { rpcCodec } from "../../src/proto/rpc-codec.ts";
import { lengthField } from "../helpers/raw-protobuf.ts";

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

/** As many fields of this number with nothing in them. */
function emptyFields(number: number, count: number): Buffer {
  return Buffer.alloc(2 * count, Buffer.of((number << 3) | 2, 0));
}

test.for([
  ["at the top", PathInfoSchema, (count: number) => emptyFields(2, count)],
  ["in a message within it", PathInfoSchema, (count: number) => lengthField(3, emptyFields(3, count - 1))],
  ["in many messages within it", PathInfoSchema, (count: number) => Buffer.concat([lengthField(3, emptyFields(3, count / 2 - 1)), lengthField(3, emptyFields(4, count / 2 - 1))])],
  ["that it does not know", PathInfoSchema, (count: number) => lengthField(3, emptyFields(15, count - 1))],
  ["that are numbers without keys", BatchReadBlobsRequestSchema, (count: number) => lengthField(3, Buffer.alloc(count - 4, 1))],
] as const)("rpcCodec().decode() takes 393,216 fields of a message and no more, %s", ([, schema, made]) => {
  const { decode } = rpcCodec<typeof PathInfoSchema | typeof BatchReadBlobsRequestSchema>(schema);
  expect(() => decode(made(393_216))).not.toThrow();
  expect(() => decode(made(393_218))).toThrow(/^Cannot read \w+: found \d+ bytes that are not such a message$/);
});

test("rpcCodec().decode() takes as many digests as 4 MiB hold", () => {
  const { encode, decode } = rpcCodec(FindMissingBlobsRequestSchema);
  const blobDigests = Array.from({ length: 59_000 }, (_, index) => ({ hash: "0".repeat(64), sizeBytes: BigInt(index % 100) }));
  const message = encode({ blobDigests });
  expect(message.length).toBeGreaterThan(4 * 1024 * 1024 - 100_000);
  expect(decode(message).blobDigests).toHaveLength(blobDigests.length);
});

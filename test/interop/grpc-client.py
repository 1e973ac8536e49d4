"""Speaks to a Narbor server with gRPC's C core, which Python's grpcio is made of, and prints what it found as JSON.

    grpc-client.py ADDRESS
"""
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from blake3 import blake3
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TIMEOUT = 60
BLOBS = 200

channel = grpc.insecure_channel(sys.argv[1])
database = ProtoReflectionDescriptorDatabase(channel)
pool = DescriptorPool(database)


def rpc(service, name):
    """A method, with messages made of what reflection says."""
    method = pool.FindServiceByName(service).FindMethodByName(name)
    kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}[(method.client_streaming, method.server_streaming)]
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = getattr(channel, kind)(f"/{service}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString)
    return call, request


def code_of(work):
    try:
        work()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def content(number, size):
    return blake3(number.to_bytes(4, "big")).digest(length=size)


def pieces(data, message):
    return (message(data=data[start : start + 70_000]) for start in range(0, len(data), 70_000))


put, BlobChunk = rpc("tvix.castore.v1.BlobService", "Put")
read, ReadBlobRequest = rpc("snix.castore.v1.BlobService", "Read")
stat, StatBlobRequest = rpc("snix.castore.v1.BlobService", "Stat")
put_directories, Directory = rpc("snix.castore.v1.DirectoryService", "Put")
get_directories, GetDirectoryRequest = rpc("tvix.castore.v1.DirectoryService", "Get")

# Many calls at once on one connection, of all sizes.
blobs = [content(number, number * 1_111) for number in range(BLOBS)] + [content(BLOBS, 20_000_000)]


def there_and_back(blob):
    digest = put(pieces(blob, BlobChunk), timeout=TIMEOUT).digest
    assert digest == blake3(blob).digest(), "Put says another digest"
    back = b"".join(chunk.data for chunk in read(ReadBlobRequest(digest=digest), timeout=TIMEOUT))
    assert back == blob, f"Read gives {len(back)} bytes that are not the {len(blob)} that were put"
    return len(blob)


with ThreadPoolExecutor(32) as threads:
    stored = sum(threads.map(there_and_back, blobs))

# A reader that goes away in the middle, often, leaves the connection as it was.
for _ in range(20):
    half = read(ReadBlobRequest(digest=blake3(blobs[-1]).digest()), timeout=TIMEOUT)
    next(half)
    half.cancel()
chunks = stat(StatBlobRequest(digest=blake3(blobs[-1]).digest(), send_chunks=True), timeout=TIMEOUT).chunks


# An upload that is cut off is not stored.
def cut_off():
    yield BlobChunk(data=b"the beginning of something")
    raise RuntimeError("no more")


assert code_of(lambda: put(cut_off(), timeout=TIMEOUT)) != "OK"
cut_stored = code_of(lambda: stat(StatBlobRequest(digest=blake3(b"the beginning of something").digest()), timeout=TIMEOUT))

# A directory of 50,000 files: one message of more than 2 MiB.
wide = Directory(files=[{"name": b"file-%06d" % number, "digest": blake3(b"").digest(), "size": 0} for number in range(50_000)])
message = wide.SerializeToString(deterministic=True)
top = Directory(directories=[{"name": b"wide", "digest": blake3(message).digest(), "size": 50_000}])
root = put_directories(iter([wide, top]), timeout=TIMEOUT).root_digest
assert root == blake3(top.SerializeToString(deterministic=True)).digest(), "Put says another root"
back = list(get_directories(GetDirectoryRequest(digest=root, recursive=True), timeout=TIMEOUT))
assert [each.SerializeToString(deterministic=True) for each in back] == [top.SerializeToString(deterministic=True), message], "Get gives other directories"

print(
    json.dumps(
        {
            "services": sorted(database.get_services()),
            "stored": stored,
            "chunkedBytes": sum(chunk.size for chunk in chunks),
            "chunks": len(chunks),
            "directoryBytes": len(message),
            "codes": {
                "Stat of what was cut off": cut_stored,
                "Read of an unknown blob": code_of(lambda: list(read(ReadBlobRequest(digest=bytes(32)), timeout=TIMEOUT))),
                "Read with a short digest": code_of(lambda: list(read(ReadBlobRequest(digest=bytes(31)), timeout=TIMEOUT))),
                "Put of a directory whose child is missing": code_of(lambda: put_directories(iter([top]), timeout=TIMEOUT)),
            },
        }
    )
)

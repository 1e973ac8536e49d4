package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	re "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	bs "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// One Write message; grpc-go's clients send about so much at once.
const pieceBytes = 64 * 1024

// What gRPC takes in one message unless it is told otherwise.
const defaultMessageBytes = 4 * 1024 * 1024

type cas struct {
	blobs    re.ContentAddressableStorageClient
	stream   bs.ByteStreamClient
	maxBatch int
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
}

func openCas(ctx context.Context, conn *grpc.ClientConn) (*cas, error) {
	found, err := re.NewCapabilitiesClient(conn).GetCapabilities(ctx, &re.GetCapabilitiesRequest{})
	if err != nil {
		return nil, fmt.Errorf("GetCapabilities: %w", err)
	}
	cache := found.GetCacheCapabilities()
	if !slices.Contains(cache.GetDigestFunctions(), re.DigestFunction_BLAKE3) {
		return nil, fmt.Errorf("no BLAKE3 in %v", cache)
	}
	for _, list := range [][]re.Compressor_Value{cache.GetSupportedCompressors(), cache.GetSupportedBatchUpdateCompressors()} {
		if !slices.Contains(list, re.Compressor_ZSTD) {
			return nil, fmt.Errorf("no zstd in %v", cache)
		}
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	maxBatch := int(cache.GetMaxBatchTotalSizeBytes())
	if maxBatch < 1024 {
		return nil, fmt.Errorf("batches of %d bytes", maxBatch)
	}
	return &cas{re.NewContentAddressableStorageClient(conn), bs.NewByteStreamClient(conn), maxBatch, encoder, decoder}, nil
}

func digestOf(data []byte) *re.Digest {
	return &re.Digest{Hash: hexOf(data), SizeBytes: int64(len(data))}
}

// tree gathers blobs: files, and directories as messages. They are in memory: the trees are small.
type tree struct {
	blobs              map[string][]byte
	files, directories int
}

func (t *tree) add(data []byte) *re.Digest {
	digest := digestOf(data)
	t.blobs[digest.Hash] = data
	return digest
}

func (t *tree) addDirectory(path string) (*re.Digest, error) {
	// os.ReadDir sorts by name, as the API wants it.
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	message := &re.Directory{}
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		switch entry.Type() {
		case os.ModeDir:
			digest, err := t.addDirectory(name)
			if err != nil {
				return nil, err
			}
			message.Directories = append(message.Directories, &re.DirectoryNode{Name: entry.Name(), Digest: digest})
		case os.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return nil, err
			}
			message.Symlinks = append(message.Symlinks, &re.SymlinkNode{Name: entry.Name(), Target: target})
		default:
			info, err := entry.Info()
			if err != nil {
				return nil, err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			t.files++
			message.Files = append(message.Files, &re.FileNode{Name: entry.Name(), Digest: t.add(data), IsExecutable: info.Mode()&0o100 != 0})
		}
	}
	t.directories++
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, err
	}
	return t.add(data), nil
}

type writeReport struct {
	Size      int    `json:"size"`
	Way       string `json:"way"`
	Sent      int    `json:"sent"`
	Committed int64  `json:"committed"`
	ResumedAt int64  `json:"resumedAt"`
	// What a second upload of the same is answered.
	Again int64 `json:"again"`
}

type putReport struct {
	Hash            string        `json:"hash"`
	Size            int64         `json:"size"`
	Files           int           `json:"files"`
	Directories     int           `json:"directories"`
	Blobs           int           `json:"blobs"`
	MissingBefore   int           `json:"missingBefore"`
	MissingAfter    int           `json:"missingAfter"`
	Batches         int           `json:"batches"`
	CompressedBlobs int           `json:"compressedBlobs"`
	Writes          []writeReport `json:"writes"`
}

func casPut(ctx context.Context, conn *grpc.ClientConn, path string) (*putReport, error) {
	c, err := openCas(ctx, conn)
	if err != nil {
		return nil, err
	}
	t := &tree{blobs: map[string][]byte{}}
	root, err := t.addDirectory(path)
	if err != nil {
		return nil, err
	}
	missing, err := c.missing(ctx, t)
	if err != nil {
		return nil, err
	}
	report := &putReport{Hash: root.Hash, Size: root.SizeBytes, Files: t.files, Directories: t.directories, Blobs: len(t.blobs), MissingBefore: len(missing), Writes: []writeReport{}}
	var batch []*re.BatchUpdateBlobsRequest_Request
	batchBytes := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		report.Batches++
		err := c.update(ctx, batch)
		batch, batchBytes = nil, 0
		return err
	}
	for _, digest := range missing {
		data := t.blobs[digest.Hash]
		if len(data) > c.maxBatch {
			written, err := c.write(ctx, data, len(report.Writes))
			if err != nil {
				return nil, err
			}
			report.Writes = append(report.Writes, *written)
			continue
		}
		if batchBytes+len(data) > c.maxBatch {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		request := &re.BatchUpdateBlobsRequest_Request{Digest: digest, Data: data}
		if len(batch)%2 == 1 && len(data) > 100 {
			request.Compressor, request.Data = re.Compressor_ZSTD, c.encoder.EncodeAll(data, nil)
			report.CompressedBlobs++
		}
		batch = append(batch, request)
		batchBytes += len(data)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	after, err := c.missing(ctx, t)
	if err != nil {
		return nil, err
	}
	report.MissingAfter = len(after)
	return report, nil
}

func (c *cas) missing(ctx context.Context, t *tree) ([]*re.Digest, error) {
	request := &re.FindMissingBlobsRequest{DigestFunction: re.DigestFunction_BLAKE3}
	for hash, data := range t.blobs {
		request.BlobDigests = append(request.BlobDigests, &re.Digest{Hash: hash, SizeBytes: int64(len(data))})
	}
	found, err := c.blobs.FindMissingBlobs(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("FindMissingBlobs: %w", err)
	}
	slices.SortFunc(found.MissingBlobDigests, func(a, b *re.Digest) int { return bytes.Compare([]byte(a.Hash), []byte(b.Hash)) })
	for _, digest := range found.MissingBlobDigests {
		if data, ok := t.blobs[digest.Hash]; !ok || int64(len(data)) != digest.SizeBytes {
			return nil, fmt.Errorf("FindMissingBlobs names %v, which was not asked for", digest)
		}
	}
	return found.MissingBlobDigests, nil
}

func (c *cas) update(ctx context.Context, requests []*re.BatchUpdateBlobsRequest_Request) error {
	answer, err := c.blobs.BatchUpdateBlobs(ctx, &re.BatchUpdateBlobsRequest{Requests: requests, DigestFunction: re.DigestFunction_BLAKE3})
	if err != nil {
		return fmt.Errorf("BatchUpdateBlobs: %w", err)
	}
	if len(answer.Responses) != len(requests) {
		return fmt.Errorf("BatchUpdateBlobs: %d responses to %d requests", len(answer.Responses), len(requests))
	}
	for _, response := range answer.Responses {
		if err := status.FromProto(response.Status).Err(); err != nil {
			return fmt.Errorf("BatchUpdateBlobs: %s: %w", response.Digest, err)
		}
	}
	return nil
}

// write sends a blob in one of four ways.
func (c *cas) write(ctx context.Context, data []byte, way int) (*writeReport, error) {
	digest, compressed, resumed := digestOf(data), way%2 == 1, way/2%2 == 0
	sent, kind := data, "blobs"
	report := &writeReport{Size: len(data), Way: "plain"}
	if compressed {
		sent, kind, report.Way = c.encoder.EncodeAll(data, nil), "compressed-blobs/zstd", "zstd"
	}
	report.Sent = len(sent)
	name := func() string {
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			panic(err)
		}
		return fmt.Sprintf("uploads/%x-%x-%x-%x-%x/%s/blake3/%s/%d", id[:4], id[4:6], id[6:8], id[8:10], id[10:], kind, digest.Hash, digest.SizeBytes)
	}
	first := name()
	if resumed {
		report.Way += ", resumed"
		committed, err := c.writeHalf(ctx, first, sent)
		if err != nil {
			return nil, err
		}
		report.ResumedAt = committed
	}
	var err error
	if report.Committed, err = c.writeFrom(ctx, first, sent, report.ResumedAt); err != nil {
		return nil, err
	}
	if report.Again, err = c.writeFrom(ctx, name(), sent, 0); err != nil {
		return nil, err
	}
	return report, nil
}

// writeHalf breaks an upload off, and returns how much of it the server says to have.
func (c *cas) writeHalf(ctx context.Context, name string, data []byte) (int64, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stream.Write(call)
	if err != nil {
		return 0, err
	}
	if err := send(stream, name, data[:len(data)/2], 0, false); err != nil {
		return 0, fmt.Errorf("Write, first half: %w", err)
	}
	committed := func() (int64, error) {
		found, err := c.stream.QueryWriteStatus(ctx, &bs.QueryWriteStatusRequest{ResourceName: name})
		if status.Code(err) == codes.NotFound {
			return 0, nil
		}
		if found.GetComplete() {
			return 0, fmt.Errorf("QueryWriteStatus: half an upload is complete")
		}
		return found.GetCommittedSize(), err
	}
	for size := int64(0); size == 0; time.Sleep(5 * time.Millisecond) {
		if size, err = committed(); err != nil {
			return 0, fmt.Errorf("QueryWriteStatus: %w", err)
		}
	}
	cancel()
	for last := int64(-1); ; time.Sleep(50 * time.Millisecond) {
		size, err := committed()
		if err != nil {
			return 0, fmt.Errorf("QueryWriteStatus: %w", err)
		}
		if size == last {
			return size, nil
		}
		last = size
	}
}

func (c *cas) writeFrom(ctx context.Context, name string, data []byte, offset int64) (int64, error) {
	stream, err := c.stream.Write(ctx)
	if err != nil {
		return 0, err
	}
	// io.EOF is an answer that came before everything was sent.
	if err := send(stream, name, data, offset, true); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("Write: %w", err)
	}
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return 0, fmt.Errorf("Write: %w", err)
	}
	return answer.CommittedSize, nil
}

func send(stream bs.ByteStream_WriteClient, name string, data []byte, offset int64, finish bool) error {
	for {
		end := min(offset+pieceBytes, int64(len(data)))
		isLast := end == int64(len(data))
		if err := stream.Send(&bs.WriteRequest{ResourceName: name, WriteOffset: offset, Data: data[offset:end], FinishWrite: finish && isLast}); err != nil {
			return err
		}
		if isLast {
			return nil
		}
		// Only the first message must have the name.
		name, offset = "", end
	}
}

type getReport struct {
	Files           int `json:"files"`
	Directories     int `json:"directories"`
	Batches         int `json:"batches"`
	CompressedBlobs int `json:"compressedBlobs"`
	Reads           int `json:"reads"`
	CompressedReads int `json:"compressedReads"`
	PartialReads    int `json:"partialReads"`
}

type target struct {
	path       string
	executable bool
}

func casGet(ctx context.Context, conn *grpc.ClientConn, hash string, size int64, path string) (*getReport, error) {
	c, err := openCas(ctx, conn)
	if err != nil {
		return nil, err
	}
	report := &getReport{}
	files := map[string][]target{}
	sizes := map[string]int64{}
	level := map[string][]string{hash: {path}}
	sizes[hash] = size
	// Directories level by level, then all files.
	for len(level) > 0 {
		found, err := readAll(ctx, c, level, sizes, report)
		if err != nil {
			return nil, err
		}
		next := map[string][]string{}
		for hash, paths := range level {
			message := &re.Directory{}
			if err := proto.Unmarshal(found[hash], message); err != nil {
				return nil, err
			}
			for _, path := range paths {
				report.Directories++
				if err := os.Mkdir(path, 0o755); err != nil {
					return nil, err
				}
				for _, node := range message.Directories {
					next[node.Digest.Hash] = append(next[node.Digest.Hash], filepath.Join(path, node.Name))
					sizes[node.Digest.Hash] = node.Digest.SizeBytes
				}
				for _, node := range message.Files {
					files[node.Digest.Hash] = append(files[node.Digest.Hash], target{filepath.Join(path, node.Name), node.IsExecutable})
					sizes[node.Digest.Hash] = node.Digest.SizeBytes
				}
				for _, node := range message.Symlinks {
					if err := os.Symlink(node.Target, filepath.Join(path, node.Name)); err != nil {
						return nil, err
					}
				}
			}
		}
		level = next
	}
	found, err := readAll(ctx, c, files, sizes, report)
	if err != nil {
		return nil, err
	}
	for hash, targets := range files {
		for _, file := range targets {
			report.Files++
			mode := os.FileMode(0o644)
			if file.executable {
				mode = 0o755
			}
			if err := os.WriteFile(file.path, found[hash], mode); err != nil {
				return nil, err
			}
		}
	}
	return report, nil
}

// readAll reads blobs, small ones in batches, and checks each.
func readAll[T any](ctx context.Context, c *cas, wanted map[string][]T, sizes map[string]int64, report *getReport) (map[string][]byte, error) {
	found := map[string][]byte{}
	var batch []*re.Digest
	batchBytes := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		request := &re.BatchReadBlobsRequest{Digests: batch, DigestFunction: re.DigestFunction_BLAKE3}
		if report.Batches%2 == 0 {
			request.AcceptableCompressors = []re.Compressor_Value{re.Compressor_ZSTD}
		}
		report.Batches++
		answer, err := c.blobs.BatchReadBlobs(ctx, request)
		if err != nil {
			return fmt.Errorf("BatchReadBlobs: %w", err)
		}
		for _, response := range answer.Responses {
			if err := status.FromProto(response.Status).Err(); err != nil {
				return fmt.Errorf("BatchReadBlobs: %s: %w", response.Digest, err)
			}
			data := response.Data
			if response.Compressor == re.Compressor_ZSTD {
				report.CompressedBlobs++
				if data, err = c.decoder.DecodeAll(data, nil); err != nil {
					return fmt.Errorf("BatchReadBlobs: %s: %w", response.Digest, err)
				}
			}
			found[response.Digest.Hash] = data
		}
		batch, batchBytes = nil, 0
		return nil
	}
	for _, hash := range slices.Sorted(maps.Keys(wanted)) {
		size := sizes[hash]
		digest := &re.Digest{Hash: hash, SizeBytes: size}
		// A response has the digest and a status besides the data, and gRPC has its own limit of a message.
		cost := int(size) + 128
		if cost > min(c.maxBatch, defaultMessageBytes) {
			data, err := c.read(ctx, digest, report)
			if err != nil {
				return nil, err
			}
			found[hash] = data
			continue
		}
		if batchBytes+cost > min(c.maxBatch, defaultMessageBytes) {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		batch = append(batch, digest)
		batchBytes += cost
	}
	if err := flush(); err != nil {
		return nil, err
	}
	for hash := range wanted {
		if data, ok := found[hash]; !ok || hexOf(data) != hash {
			return nil, fmt.Errorf("%s was read with %d bytes that are %s", hash, len(data), hexOf(data))
		}
	}
	return found, nil
}

// read reads a blob in one of three ways: whole, compressed, or in two parts.
func (c *cas) read(ctx context.Context, digest *re.Digest, report *getReport) ([]byte, error) {
	plain := fmt.Sprintf("blobs/blake3/%s/%d", digest.Hash, digest.SizeBytes)
	report.Reads++
	switch report.Reads % 3 {
	case 1:
		report.CompressedReads++
		data, err := c.readResource(ctx, &bs.ReadRequest{ResourceName: "compressed-blobs/zstd/blake3/" + plain[len("blobs/blake3/"):]})
		if err != nil {
			return nil, err
		}
		return c.decoder.DecodeAll(data, nil)
	case 2:
		report.PartialReads++
		middle := digest.SizeBytes/3 + 1
		head, err := c.readResource(ctx, &bs.ReadRequest{ResourceName: plain, ReadLimit: middle})
		if err != nil {
			return nil, err
		}
		tail, err := c.readResource(ctx, &bs.ReadRequest{ResourceName: plain, ReadOffset: middle})
		return append(head, tail...), err
	}
	return c.readResource(ctx, &bs.ReadRequest{ResourceName: plain})
}

func (c *cas) readResource(ctx context.Context, request *bs.ReadRequest) ([]byte, error) {
	stream, err := c.stream.Read(ctx, request)
	if err != nil {
		return nil, err
	}
	var data []byte
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, fmt.Errorf("Read %s: %w", request.ResourceName, err)
		}
		data = append(data, message.Data...)
	}
}

// casCodes makes calls that must fail, and says with which codes they do.
func casCodes(ctx context.Context, conn *grpc.ClientConn) (map[string]string, error) {
	c, err := openCas(ctx, conn)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	say := func(what string, err error) { found[what] = status.Code(errorCause(err)).String() }
	unknown := digestOf([]byte("never stored"))
	data := []byte("some bytes, and the digest of others")
	upload := func(kind string, digest *re.Digest, data []byte) error {
		_, err := c.writeFrom(ctx, fmt.Sprintf("uploads/00000000-0000-4000-8000-000000000000/%s/blake3/%s/%d", kind, digest.Hash, digest.SizeBytes), data, 0)
		return err
	}
	read := func(request *bs.ReadRequest) error {
		_, err := c.readResource(ctx, request)
		return err
	}

	say("Read of an unknown blob", read(&bs.ReadRequest{ResourceName: fmt.Sprintf("blobs/blake3/%s/12", unknown.Hash)}))
	say("Read of a name that is none", read(&bs.ReadRequest{ResourceName: "blobs/blake3/zz/12"}))
	say("Read of an SHA-256", read(&bs.ReadRequest{ResourceName: fmt.Sprintf("blobs/sha256/%s/12", unknown.Hash)}))
	stored := digestOf(data)
	if err := upload("blobs", stored, data); err != nil {
		return nil, err
	}
	plain := fmt.Sprintf("blobs/blake3/%s/%d", stored.Hash, stored.SizeBytes)
	say("Read from beyond the end", read(&bs.ReadRequest{ResourceName: plain, ReadOffset: stored.SizeBytes + 1}))
	say("Read of a stored blob", read(&bs.ReadRequest{ResourceName: plain}))
	say("Write of other bytes", upload("blobs", &re.Digest{Hash: unknown.Hash, SizeBytes: int64(len(data))}, data))
	say("Write of too few bytes", upload("blobs", &re.Digest{Hash: unknown.Hash, SizeBytes: 1000}, data))
	say("Write of what is not zstd", upload("compressed-blobs/zstd", unknown, data))
	say("Write of brotli", upload("compressed-blobs/brotli", unknown, data))
	_, err = c.stream.QueryWriteStatus(ctx, &bs.QueryWriteStatusRequest{ResourceName: fmt.Sprintf("uploads/1/blobs/blake3/%s/12", unknown.Hash)})
	say("QueryWriteStatus of nothing", err)
	say("BatchUpdateBlobs of other bytes", c.update(ctx, []*re.BatchUpdateBlobsRequest_Request{{Digest: unknown, Data: []byte("other bytes!")}}))
	tooMuch := make([]byte, c.maxBatch+1)
	say("BatchUpdateBlobs of a byte too many", c.update(ctx, []*re.BatchUpdateBlobsRequest_Request{{Digest: digestOf(tooMuch), Data: tooMuch}}))
	batch, err := c.blobs.BatchReadBlobs(ctx, &re.BatchReadBlobsRequest{Digests: []*re.Digest{stored, unknown}})
	if err != nil {
		return nil, err
	}
	for _, response := range batch.Responses {
		say("BatchReadBlobs, "+map[bool]string{true: "stored", false: "unknown"}[response.Digest.Hash == stored.Hash], status.FromProto(response.Status).Err())
	}
	_, err = c.blobs.FindMissingBlobs(ctx, &re.FindMissingBlobsRequest{BlobDigests: []*re.Digest{unknown}, DigestFunction: re.DigestFunction_SHA256})
	say("FindMissingBlobs by SHA-256", err)
	_, err = c.blobs.FindMissingBlobs(ctx, &re.FindMissingBlobsRequest{InstanceName: "main", BlobDigests: []*re.Digest{unknown}})
	say("FindMissingBlobs of an instance", err)
	pages, err := c.blobs.GetTree(ctx, &re.GetTreeRequest{RootDigest: stored})
	if err == nil {
		_, err = pages.Recv()
	}
	say("GetTree", err)
	_, err = re.NewActionCacheClient(conn).GetActionResult(ctx, &re.GetActionResultRequest{ActionDigest: unknown})
	say("GetActionResult", err)
	// As much as Capabilities allows, with what gRPC takes by default.
	full := make([]byte, c.maxBatch)
	if _, err := rand.Read(full); err != nil {
		return nil, err
	}
	parts := &re.BatchReadBlobsRequest{}
	for part := range slices.Chunk(full, c.maxBatch/4) {
		parts.Digests = append(parts.Digests, digestOf(part))
		if err := upload("blobs", digestOf(part), part); err != nil {
			return nil, err
		}
	}
	_, err = c.blobs.BatchReadBlobs(ctx, parts)
	say("BatchReadBlobs of a full batch", err)
	after, err := c.blobs.FindMissingBlobs(ctx, &re.FindMissingBlobsRequest{BlobDigests: []*re.Digest{unknown, digestOf(tooMuch)}})
	if err != nil {
		return nil, err
	}
	found["stored of what was refused"] = fmt.Sprint(2 - len(after.MissingBlobDigests))
	return found, nil
}

func errorCause(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

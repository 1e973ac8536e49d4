package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"
	reflectv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type castoreReport struct {
	// Of the services that reflection lists.
	Services []string `json:"services"`
	// In the descriptors of all of them, imports included.
	Files []string `json:"files"`
	// Directories that were sent, and that came back.
	Directories int    `json:"directories"`
	RootDigest  string `json:"rootDigest"`
	RootSize    uint64 `json:"rootSize"`
	Blob        string `json:"blob"`
	BlobSize    int    `json:"blobSize"`
	Chunks      int    `json:"chunks"`
	// Of calls that must fail.
	Codes map[string]string `json:"codes"`
}

// castoreClient makes its messages of what reflection says: nothing of ours is compiled in.
type castoreClient struct {
	conn  *grpc.ClientConn
	files *protoregistry.Files
	// "snix" or "tvix".
	family string
	// In what is stored, so that every run stores something new.
	salt string
}

func castore(ctx context.Context, conn *grpc.ClientConn, family, reflection, salt string) (*castoreReport, error) {
	ask, err := reflectionOf(ctx, conn, reflection)
	if err != nil {
		return nil, err
	}
	report := &castoreReport{Codes: map[string]string{}}
	if report.Services, err = ask(""); err != nil {
		return nil, err
	}
	set := map[string]*descriptorpb.FileDescriptorProto{}
	for _, service := range report.Services {
		found, err := ask(service)
		if err != nil {
			return nil, err
		}
		for _, text := range found {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal([]byte(text), file); err != nil {
				return nil, err
			}
			if other := set[file.GetName()]; other != nil && !proto.Equal(other, file) {
				return nil, fmt.Errorf("reflection has two files %s", file.GetName())
			}
			set[file.GetName()] = file
		}
	}
	all := &descriptorpb.FileDescriptorSet{}
	for name, file := range set {
		report.Files = append(report.Files, name)
		all.File = append(all.File, file)
	}
	slices.Sort(report.Files)
	// Every type that is named must be there, and every rule of proto3 is checked.
	files, err := protodesc.NewFiles(all)
	if err != nil {
		return nil, fmt.Errorf("the descriptors do not hold together: %w", err)
	}
	client := &castoreClient{conn, files, family, family + " " + reflection + " " + salt}
	if err := client.blobs(ctx, report); err != nil {
		return nil, err
	}
	return report, client.directories(ctx, report)
}

// reflectionOf returns a function that lists the services, or gives the files that a symbol needs.
func reflectionOf(ctx context.Context, conn *grpc.ClientConn, version string) (func(symbol string) ([]string, error), error) {
	var exchange func(request *reflectv1.ServerReflectionRequest) (*reflectv1.ServerReflectionResponse, error)
	switch version {
	case "v1":
		stream, err := reflectv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return nil, err
		}
		exchange = func(request *reflectv1.ServerReflectionRequest) (*reflectv1.ServerReflectionResponse, error) {
			if err := stream.Send(request); err != nil {
				return nil, err
			}
			return stream.Recv()
		}
	case "v1alpha":
		stream, err := reflectv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err != nil {
			return nil, err
		}
		// The same messages by another name.
		exchange = func(request *reflectv1.ServerReflectionRequest) (*reflectv1.ServerReflectionResponse, error) {
			alpha := &reflectv1alpha.ServerReflectionRequest{}
			if err := convert(request, alpha); err != nil {
				return nil, err
			}
			if err := stream.Send(alpha); err != nil {
				return nil, err
			}
			answer, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			response := &reflectv1.ServerReflectionResponse{}
			return response, convert(answer, response)
		}
	default:
		return nil, fmt.Errorf("reflection is v1 or v1alpha, not %q", version)
	}
	return func(symbol string) ([]string, error) {
		request := &reflectv1.ServerReflectionRequest{MessageRequest: &reflectv1.ServerReflectionRequest_ListServices{ListServices: "*"}}
		if symbol != "" {
			request.MessageRequest = &reflectv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}
		}
		response, err := exchange(request)
		if err != nil {
			return nil, fmt.Errorf("reflection: %w", err)
		}
		if failure := response.GetErrorResponse(); failure != nil {
			return nil, fmt.Errorf("reflection of %q: %v", symbol, failure)
		}
		var found []string
		for _, service := range response.GetListServicesResponse().GetService() {
			found = append(found, service.Name)
		}
		for _, file := range response.GetFileDescriptorResponse().GetFileDescriptorProto() {
			found = append(found, string(file))
		}
		return found, nil
	}, nil
}

func convert(from, to proto.Message) error {
	data, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	return proto.Unmarshal(data, to)
}

func (c *castoreClient) message(name string) (*dynamicpb.Message, error) {
	full := protoreflect.FullName(c.family + ".castore.v1." + name)
	found, err := c.files.FindDescriptorByName(full)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", full, err)
	}
	return dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor)), nil
}

// set sets a field; a list is appended to.
func set(message protoreflect.Message, name string, value any) {
	field := message.Descriptor().Fields().ByName(protoreflect.Name(name))
	if list, ok := value.(*dynamicpb.Message); ok && field.IsList() {
		message.Mutable(field).List().Append(protoreflect.ValueOfMessage(list))
		return
	}
	message.Set(field, protoreflect.ValueOf(value))
}

func get(message protoreflect.Message, name string) protoreflect.Value {
	return message.Get(message.Descriptor().Fields().ByName(protoreflect.Name(name)))
}

// call makes a call of any kind, and returns all its answers.
func (c *castoreClient) call(ctx context.Context, service, method, answer string, requests ...proto.Message) ([]*dynamicpb.Message, error) {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, fmt.Sprintf("/%s.castore.v1.%s/%s", c.family, service, method))
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		// io.EOF: the answer is there already, and the next Recv tells it.
		if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	var answers []*dynamicpb.Message
	for {
		message, err := c.message(answer)
		if err != nil {
			return nil, err
		}
		if err := stream.RecvMsg(message); errors.Is(err, io.EOF) {
			return answers, nil
		} else if err != nil {
			return nil, err
		}
		answers = append(answers, message)
	}
}

func (c *castoreClient) blobs(ctx context.Context, report *castoreReport) error {
	content := bytes.Repeat([]byte("Narbor and "+c.salt+", "), 200_000)
	for i := range content {
		content[i] ^= byte(i >> 12)
	}
	sum := hashOf(content)
	var pieces []proto.Message
	for rest := content; len(rest) > 0; {
		piece, err := c.message("BlobChunk")
		if err != nil {
			return err
		}
		size := min(len(rest), 100_001)
		set(piece, "data", rest[:size])
		rest = rest[size:]
		pieces = append(pieces, piece)
	}
	answers, err := c.call(ctx, "BlobService", "Put", "PutBlobResponse", pieces...)
	if err != nil {
		return fmt.Errorf("BlobService/Put: %w", err)
	}
	if len(answers) != 1 || !bytes.Equal(get(answers[0], "digest").Bytes(), sum[:]) {
		return fmt.Errorf("BlobService/Put says %v, expected %x", answers, sum)
	}
	report.Blob, report.BlobSize = hexOf(content), len(content)

	stat, err := c.message("StatBlobRequest")
	if err != nil {
		return err
	}
	set(stat, "digest", sum[:])
	set(stat, "send_chunks", true)
	if answers, err = c.call(ctx, "BlobService", "Stat", "StatBlobResponse", stat); err != nil {
		return fmt.Errorf("BlobService/Stat: %w", err)
	}
	readBlob := func(digest []byte) ([]byte, error) {
		request, err := c.message("ReadBlobRequest")
		if err != nil {
			return nil, err
		}
		set(request, "digest", digest)
		answers, err := c.call(ctx, "BlobService", "Read", "BlobChunk", request)
		var data []byte
		for _, answer := range answers {
			data = append(data, get(answer, "data").Bytes()...)
		}
		return data, err
	}
	whole, err := readBlob(sum[:])
	if err != nil {
		return fmt.Errorf("BlobService/Read: %w", err)
	}
	if !bytes.Equal(whole, content) {
		return fmt.Errorf("BlobService/Read gives %d bytes that are not those that were put", len(whole))
	}
	// A chunk can be read by its digest like a blob.
	chunks := get(answers[0], "chunks").List()
	var joined []byte
	for i := range chunks.Len() {
		chunk := chunks.Get(i).Message()
		data, err := readBlob(get(chunk, "digest").Bytes())
		if err != nil {
			return fmt.Errorf("BlobService/Read of a chunk: %w", err)
		}
		if uint64(len(data)) != get(chunk, "size").Uint() {
			return fmt.Errorf("a chunk has %d bytes, Stat says %d", len(data), get(chunk, "size").Uint())
		}
		joined = append(joined, data...)
	}
	report.Chunks = chunks.Len()
	if chunks.Len() > 0 && !bytes.Equal(joined, content) {
		return fmt.Errorf("%d chunks do not make the blob", chunks.Len())
	}
	missing := hashOf([]byte("never stored"))
	_, err = readBlob(missing[:])
	report.Codes["BlobService/Read, unknown"] = status.Code(err).String()
	_, err = readBlob(missing[:31])
	report.Codes["BlobService/Read, 31 bytes of digest"] = status.Code(err).String()
	return nil
}

// directory is a Directory message with its digest.
type directory struct {
	message *dynamicpb.Message
	digest  [32]byte
	size    uint64
}

type entry struct {
	name  string
	child *directory
}

func (c *castoreClient) directory(children []entry, files int, links int) (*directory, error) {
	message, err := c.message("Directory")
	if err != nil {
		return nil, err
	}
	size := uint64(len(children) + files + links)
	for _, child := range children {
		node, err := c.message("DirectoryEntry")
		if err != nil {
			return nil, err
		}
		set(node, "name", []byte(child.name))
		set(node, "digest", child.child.digest[:])
		set(node, "size", child.child.size)
		set(message, "directories", node)
		size += child.child.size
	}
	empty := hashOf(nil)
	for i := range files {
		node, err := c.message("FileEntry")
		if err != nil {
			return nil, err
		}
		// Names are bytes: these are no UTF-8.
		set(node, "name", []byte(fmt.Sprintf("file-\xff%04d", i)))
		set(node, "digest", empty[:])
		if i%2 == 1 {
			set(node, "executable", true)
		}
		set(message, "files", node)
	}
	for i := range links {
		node, err := c.message("SymlinkEntry")
		if err != nil {
			return nil, err
		}
		set(node, "name", []byte(fmt.Sprintf("link-%04d", i)))
		set(node, "target", []byte("../"+c.salt+strings.Repeat("x", i+1)))
		set(message, "symlinks", node)
	}
	data, err := marshal(message)
	return &directory{message, hashOf(data), size}, err
}

// marshal writes fields in the order of their numbers, which is what a Directory is named by.
func marshal(message proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(message)
}

func (c *castoreClient) directories(ctx context.Context, report *castoreReport) error {
	// 30 times 30 directories, one that all of them share, and a chain 100 deep.
	var sent []proto.Message
	send := func(children []entry, files, links int) (*directory, error) {
		made, err := c.directory(children, files, links)
		if err == nil {
			sent = append(sent, made.message)
		}
		return made, err
	}
	shared, err := send(nil, 0, 0)
	if err != nil {
		return err
	}
	var top []entry
	deep := shared
	for i := range 100 {
		if deep, err = send([]entry{{"deeper", deep}}, 0, i%3); err != nil {
			return err
		}
	}
	top = append(top, entry{"chain", deep})
	for i := range 30 {
		var middle []entry
		for j := range 30 {
			leaf, err := send([]entry{{fmt.Sprintf("shared-%d", i*30+j), shared}}, 1+(i*30+j)%40, 2)
			if err != nil {
				return err
			}
			middle = append(middle, entry{fmt.Sprintf("%04d", j), leaf})
		}
		made, err := send(middle, 3, 0)
		if err != nil {
			return err
		}
		top = append(top, entry{fmt.Sprintf("directory-%04d", i), made})
	}
	root, err := send(top, 0, 0)
	if err != nil {
		return err
	}
	getRequest := func(digest []byte, recursive bool) ([]*dynamicpb.Message, error) {
		request, err := c.message("GetDirectoryRequest")
		if err != nil {
			return nil, err
		}
		set(request, "digest", digest)
		set(request, "recursive", recursive)
		return c.call(ctx, "DirectoryService", "Get", "Directory", request)
	}

	// What is refused must leave nothing behind, so it comes first.
	put := func(messages []proto.Message) ([]*dynamicpb.Message, error) {
		return c.call(ctx, "DirectoryService", "Put", "PutDirectoryResponse", messages...)
	}
	if before, err := getRequest(root.digest[:], true); err != nil {
		return fmt.Errorf("DirectoryService/Get of what is not there: %w", err)
	} else if len(before) > 0 {
		return fmt.Errorf("DirectoryService/Get of what is not there gives %d directories", len(before))
	}
	_, err = put(sent[1:])
	report.Codes["DirectoryService/Put, one is missing"] = status.Code(err).String()
	_, err = put(append(slices.Clone(sent[1:]), sent[0]))
	report.Codes["DirectoryService/Put, root not last"] = status.Code(err).String()
	_, err = put(nil)
	report.Codes["DirectoryService/Put, nothing"] = status.Code(err).String()
	_, err = getRequest(root.digest[:], false)
	report.Codes["DirectoryService/Get, unknown"] = status.Code(err).String()
	_, err = getRequest(nil, false)
	report.Codes["DirectoryService/Get, no digest"] = status.Code(err).String()

	answers, err := put(sent)
	if err != nil {
		return fmt.Errorf("DirectoryService/Put: %w", err)
	}
	if len(answers) != 1 || !bytes.Equal(get(answers[0], "root_digest").Bytes(), root.digest[:]) {
		return fmt.Errorf("DirectoryService/Put says %v, expected %x", answers, root.digest)
	}
	found, err := getRequest(root.digest[:], true)
	if err != nil {
		return fmt.Errorf("DirectoryService/Get: %w", err)
	}
	// The root first, every other one after one that holds it, each once.
	expected := map[[32]byte]bool{root.digest: true}
	for i, message := range found {
		data, err := marshal(message)
		if err != nil {
			return err
		}
		digest := hashOf(data)
		if !expected[digest] || i == 0 && digest != root.digest {
			return fmt.Errorf("DirectoryService/Get: directory %d of %d, %x, comes before all that hold it, or again", i, len(found), digest)
		}
		expected[digest] = false
		list := get(message, "directories").List()
		for j := range list.Len() {
			child := [32]byte(get(list.Get(j).Message(), "digest").Bytes())
			if _, known := expected[child]; !known {
				expected[child] = true
			}
		}
	}
	for digest, isMissing := range expected {
		if isMissing {
			return fmt.Errorf("DirectoryService/Get leaves out %x", digest)
		}
	}
	report.Directories, report.RootDigest, report.RootSize = len(found), fmt.Sprintf("%x", root.digest), root.size
	if len(found) != len(sent) {
		return fmt.Errorf("DirectoryService/Get gives %d directories, %d were put", len(found), len(sent))
	}
	one, err := getRequest(shared.digest[:], false)
	if err != nil {
		return fmt.Errorf("DirectoryService/Get of the empty directory: %w", err)
	}
	if len(one) != 1 || !proto.Equal(one[0], shared.message) {
		return fmt.Errorf("DirectoryService/Get of the empty directory gives %v", one)
	}
	return nil
}

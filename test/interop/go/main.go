// Command narbor-grpc-clients speaks to a Narbor server with other people's gRPC, protobuf, BLAKE3 and zstd, and prints what it found as JSON.
//
//	narbor-grpc-clients cas-put ADDRESS DIR             a directory as REv2 Directory messages and blobs, into the CAS
//	narbor-grpc-clients cas-get ADDRESS HASH SIZE DIR   and out of it again
//	narbor-grpc-clients cas-codes ADDRESS               the codes of calls that must fail
//	narbor-grpc-clients castore ADDRESS FAMILY REFLECTION SALT
//
// The last puts and gets a blob and a closure of directories by the names of snix or tvix, with messages made of what reflection v1 or v1alpha says.
// What it stores is another for each SALT.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"lukechampine.com/blake3"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	report, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		panic(err)
	}
}

func run(ctx context.Context, args []string) (any, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("usage: narbor-grpc-clients VERB ADDRESS ...")
	}
	// With every default there is, messages of at most 4 MiB among them.
	conn, err := grpc.NewClient(args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	switch rest := args[2:]; {
	case args[0] == "cas-put" && len(rest) == 1:
		return casPut(ctx, conn, rest[0])
	case args[0] == "cas-get" && len(rest) == 3:
		size, err := strconv.ParseInt(rest[1], 10, 64)
		if err != nil {
			return nil, err
		}
		return casGet(ctx, conn, rest[0], size, rest[2])
	case args[0] == "cas-codes" && len(rest) == 0:
		return casCodes(ctx, conn)
	case args[0] == "castore" && len(rest) == 3:
		return castore(ctx, conn, rest[0], rest[1], rest[2])
	}
	return nil, fmt.Errorf("unknown: %q", args)
}

func hashOf(data []byte) [32]byte { return blake3.Sum256(data) }

func hexOf(data []byte) string {
	sum := hashOf(data)
	return hex.EncodeToString(sum[:])
}

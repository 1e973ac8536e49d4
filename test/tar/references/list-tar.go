// Command list-tar says what Go's archive/tar reads in tar archives, as Docker, containerd, Podman and skopeo do: its standard input is archives,
// each after its length as a 32-bit big-endian number; its output one line of JSON for each.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
)

// Contents beyond this are not read: a file with holes may be of any size.
const maxContents = 64 << 20

type entry struct {
	Path, Link   []byte
	Type         string
	Mode         int64
	UID, GID     int
	Seconds      int64
	Nanoseconds  int
	Major, Minor int64
	Size         int64
	Xattrs       map[string][]byte
	SHA256       string
}

type listing struct {
	Entries []entry
	Error   string
}

func main() {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	encoder := json.NewEncoder(output)
	for {
		var length uint32
		err := binary.Read(input, binary.BigEndian, &length)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(err)
		}
		archive := make([]byte, length)
		if _, err := io.ReadFull(input, archive); err != nil {
			panic(err)
		}
		if err := encoder.Encode(list(archive)); err != nil {
			panic(err)
		}
	}
}

func list(archive []byte) listing {
	found := listing{Entries: []entry{}}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			found.Error = err.Error()
			return found
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		said := entry{
			Path: []byte(header.Name), Link: []byte(header.Linkname), Type: string(rune(header.Typeflag)),
			Mode: header.Mode, UID: header.Uid, GID: header.Gid,
			Seconds: header.ModTime.Unix(), Nanoseconds: header.ModTime.Nanosecond(),
			Major: header.Devmajor, Minor: header.Devminor, Size: header.Size,
			Xattrs: map[string][]byte{},
		}
		for key, value := range header.PAXRecords {
			if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				said.Xattrs[name] = []byte(value)
			}
		}
		if header.Size <= maxContents {
			hash := sha256.New()
			if _, err := io.Copy(hash, reader); err != nil {
				found.Error = err.Error()
				return found
			}
			said.SHA256 = hex.EncodeToString(hash.Sum(nil))
		}
		found.Entries = append(found.Entries, said)
	}
}

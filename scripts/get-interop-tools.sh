#!/usr/bin/env bash
# Build the Go programs of test/interop/go (crane, grpcurl, grpc-health-probe, and a client with Go's gRPC), and a Python with gRPC of its own, for
# tests with them; nothing outside of DIR is touched, but for the caches of go and pip. Quick when they are there already. Versions are pinned there
# and here.
#   scripts/get-interop-tools.sh DIR
# Then: NARBOR_TEST_INTEROP_TOOLS=DIR npm test
set -euo pipefail
dir=$(mkdir -p "${1:?usage: get-interop-tools.sh DIR}" && cd "$1" && pwd)
cd "$(dirname "$0")/../test/interop/go"
# The wheels of all of them are for CPython 3.10 and newer.
python_packages=(grpcio==1.85.1 grpcio-reflection==1.85.1 protobuf==7.36.2 blake3==1.0.11)

stamp=$(cat go.mod go.sum ./*.go ../../../scripts/get-interop-tools.sh | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -f "$dir/stamp"

go=$(command -v go || command -v /usr/local/go/bin/go || true)
if [ -z "$go" ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  echo "There is no Go: trying Debian's"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends golang-go > /dev/null || true
  go=$(command -v go || true)
fi
if [ -z "$go" ]; then echo "get-interop-tools.sh: Go is needed, and is neither on the PATH nor in /usr/local/go" >&2; exit 1; fi
# The Go that is here, and no other: one that is too old says so, with the version that it takes.
GOTOOLCHAIN=local "$go" build -mod=readonly -o "$dir/" . github.com/fullstorydev/grpcurl/cmd/grpcurl github.com/google/go-containerregistry/cmd/crane github.com/grpc-ecosystem/grpc-health-probe

python3 -m venv --clear "$dir/python"
"$dir/python/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "${python_packages[@]}"

echo "$stamp" > "$dir/stamp"

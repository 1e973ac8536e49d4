#!/usr/bin/env bash
# Unpack the Nix client of another Debian suite beside the system's, for tests with several versions; nothing outside of DIR is touched.
#   scripts/get-nix.sh SUITE DIR        trixie has 2.26, sid what is new
# Then: NARBOR_TEST_NIX=DIR/bin npm test
set -euo pipefail
suite=${1:?usage: get-nix.sh SUITE DIR}
dir=$(mkdir -p "${2:?usage: get-nix.sh SUITE DIR}" && cd "$2" && pwd)

apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/etc/apt/{apt.conf.d,preferences.d} "$apt"/var/lib/apt/lists/partial "$apt"/var/cache/apt/archives/partial "$apt"/var/lib/dpkg
touch "$apt/var/lib/dpkg/status"
# The mirror this machine uses already. Newer Debian names it in deb822 files ("URIs:"), older in one line.
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1 | tr -d ' ' || true)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?no Debian mirror found} $suite main" > "$apt/etc/apt/sources.list"
options=(-o "Dir=$apt" -o "Dir::Etc=$apt/etc/apt" -o "Dir::State::status=$apt/var/lib/dpkg/status" -o Debug::NoLocking=1 -o APT::Install-Recommends=0 -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" -y -qq --download-only install nix-bin libc6 > /dev/null
for package in "$apt"/var/cache/apt/archives/*.deb; do dpkg --extract "$package" "$dir"; done

# Its own loader and libraries: the system's are of another suite.
loader=$(find "$dir" -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(find "$dir" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
mkdir -p "$dir/bin"
for name in nix nix-store nix-build nix-instantiate nix-hash; do
  printf '#!/bin/sh\nexec "%s" --argv0 %s --library-path "%s" "%s/usr/bin/nix" "$@"\n' "$loader" "$name" "$libraries" "$dir" > "$dir/bin/$name"
  chmod +x "$dir/bin/$name"
done
"$dir/bin/nix" --version

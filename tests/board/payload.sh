#!/usr/bin/env bash
# What a board is given at its start: ebb, the test programs, settings and packs, as a tar file.
#
#   tests/board/payload.sh ARCH INSTALLED PACK      the last line is the file
#
# INSTALLED is what build.sh printed. The file lies beside it.
set -eu
. "$(dirname "$0")/lib.sh"
arch=${1:?arm64 or amd64} installed=${2:?what build.sh printed} pack=${3:?a pack}
board_arch "$arch"
sysroot=$("$board_here/root.sh" "$arch" | tail -n 1)/sysroot
lib=$sysroot/usr/lib/$triplet
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
install -d "$tmp/usr/lib/board" "$tmp/etc/ebb" "$tmp/var/lib/ebb"
"$triplet-gcc" -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror "--sysroot=$sysroot" "-B$lib" \
    "-L$lib" -static -o "$tmp/usr/lib/board/probe" "$board_here/probe.c"
install "$board_here"/guest/*.sh "$tmp/usr/lib/board/"
install -m 644 "$board_here/ebb.yaml" "$tmp/etc/ebb/ebb.yaml"
install -m 644 "$pack" "$tmp/var/lib/ebb/model.ebb"
tar --owner=0 --group=0 -cf "$installed.tar" -C "$installed" . -C "$tmp" .
echo "$installed.tar"

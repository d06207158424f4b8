#!/usr/bin/env bash
# Builds ebb and the tests' own programs for a board.
#
#   tests/board/build.sh arm64|amd64 [SOURCE [BUILD]]      the last line is what was installed
#
# SOURCE is a checkout, default this one; BUILD its build folder, default SOURCE/build-board-ARCH.
set -eu
. "$(dirname "$0")/lib.sh"
arch=${1:?arm64 or amd64}
source=$(realpath "${2:-$board_source}")
build=$(realpath -m "${3:-$source/build-board-$arch}")
board_arch "$arch"
root=$("$board_here/root.sh" "$arch" | tail -n 1)
sysroot=$root/sysroot
lib=$sysroot/usr/lib/$triplet
compiler=$triplet-gcc
if ! command -v "$compiler" > /dev/null; then
    echo "no $compiler here" >&2
    exit 77
fi

# What meson is to know; a build folder made with other words is made again.
cross=$(
    cat << E
[binaries]
c = '$compiler'
ar = '$triplet-ar'
strip = '$triplet-strip'
pkgconfig = 'pkg-config'

[built-in options]
c_args = ['--sysroot=$sysroot']
c_link_args = ['--sysroot=$sysroot', '-B$lib', '-L$lib', '-Wl,-rpath-link,$lib', '-Wl,-rpath-link,$lib/openblas-pthread']

[properties]
sys_root = '$sysroot'
pkg_config_libdir = '$lib/pkgconfig:$lib/openblas-pthread/pkgconfig:$sysroot/usr/share/pkgconfig'

[host_machine]
system = 'linux'
cpu_family = '$family'
cpu = '$family'
endian = 'little'
E
)
if [ ! -f "$build/build.ninja" ] || [ "$cross" != "$(cat "$build/board.ini")" ]; then
    rm -rf "$build"
    mkdir -p "$build"
    printf '%s\n' "$cross" > "$build/board.ini"
    meson setup --cross-file "$build/board.ini" --prefix=/usr -Dsystemd_version=252 \
        "$build" "$source" > "$build/board.log" 2>&1 || { tail -n 20 "$build/board.log" >&2 && exit 1; }
fi
ninja -C "$build" daemon/ebb daemon/ebbd core/make/ebb-pack core/bench/ebb-bench \
    > "$build/board.log" 2>&1 || { tail -n 40 "$build/board.log" >&2 && exit 1; }
rm -rf "$build/board"
meson install -C "$build" --no-rebuild --strip --destdir "$build/board" > "$build/board.log" 2>&1 ||
    { tail -n 20 "$build/board.log" >&2 && exit 1; }
echo "$build/board"

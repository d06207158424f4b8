#!/usr/bin/env bash
# Decode speed of ebb at `high` against llama.cpp's Q4_0, on this machine, in one run.
#
#   tests/bench/peer.sh SRC.gguf [--pack PACK.ebb] [--build DIR] [--cache DIR] [--reps N]
#                       [--tokens N] [--threads "1 2"] [--json]
#
# Builds llama.cpp from the sources inside npm's node-llama-cpp package (a git bundle) in a cache
# folder, quantises SRC to Q4_0, packs it for ebb unless --pack is given, and measures both in
# turns A B A B, so that a machine that changes speed changes both. AMX is off in llama.cpp: boards
# have none. Needs node's npm, git, cmake, ninja and g++ beside what ebb needs; `apt-get install
# npm git cmake ninja-build g++` is enough on Debian.
#
#   LLAMA_DIR   a llama.cpp build folder to use instead (its bin/ holds llama-bench, llama-quantize)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
package=node-llama-cpp@3.22.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebb-bench
build=$here/../../build
src= pack= forward=()

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --pack | --build | --cache | --reps | --tokens | --threads)
        [ $# -ge 2 ] || usage
        case $1 in
        --pack) pack=$2 ;;
        --build) build=$2 ;;
        --cache) cache=$2 ;;
        *) forward+=("$1" "$2") ;;
        esac
        shift
        ;;
    --json) forward+=("$1") ;;
    -h | --help | -*) usage ;;
    *)
        [ -z "$src" ] || usage
        src=$1
        ;;
    esac
    shift
done
[ -n "$src" ] || usage
[ -r "$src" ] || { echo "cannot read $src" >&2; exit 66; }

need() {
    for tool in "$@"; do
        command -v "$tool" > /dev/null || { echo "$tool is missing: see the head of $0" >&2; exit 69; }
    done
}

mkdir -p "$cache"
if [ -n "${LLAMA_DIR:-}" ]; then
    llama=$LLAMA_DIR
else
    llama=$cache/llama.cpp/build
    if [ ! -x "$llama/bin/llama-bench" ] || [ ! -x "$llama/bin/llama-quantize" ]; then
        need npm git cmake ninja g++ tar
        echo "building llama.cpp in $cache (once, some minutes)" >&2
        rm -rf "$cache/llama.cpp" "$cache/package"
        (cd "$cache" && npm pack --silent "$package" > /dev/null && tar -xzf node-llama-cpp-*.tgz &&
            git clone -q package/llama/gitRelease.bundle llama.cpp)
        cmake -S "$cache/llama.cpp" -B "$llama" -G Ninja -DCMAKE_BUILD_TYPE=Release \
            -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
            -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF -DLLAMA_CURL=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
            -DLLAMA_BUILD_TOOLS=ON > "$cache/cmake.log" 2>&1 ||
            { tail -n 20 "$cache/cmake.log" >&2; exit 1; }
        ninja -C "$llama" llama-bench llama-quantize > "$cache/ninja.log" 2>&1 ||
            { tail -n 20 "$cache/ninja.log" >&2; exit 1; }
    fi
fi

name=$(basename "$src" .gguf)
q4=$cache/$name.q4_0.gguf
if [ ! -f "$q4" ] || [ "$src" -nt "$q4" ]; then
    "$llama/bin/llama-quantize" --allow-requantize "$src" "$q4.part" Q4_0 > "$cache/quantize.log" 2>&1 ||
        { tail -n 20 "$cache/quantize.log" >&2; exit 1; }
    mv "$q4.part" "$q4"
fi
if [ -z "$pack" ]; then
    pack=$cache/$name.ebb
    if [ ! -f "$pack" ] || [ "$src" -nt "$pack" ]; then
        "$build/core/make/ebb-pack" build "$src" -o "$pack"
    fi
fi

exec python3 "$here/peer.py" --llama-bench "$llama/bin/llama-bench" --q4 "$q4" \
    --ebb-decode "$build/tests/bench_decode" --pack "$pack" ${forward[@]+"${forward[@]}"}

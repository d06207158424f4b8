# llama.cpp for the comparisons: sourced by peer.sh and quality.sh, after `set -eu`.
#
#   llama_tools FOLDER TOOL...   sets $llama to a build folder whose bin/ holds these tools
#   llama_quantize SRC OUT TYPE [OPTION...]   OUT is renamed into place when it is whole
#
# It is built once in FOLDER from the sources inside npm's node-llama-cpp package (a git bundle),
# unless LLAMA_DIR names a finished build folder. Needs node's npm, git, cmake, ninja and g++ beside
# what ebb needs; `apt-get install npm git cmake ninja-build g++` is enough on Debian. AMX is off:
# boards have none.
# shellcheck shell=bash
llama_package=node-llama-cpp@3.22.1
llama=

need() {
    for tool in "$@"; do
        command -v "$tool" > /dev/null || { echo "$tool is missing; Debian: apt-get install npm git cmake ninja-build g++" >&2; exit 69; }
    done
}

# logged LOG COMMAND...: its output goes to the log, whose end is shown if it fails.
logged() {
    local log=$1
    shift
    "$@" > "$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
}

llama_has() {
    local tool
    for tool in "$@"; do
        [ -x "$llama/bin/$tool" ] || return 1
    done
}

llama_sources() {
    rm -rf "$1/llama.cpp" "$1/package"
    (cd "$1" && npm pack --silent "$llama_package" > /dev/null && tar -xzf node-llama-cpp-*.tgz &&
        git clone -q package/llama/gitRelease.bundle llama.cpp)
    logged "$1/cmake.log" cmake -S "$1/llama.cpp" -B "$llama" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
        -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF -DLLAMA_CURL=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
        -DLLAMA_BUILD_TOOLS=ON
}

llama_tools() {
    local folder=$1
    shift
    mkdir -p "$folder"
    llama=${LLAMA_DIR:-$folder/llama.cpp/build}
    if ! llama_has "$@"; then
        if [ -n "${LLAMA_DIR:-}" ]; then
            echo "LLAMA_DIR: $llama/bin lacks one of: $*" >&2
            exit 66
        fi
        need npm git cmake ninja g++ tar
        echo "building llama.cpp in $folder (once, some minutes)" >&2
        [ -f "$llama/build.ninja" ] || llama_sources "$folder"
        logged "$folder/ninja.log" ninja -C "$llama" "$@"
    fi
}

llama_quantize() {
    local src=$1 out=$2 type=$3
    shift 3
    logged "$out.log" "$llama/bin/llama-quantize" --allow-requantize "$@" "$src" "$out.part" "$type"
    mv "$out.part" "$out"
    rm -f "$out.log"
}

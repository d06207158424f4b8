#!/usr/bin/env bash
# Speed of ebb against llama.cpp on this machine, in one run: decoding and prompts at `high` against
# Q4_0 and at `full` against Q8_0; four requests together against one; what decoding reads against
# what plain reading reads; and decoding while another process burns one of two CPUs.
#
#   tests/bench/peer.sh SRC.gguf [--pack PACK.ebb] [--build DIR] [--cache DIR] [--reps N]
#                       [--tokens N] [--prompt N] [--threads "1 2"] [--json]
#
# Builds llama.cpp in a cache folder (llama.sh says from what), quantises SRC to Q4_0 and Q8_0, packs
# it for ebb unless --pack is given, and measures both in turns A B A B, so that a machine that changes
# speed changes both. Prints tables in markdown; with --json the last line is one object with all
# ratios. Five turns take some three minutes.
#
#   LLAMA_DIR   a llama.cpp build folder to use instead (its bin/ holds llama-bench, llama-quantize)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/llama.sh"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebb-bench
build=$here/../../build
src= pack= forward=()

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --pack | --build | --cache | --reps | --tokens | --prompt | --threads)
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

llama_tools "$cache" llama-bench llama-quantize

name=$(basename "$src" .gguf)
for type in Q4_0 Q8_0; do
    quantised=$cache/$name.$(echo "$type" | tr QK qk).gguf
    if [ ! -f "$quantised" ] || [ "$src" -nt "$quantised" ]; then
        llama_quantize "$src" "$quantised" "$type"
    fi
done
if [ -z "$pack" ]; then
    pack=$cache/$name.ebb
    if [ ! -f "$pack" ] || [ "$src" -nt "$pack" ]; then
        "$build/core/make/ebb-pack" build "$src" -o "$pack"
    fi
fi

exec python3 "$here/peer.py" --llama-bench "$llama/bin/llama-bench" --q4_0 "$cache/$name.q4_0.gguf" \
    --q8_0 "$cache/$name.q8_0.gguf" --ebb-bench "$build/core/bench/ebb-bench" --pack "$pack" \
    ${forward[@]+"${forward[@]}"}

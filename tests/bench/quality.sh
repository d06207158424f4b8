#!/usr/bin/env bash
# How near to the source ebb's planes are, beside llama.cpp's quantisations of the same model: the
# table in README.md, in one command.
#
#   tests/bench/quality.sh MODEL.gguf [CALIB.txt [TEXT.txt]] [--pack PACK.ebb] [--windows N]
#                          [--self-windows N] [--threads N] [--build DIR] [--cache DIR] [--json]
#
# Both sides learn from the same text, the first 128 windows of 512 tokens of CALIB: llama.cpp its
# importance matrix (llama-imatrix, as it comes), ebb its moments, unless --pack brings a pack that
# was made with `ebb-pack build --calib CALIB`. llama.cpp then makes Q4_0, IQ4_NL, Q4_1, Q4_K_M and
# Q8_0. All are judged by `ebb-pack eval` on the first N windows (128) of TEXT and on windows (32)
# that the model writes itself. Without names the texts are wiki.valid.txt and wiki.test.txt in
# $EBB_SHARED/text, or in a folder shared/ beside the source tree.
#
# llama.cpp is built in the cache folder (llama.sh says from what); what was made is found again
# there. With everything in the cache it takes some twenty minutes on two quiet cores.
#
#   LLAMA_DIR   a llama.cpp build folder to use instead (its bin/ holds llama-imatrix, llama-quantize)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/llama.sh"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebb-bench
build=$here/../../build
texts=${EBB_SHARED:-$here/../../../shared}/text
threads=$(nproc)
names=() pack= forward=()
calib_windows=128

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --pack | --build | --cache | --windows | --self-windows | --threads)
        [ $# -ge 2 ] || usage
        case $1 in
        --pack) pack=$2 ;;
        --build) build=$2 ;;
        --cache) cache=$2 ;;
        --threads) threads=$2 ;;
        *) forward+=("$1" "$2") ;;
        esac
        shift
        ;;
    --json) forward+=("$1") ;;
    -h | --help | -*) usage ;;
    *) names+=("$1") ;;
    esac
    shift
done
[ ${#names[@]} -ge 1 ] && [ ${#names[@]} -le 3 ] || usage
src=${names[0]} calib=${names[1]:-$texts/wiki.valid.txt} text=${names[2]:-$texts/wiki.test.txt}
for f in "$src" "$calib" "$text" ${pack:+"$pack"}; do
    [ -r "$f" ] || { echo "cannot read $f" >&2; exit 66; }
done

llama_tools "$cache" llama-imatrix llama-quantize
ebb_pack=$build/core/make/ebb-pack
# What is made depends on model and calibration text, and lies in a folder named after both.
made=$cache/quality/$(basename "$src" .gguf)-$({ cat "$calib"; stat -L -c '%s %Y' "$src"; } | cksum | cut -d' ' -f1)
mkdir -p "$made"

if [ ! -f "$made/imatrix.gguf" ]; then
    echo "llama.cpp's importance matrix (some minutes)" >&2
    logged "$made/imatrix.log" "$llama/bin/llama-imatrix" -m "$src" -f "$calib" -c 512 \
        --chunks "$calib_windows" --no-ppl -t "$threads" -o "$made/imatrix.part.gguf"
    mv "$made/imatrix.part.gguf" "$made/imatrix.gguf"
fi
others=()
for type in Q4_0 IQ4_NL Q4_1 Q4_K_M Q8_0; do
    if [ ! -f "$made/$type.gguf" ]; then
        echo "llama.cpp's $type" >&2
        llama_quantize "$src" "$made/$type.gguf" "$type" --imatrix "$made/imatrix.gguf"
    fi
    others+=("$made/$type.gguf")
done
if [ -z "$pack" ]; then
    pack=$made/model.ebb
    if [ ! -f "$pack" ] || [ "$ebb_pack" -nt "$pack" ]; then
        echo "ebb's pack (some minutes)" >&2
        "$ebb_pack" build "$src" -o "$pack" --calib "$calib" --windows "$calib_windows" \
            --threads "$threads" >&2
    fi
fi

exec python3 "$here/quality.py" --ebb-pack "$ebb_pack" --pack "$pack" --source "$src" \
    --text "$text" --threads "$threads" ${forward[@]+"${forward[@]}"} "${others[@]}"

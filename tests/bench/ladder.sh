#!/usr/bin/env bash
# What a ladder's order is worth: mean loss from every unit full to every unit high, for the pack's
# ladders and for orders to compare with, in one command.
#
#   tests/bench/ladder.sh MODEL.gguf [CALIB.txt [TEXT.txt]] [--pack PACK.ebb] [--windows N]
#                         [--points N] [--randoms N] [--threads N] [--build DIR] [--cache DIR]
#                         [--out DIR] [--json]
#
# Judged on the first N windows (64) of TEXT, by `ebb-pack eval --ladder`: every ladder of the pack,
# the oracle (each unit's own KL measured on TEXT itself, by bytes freed), front layers first, back
# layers first, and N random orders (5). The table gives the mean KL at nine even sizes and the share
# of the way from the mean of the random orders to the oracle, with its standard error. ladder.csv
# and ladder.svg go to --out, which is the cache folder if it is not given.
#
# Without --pack one is made with `ebb-pack build --calib CALIB` (first 128 windows) and kept in the
# cache. Without names the texts are wiki.valid.txt and wiki.test.txt in $EBB_SHARED/text, or in a
# folder shared/ beside the source tree. 64 windows of a model of 135M parameters take about forty
# minutes on two quiet cores; errors fall with the root of the windows.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebb-bench
build=$here/../../build
texts=${EBB_SHARED:-$here/../../../shared}/text
threads=$(nproc)
names=() pack= out= forward=()
calib_windows=128

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --pack | --build | --cache | --out | --windows | --points | --randoms | --threads)
        [ $# -ge 2 ] || usage
        case $1 in
        --pack) pack=$2 ;;
        --build) build=$2 ;;
        --cache) cache=$2 ;;
        --out) out=$2 ;;
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
ebb_pack=$build/core/make/ebb-pack
needed=("$src" "$text")
if [ -n "$pack" ]; then needed+=("$pack"); else needed+=("$calib"); fi
for f in "${needed[@]}"; do
    [ -r "$f" ] || { echo "cannot read $f" >&2; exit 66; }
done
[ -x "$ebb_pack" ] || { echo "$ebb_pack is not built (--build DIR)" >&2; exit 66; }

if [ -z "$pack" ]; then
    # What is made depends on model and calibration text, and lies in a folder named after both.
    made=$cache/ladder/$(basename "$src" .gguf)-$({ cat "$calib"; stat -L -c '%s %Y' "$src"; } | cksum | cut -d' ' -f1)
    mkdir -p "$made"
    pack=$made/model.ebb
    if [ ! -f "$pack" ] || [ "$ebb_pack" -nt "$pack" ]; then
        echo "ebb's pack (some minutes)" >&2
        "$ebb_pack" build "$src" -o "$pack" --calib "$calib" --windows "$calib_windows" \
            --threads "$threads" >&2
    fi
fi
out=${out:-$cache/ladder}
mkdir -p "$out"

exec python3 "$here/ladder.py" --ebb-pack "$ebb_pack" --pack "$pack" --source "$src" \
    --text "$text" --threads "$threads" --out "$out" ${forward[@]+"${forward[@]}"}

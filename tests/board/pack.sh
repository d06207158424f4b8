#!/usr/bin/env bash
# The pack of the real model that the boards serve, made on this machine and kept.
#
#   tests/board/pack.sh      the last line is the file; status 77 without the model
#
# Calibration is short and the third rung is left out: that takes seconds to minutes instead of
# half an hour, and it is not the quality of its answers that is tested here.
set -eu
. "$(dirname "$0")/lib.sh"
build=$board_source/build-gcc
shared=${EBB_SHARED:-$(dirname "$board_source")/shared}
model=$shared/models/smollm2-135m-offgrid-q8_0.gguf
if [ ! -f "$model" ]; then
    echo "$model is missing (set EBB_SHARED to the folder that holds it)" >&2
    exit 77
fi
options=(--calib "$shared/text/wiki.valid.txt" --windows 2 --no-swsc --threads 2)
key=$(board_key "$model" "${options[*]:2}" "$board_source"/core/make/*.c)
out=$board_cache/pack-$key.ebb
if [ ! -e "$out" ]; then
    mkdir -p "$board_cache"
    tmp=$(mktemp "$board_cache/.making-XXXXXX.ebb")
    trap 'rm -f "$tmp" "$tmp.log"' EXIT
    echo "making the pack of the real model (minutes)" >&2
    [ -f "$build/build.ninja" ] || meson setup "$build" "$board_source" --native-file \
        "$board_source/tests/gcc.ini" > "$tmp.log" 2>&1 || { tail "$tmp.log" >&2 && exit 1; }
    ninja -C "$build" core/make/ebb-pack > "$tmp.log" 2>&1 || { tail "$tmp.log" >&2 && exit 1; }
    "$build/core/make/ebb-pack" build "$model" -o "$tmp" "${options[@]}" > "$tmp.log" 2>&1 ||
        { tail -n 20 "$tmp.log" >&2 && exit 1; }
    chmod 644 "$tmp"
    mv "$tmp" "$out"
fi
echo "$out"

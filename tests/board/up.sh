#!/usr/bin/env bash
# Makes what is missing and boots a board that runs this checkout's ebb, or another one's.
#
#   tests/board/up.sh NAME arm64|amd64 [SOURCE [BUILD]]
#
# NAME is for `guest.py run NAME ...` and `trial.py NAME ...`. The daemon is not started yet.
set -eu
here=$(dirname "$0")
name=${1:?a name} arch=${2:?arm64 or amd64}
shift 2
root=$("$here/root.sh" "$arch" | tail -n 1)
installed=$("$here/build.sh" "$arch" "$@" | tail -n 1)
pack=$("$here/pack.sh" | tail -n 1)
payload=$("$here/payload.sh" "$arch" "$installed" "$pack" | tail -n 1)
python3 "$here/guest.py" boot "$name" "$root" "$payload"

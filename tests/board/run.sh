#!/usr/bin/env bash
# Runs ebb as its unit on whole Debian systems in the emulator.
#
#   tests/board/run.sh [--arch arm64|amd64]... [CASE...]   the short form
#   tests/board/run.sh --long [--arch ARCH] [--trials N]   all cases, on x86-64 too; then all trials
#                                                          of memory.high on arm64, as a table
#
# The short form is arm64's, and says which cases it leaves out. CASE is a part of a case's name. One
# line a case; the last line is "N passed, N failed, N skipped". What is missing is said and counted
# as skipped, or as failed with EBB_TEST_NO_SKIP. Packages: packages.txt, `board`; tests/run.sh
# installs them.
set -u
cd "$(dirname "$0")/../.." || exit 1
here=tests/board

archs=()
names=()
long=
trials=20
while [ $# -gt 0 ]; do
    case $1 in
    --long) long=1 ;;
    --arch) archs+=("${2:?an architecture}") && shift ;;
    --trials) trials=${2:?a number} && shift ;;
    -*) echo "usage: see the head of $0" >&2 && exit 2 ;;
    *) names+=("$1") ;;
    esac
    shift
done

n_passed=0
n_failed=0
n_skipped=0
skip() { # skip WHAT WHY
    if [ -n "${EBB_TEST_NO_SKIP:-}" ]; then
        n_failed=$((n_failed + 1))
        echo "FAIL $1: skip not allowed here: $2"
    else
        n_skipped=$((n_skipped + 1))
        echo "skip $1: $2"
    fi
}

# missing COMMAND...: the first that is not there
missing() {
    local x
    for x in "$@"; do command -v "$x" > /dev/null || { echo "$x" && return; }; done
}

said=$(mktemp)
trap 'rm -f "$said"' EXIT

# made WHAT COMMAND...: the last line of what it prints, in $made. Its failure is a test's.
made() {
    local what=$1 status
    shift
    made=$("$@" 2> "$said" | tail -n 1; exit "${PIPESTATUS[0]}")
    status=$?
    [ $status -ne 0 ] || return 0
    if [ $status -eq 77 ]; then skip "$what" "$(tail -n 1 "$said")"; else
        n_failed=$((n_failed + 1))
        tail -n 20 "$said"
        echo "FAIL $what"
    fi
    return 1
}

run_board() { # run_board ARCH
    local arch=$1 emulator=qemu-system-aarch64 lacks
    [ "$arch" = arm64 ] || emulator=qemu-system-x86_64
    lacks=$(missing "$emulator" mmdebstrap mke2fs cpio depmod xz python3 meson ninja)
    if [ -n "$lacks" ]; then
        skip "$arch" "no $lacks here"
        return
    fi
    made "$arch: the system is made" $here/root.sh "$arch" || return
    export BOARD_ROOT=$made
    made "$arch: ebb is built" $here/build.sh "$arch" || return
    local installed=$made
    made "$arch: the pack" $here/pack.sh || return
    made "$arch: its load is put together" $here/payload.sh "$arch" "$installed" "$made" || return
    export BOARD_PAYLOAD=$made
    BOARD_LONG=$long python3 -u $here/cases.py "${names[@]}" | tee "$said" | sed -u '$d'
    local counts
    counts=$(tail -n 1 "$said" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    # shellcheck disable=SC2086
    set -- ${counts:-0 1 0}
    n_passed=$((n_passed + $1))
    n_failed=$((n_failed + $2))
    n_skipped=$((n_skipped + $3))
    if [ -n "$long" ] && [ "$arch" = "${archs[0]}" ]; then
        python3 $here/long.py --trials "$trials" || n_failed=$((n_failed + 1))
    fi
}

if [ ${#archs[@]} -eq 0 ]; then
    archs=(arm64)
    [ -z "$long" ] || archs+=(amd64)
fi
for arch in "${archs[@]}"; do
    echo "== board $arch"
    run_board "$arch"
done
echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
[ "$n_failed" -eq 0 ]

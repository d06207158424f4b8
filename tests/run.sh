#!/usr/bin/env bash
# Builds everything and runs every test, in CI and on a developer's machine alike.
#
#   tests/run.sh            all stages
#   tests/run.sh lint unit  only these
#
# Stages, in this order: lint gcc clang unit kern arm golden it asan tsan fuzz board. A stage builds
# what it needs, so that each can be run alone. Build folders are build-*, kept between runs; logs are in
# build-logs/. The last line is "N passed, N failed", with ", N skipped" if any were; exit status 1
# if one failed.
#
#   EBB_SHARED   folder with the real model and texts; default ../shared beside the checkout
#   CI=true      a skipped test is a failure, packages are installed without asking
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
. ./packages.sh

all="lint gcc clang unit kern arm golden it asan tsan fuzz board"
stages=${*:-$all}
for s in $stages; do
    case " $all " in
    *" $s "*) ;;
    *)
        echo "no stage called $s; there are: $all" >&2
        exit 2
        ;;
    esac
done

export EBB_SHARED=${EBB_SHARED:-$(dirname "$root")/shared}
[ "${CI:-}" != true ] || export EBB_TEST_NO_SKIP=1
# Sanitizers: stop at the first report, with a stack.
export ASAN_OPTIONS=abort_on_error=0:detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

logs=$root/build-logs
rm -rf "$logs"
mkdir -p "$logs"
n_passed=0
n_failed=0
n_skipped=0
t_start=$SECONDS

count() { # count PASSED FAILED SKIPPED
    n_passed=$((n_passed + $1))
    n_failed=$((n_failed + $2))
    n_skipped=$((n_skipped + $3))
}

# build DIR SETUP-ARGS...: configures if need be, and compiles. Quiet unless it fails.
build() {
    local dir=$1 log=$logs/$1.log
    shift
    if [ ! -f "$dir/build.ninja" ]; then
        rm -rf "$dir"
        meson setup "$dir" "$@" > "$log" 2>&1
    fi && ninja -C "$dir" >> "$log" 2>&1 && return 0
    grep -E 'error|ERROR|FAILED|undefined' -A6 "$log" | head -n 60
    echo "    (log: $log)"
    return 1
}

# compile: build() counted as one test.
compile() {
    if build "$@"; then count 1 0 0; else
        count 0 1 0
        return 1
    fi
}

runner=() # what meson runs under

# run_tests LABEL DIR MESON-TEST-ARGS...: runs them and adds up what they say.
run_tests() {
    local label=$1 dir=$2 said
    shift 2
    rm -f "$dir/meson-logs/$label.json"
    "${runner[@]}" meson test -C "$dir" --no-rebuild --logbase "$label" "$@" > "$logs/$label.out" 2>&1
    said=$(python3 tests/tally.py "$dir/meson-logs/$label.json")
    printf '%s\n' "$said" | sed '$d'
    # shellcheck disable=SC2046
    count $(printf '%s\n' "$said" | tail -n1)
}

# The base build is gcc's; stages that only need one to test use it.
base() { build build-gcc --native-file tests/gcc.ini; }
need() { "$@" || { count 0 1 0; return 1; }; }

stage_lint() {
    need base || return
    run_tests lint build-gcc --suite lint --suite selftest
}
stage_gcc() { compile build-gcc --native-file tests/gcc.ini; }
stage_clang() { compile build-clang --native-file tests/clang.ini; }
stage_unit() {
    need base || return
    run_tests unit build-gcc --suite unit
    run_tests sim build-gcc --suite sim -t 3
    # The other compiler's build must compute the same.
    if [ -f build-clang/build.ninja ]; then run_tests unit-clang build-clang --suite unit; fi
}
stage_kern() {
    need base || return
    run_tests kern build-gcc --suite kern -t 3
}
stage_arm() {
    compile build-arm --cross-file tests/aarch64.ini -Dkernels_only=true || return
    # One test for each rung of the ladder, on a CPU that has no more: an illegal instruction on an
    # older one would show.
    EBB_TEST_NO_SKIP= run_tests kern-arm build-arm --suite kern -t 10
}
stage_golden() {
    need base || return
    run_tests golden build-gcc --suite golden -t 3
}
stage_it() {
    need base || return
    run_tests it build-gcc --suite it --num-processes 2
    # Watchdogs of two seconds.
    run_tests systemd build-gcc --suite it-alone --num-processes 1
    # These wait more than they compute.
    run_tests faults build-gcc --suite it-faults --num-processes 3
}
stage_asan() {
    compile build-asan --native-file tests/gcc.ini -Db_sanitize=address,undefined \
        -Dbuildtype=debugoptimized || return
    run_tests asan-unit build-asan --suite unit --suite part --no-suite long -t 5
    run_tests asan-it build-asan --suite it-quick --suite it-pack --suite it-client \
        --num-processes 2 -t 5
    run_tests asan-faults build-asan --suite it-asan --num-processes 3 -t 5
}
stage_tsan() {
    compile build-tsan --native-file tests/gcc.ini -Db_sanitize=thread \
        -Dbuildtype=debugoptimized || return
    # Not it-pack: TSan's own runtime writes files, and dies of the size limit that test sets.
    # Kernels with much address randomisation place memory where TSan cannot follow. Around meson
    # and not as its --wrapper, which would put its own name into that of the log.
    local runner=()
    if setarch "$(uname -m)" -R true 2> /dev/null; then runner=(setarch "$(uname -m)" -R); fi
    run_tests tsan-unit build-tsan --suite threads -t 5
    run_tests tsan-it build-tsan --suite it-quick --num-processes 2 -t 5
}
stage_fuzz() {
    need base || return
    run_tests fuzz build-gcc --suite fuzz -t 3
}
# Whole systems in the emulator: minutes, and half an hour when they are made first.
stage_board() {
    local log=$logs/board.out said
    if ! install_packages build board; then
        echo "    packages could not be installed"
        count 0 1 0
        return
    fi
    timeout -k 60 3600 tests/board/run.sh > "$log" 2>&1
    grep -E '^(FAIL|skip) ' -B8 "$log"
    said=$(tail -n 1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p')
    # shellcheck disable=SC2086
    count ${said:-0 1 0}
}

if ! install_packages build test; then
    echo "packages could not be installed"
    count 0 1 0
fi
for s in $stages; do
    echo "== $s"
    t=$SECONDS
    before="$n_passed $n_failed $n_skipped"
    "stage_$s"
    # shellcheck disable=SC2086
    set -- $before
    echo "   $s: $((n_passed - $1)) passed, $((n_failed - $2)) failed," \
        "$((n_skipped - $3)) skipped, $((SECONDS - t)) s"
done
echo "total time $((SECONDS - t_start)) s"

if [ "$n_skipped" -gt 0 ]; then
    echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
else
    echo "$n_passed passed, $n_failed failed"
fi
[ "$n_failed" -eq 0 ]

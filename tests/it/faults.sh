#!/usr/bin/env bash
# Runs the rows of the fault list, each by the tests that show it, one line a row.
#
#   tests/it/faults.sh [BUILD] [ROW...]     BUILD: default build-gcc; ROW: such as L3, or L for all L
#
# The last line is "N passed, N failed", with ", N skipped" if any were; exit status 1 if one
# failed. A row whose test is missing has failed. EBB_TEST_NO_SKIP=1: so has one that is skipped.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=build-gcc
if [ $# -gt 0 ] && [ -d "$1" ]; then
    build=$1
    shift
fi
[ -f "$build/build.ninja" ] || {
    echo "$build is not a build folder: meson setup $build --native-file tests/gcc.ini" >&2
    exit 2
}
wanted="$*"

# ROW PROGRAM TESTS: a program of tests/it (.py) or of BUILD/tests, and how the names of its tests
# begin. A row may have several lines.
rows="
M1  test_faults_malloc.py  M1_
M2  test_faults_memory.py  M2_
M3  test_faults_memory.py  M3_
M4  test_faults_memory.py  M4_
M6  test_faults_memory.py  M6_
T1  test_faults_heat.py    T1_
T2  test_faults_heat.py    T2_
T2  sim/test_sim_flap      heat
T3  test_faults_zones.py   T3_
T4  test_faults_zones.py   T4_
T5  test_faults_zones.py   T5_
T6  test_faults_zones.py   T6_
L1  test_faults_life.py    L1_
L1  test_systemd.py        L1_
L2  test_faults_life.py    L2_
L3  test_faults_life.py    L3_
L3  test_systemd.py        L3_
L4  test_systemd.py        L4_
L5  test_faults_life.py    L5_
L6  test_faults_life.py    L6_
L7  test_systemd.py        L7_
L8  test_systemd.py        L8_
L13 test_faults_life.py    L13_
L13 test_systemd.py        L13_
"

is_wanted() { # is_wanted ROW
    local w
    [ -n "$wanted" ] || return 0
    for w in $wanted; do
        case $1 in "$w") return 0 ;; esac
        case $w in [A-Z]) [ "${1#"$w"}" = "$1" ] || return 0 ;; esac
    done
    return 1
}

# run PROGRAM TESTS: its output in $out; 0 passed, 77 skipped, else failed.
run() {
    local last
    case $1 in
    *.py)
        [ -f "tests/it/$1" ] || {
            echo "tests/it/$1 is missing" > "$out"
            return 1
        }
        python3 "tests/it/$1" --build "$build" --only "$2" > "$out" 2>&1
        ;;
    *)
        [ -x "$build/tests/$1" ] || {
            echo "$build/tests/$1 is missing" > "$out"
            return 1
        }
        "$build/tests/$1" "$2" > "$out" 2>&1
        ;;
    esac || return
    last=$(tail -n1 "$out")
    case $last in
    0\ passed* | *[!0-9\ a-z,]*) return 1 ;;
    *", 0 skipped") return 0 ;;
    *skipped) return 77 ;;
    esac
}

out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
n_passed=0
n_failed=0
n_skipped=0
for row in $(printf '%s\n' "$rows" | awk 'NF && !seen[$1]++ { print $1 }'); do
    is_wanted "$row" || continue
    start=$SECONDS
    result=ok
    said=
    while read -r _ program tests; do
        run "$program" "$tests"
        case $? in
        0) ;;
        77) [ "$result" = FAIL ] || result=skip ;;
        *) result=FAIL ;;
        esac
        # What was measured, or what is wrong.
        said+=$(grep -E '^ {4}' "$out" || [ "$result" != FAIL ] || tail -n3 "$out")
        [ -z "$said" ] || said+=$'\n'
    done < <(printf '%s\n' "$rows" | awk -v row="$row" '$1 == row')
    case $result in
    ok) n_passed=$((n_passed + 1)) ;;
    skip) n_skipped=$((n_skipped + 1)) ;;
    FAIL) n_failed=$((n_failed + 1)) ;;
    esac
    printf '%-4s %-3s (%d s)\n' "$result" "$row" $((SECONDS - start))
    printf '%s' "$said" | sed '/^$/d; s/^ */     /'
done

if [ "$n_skipped" -gt 0 ]; then
    echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
else
    echo "$n_passed passed, $n_failed failed"
fi
[ "$n_failed" -eq 0 ]

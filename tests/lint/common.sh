# Shared by the lints: where the tree is, which files count, and how a result is told.
# A lint sources this file, calls `check NAME` before each rule, `bad TEXT` for each violation, and
# ends with `finish`. Last line: "N passed, N failed"; exit status 1 if a rule was broken.
set -u
export LC_ALL=C

root=${1:-.}
cd "$root" || exit 2

n_passed=0
n_failed=0
rule=

settle() {
    [ -n "$rule" ] || return 0
    if [ "$rule_bad" -gt 0 ]; then
        n_failed=$((n_failed + 1))
        echo "FAIL $rule"
    else
        n_passed=$((n_passed + 1))
        echo "ok   $rule"
    fi
}

check() {
    settle
    rule=$1
    rule_bad=0
}

bad() {
    rule_bad=$((rule_bad + 1))
    echo "    $1"
}

# Every line of standard input is a violation; `why` follows it.
bad_lines() {
    while IFS= read -r line; do
        bad "$line${1:+: $1}"
    done
}

finish() {
    settle
    echo "$n_passed passed, $n_failed failed"
    [ "$n_failed" -eq 0 ]
    exit
}

# C files of our source folders (or of those named), without build folders.
c_files() {
    [ $# -gt 0 ] || set -- kernels core config daemon tests
    for d in "$@"; do
        [ -e "$d" ] && find "$d" -name 'build*' -prune -o -type f -name '*.[ch]' -print
    done | sort
}

# All text files of the project.
text_files() {
    find . \( -name .git -o -name 'build*' -o -name __pycache__ -o -path './tests/fuzz/corpus' \) \
        -prune -o -type f ! -name '*.ebb' ! -name '*.gguf' -print | sed 's,^\./,,' | sort |
        while IFS= read -r f; do
            [ ! -s "$f" ] || grep -Iq . "$f" && echo "$f"
        done
}

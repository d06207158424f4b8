#!/usr/bin/env bash
# Every header compiles alone, with gcc and with clang, as C11 and as C17.
# Usage: headers.sh [ROOT]
. "$(dirname "$0")/common.sh"

flags="-fsyntax-only -x c -D_GNU_SOURCE -I. -Wall -Wextra -Werror -Wno-unused-function"

try() { # try COMPILER FLAGS... HEADER
    out=$("$@" 2>&1) || bad "$(printf '%s: %s' "$1" "$(echo "$out" | grep -m1 -E 'error|fatal' || echo "$out" | head -n1)")"
}

for cc in gcc clang; do
    for std in c11 c17; do
        # c17 differs too little to be worth two compilers' time.
        [ "$cc$std" != clangc17 ] || continue
        check "headers compile alone: $cc -std=$std"
        if ! command -v $cc > /dev/null; then
            bad "$cc is not installed"
            continue
        fi
        for h in $(c_files | grep '\.h$'); do
            case $h in
            kernels/arm/*) [ "$(uname -m)" = aarch64 ] || continue; isa= ;;
            kernels/x86/*) [ "$(uname -m)" = x86_64 ] || continue; isa="-mavx2 -mfma -mf16c" ;;
            *) isa= ;;
            esac
            # shellcheck disable=SC2086
            try $cc -std=$std $flags $isa "$h"
        done
    done
done

finish

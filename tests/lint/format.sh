#!/usr/bin/env bash
# clang-format has nothing to change. Usage: format.sh [ROOT]
. "$(dirname "$0")/common.sh"

check "clang-format is installed"
command -v clang-format > /dev/null || bad "clang-format is missing"

check "every C file is formatted (run: clang-format -i FILE)"
while IFS= read -r f; do
    out=$(clang-format --dry-run -Werror "$f" 2>&1) || bad "$(echo "$out" | head -n1)"
done < <(c_files)

finish

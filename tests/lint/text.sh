#!/usr/bin/env bash
# Text rules: comments, blanks, ends of files, lengths, and words that do not belong in the tree.
# Usage: text.sh [ROOT]
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

mapfile -t files < <(text_files)
mapfile -t sources < <(c_files)

check "comments are /* */"
[ ${#sources[@]} -eq 0 ] ||
    bad_lines "use /* */" < <(python3 "$here/strip.py" --slashes "${sources[@]}" | cut -c1-100)

check "no tabs"
bad_lines "tab" < <(grep -nIP '\t' "${files[@]}" /dev/null | cut -d: -f1,2)

check "no trailing blanks, no carriage returns"
bad_lines "trailing blank" < <(grep -nIE '[[:blank:]]$|'$'\r' "${files[@]}" /dev/null | cut -d: -f1,2)

check "files end with one newline"
for f in "${files[@]}"; do
    [ -s "$f" ] || continue
    [ -z "$(tail -c1 "$f")" ] || bad "$f: no newline at the end"
    [ -n "$(tail -n1 "$f")" ] || bad "$f: blank line at the end"
done

check "C files over 900 lines say why in their head comment"
for f in "${sources[@]}"; do
    n=$(wc -l < "$f")
    [ "$n" -le 900 ] || head -n 60 "$f" | grep -q 'over 900 lines' ||
        bad "$f: $n lines: split it, or say in the head comment why it is over 900 lines"
done

check "each C file opens with a comment, each header with a guard named after its path"
for f in "${sources[@]}"; do
    case $f in
    *.h)
        guard=EBB_$(echo "$f" | tr 'a-z/.-' 'A-Z___')
        grep -q "^#ifndef $guard\$" "$f" || bad "$f: guard is not $guard"
        ;;
    esac
done
for f in $(c_files kernels core config daemon); do
    case $f in
    *.c)
        # A module's text may stand in its header; other files say themselves what they are.
        head -c2 "$f" | grep -q '^/\*' || [ -f "${f%.c}.h" ] || bad "$f: no head comment"
        ;;
    esac
done

check "no left-over notes, no paths of one machine, no numbers of issues"
# Brackets keep the patterns from matching themselves.
bad_lines "does not belong here" < <(grep -nIE \
    '\b(TO[D]O|FIX[M]E|XX[X])\b|(^|[^A-Za-z0-9_.~])/(wor[k]|hom[e]|roo[t])/[A-Za-z0-9]|/tm[p]/(pee[r]|clau[d]e|bash_job[s])|\b[i]ssue #?[0-9]' \
    "${files[@]}" /dev/null | cut -c1-140)

check "no binaries and no models"
bad_lines "binary file" < <(find . \( -name .git -o -name 'build*' -o -name __pycache__ -o \
    -path './tests/fuzz/corpus' -o -path ./tests/golden \) -prune -o -type f -size +0 -print |
    while IFS= read -r f; do grep -Iq . "$f" || echo "$f"; done | grep -v '\.ebb$')

check "shell scripts parse and name their interpreter"
for f in "${files[@]}"; do
    case $f in
    *.sh)
        bash -n "$f" 2> /dev/null || bad "$f: does not parse"
        case $(head -n1 "$f") in '#!'* | '# '*) ;; *) bad "$f: no first line" ;; esac
        ;;
    esac
done

finish

#!/usr/bin/env bash
# Names: every external symbol of our static libraries begins with its module's name, which is the
# first word of its file's name ("tok_bpe.c" defines tok_*); kernels/ uses kern_*.
# Usage: names.sh ROOT BUILD
build=$(cd "${2:-build}" && pwd) || exit 2
. "$(dirname "$0")/common.sh"

check "external symbols carry their module's name"
n_symbols=0
while read -r lib; do
    object=
    while IFS= read -r line; do
        case $line in
        *.o:)
            object=${line%:}
            object=${object##*/}
            object=${object%.o}
            object=${object%.c}
            continue
            ;;
        '') continue ;;
        esac
        symbol=${line##* }
        n_symbols=$((n_symbols + 1))
        case $lib in
        */kernels/*)
            case $symbol in kern_*) continue ;; esac
            bad "$object.c: $symbol does not begin with kern_"
            continue
            ;;
        esac
        module=${object%%_*}
        # A file of a subfolder is named folder_file by the build; either word will do.
        rest=${object#*_}
        case $symbol in
        "$module"_* | "${rest%%_*}"_* | assert_fail | main) ;;
        *) bad "$object.c: $symbol does not begin with ${module}_" ;;
        esac
    done < <(nm -g --defined-only "$lib" 2> /dev/null)
done < <(find "$build" -name '*.a' ! -name libllhttp.a ! -path '*/tests/*' ! -path '*/meson-*')

check "the libraries hold symbols"
[ "$n_symbols" -gt 0 ] || bad "no symbols found under $build: is it built?"

finish

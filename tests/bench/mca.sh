#!/usr/bin/env bash
# Static estimate of the arm kernels: cycles per weight of their inner loops, by llvm-mca. No arm
# machine is needed, and nothing is run.
#
#   tests/bench/mca.sh [--cpu=NAME] [BUILD]
#
#   NAME  the CPU for all kernels; else a Cortex-A76, and a Cortex-A710 for those with i8mm
#
#   MCA   the llvm-mca to use, if not the one on PATH
#
# BUILD is a cross build (tests/aarch64.ini), made as build-arm if it is missing. Of each product's
# object file every innermost loop that multiplies is taken as the compiler left it: from the target
# of a backward branch to that branch, no other one between. Weights are counted, not assumed: smmla
# makes 32 products, sdot 16, smlal and smull make 8; a batched loop's products are weights times
# tokens.
# The estimate knows neither caches nor memory. LLVM models a Cortex-A76 as a Cortex-A57 (up to
# release 19 at least), which has half its load pipes and is narrower: an upper bound. Its twin for
# servers, --cpu=neoverse-n1, is modelled for itself from release 16 on. It lacks smmla; the first
# such core on boards is the Cortex-A710, modelled as its twin Neoverse N2 (release 14 takes a
# Cortex-A57 for it too). Figures of two variants compare only on one model: --cpu=neoverse-n2.
set -u
cd "$(dirname "$0")/../.." || exit 1
cpu=
case "${1:-}" in
--cpu=*)
    cpu=${1#--cpu=}
    shift
    ;;
-*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
build=${1:-build-arm}
objdump=$(command -v aarch64-linux-gnu-objdump llvm-objdump | head -n1)
mca=$(command -v "${MCA:-llvm-mca}")
if [ -z "$objdump" ] || [ -z "$mca" ]; then
    echo "mca.sh: needs llvm-mca (package llvm) and aarch64-linux-gnu-objdump" >&2
    exit 77
fi
if [ ! -f "$build/build.ninja" ]; then
    meson setup --cross-file tests/aarch64.ini -Dkernels_only=true "$build" > /dev/null || exit 1
fi
ninja -C "$build" kernels/libkernels.a > /dev/null || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# loops < DISASSEMBLY: writes every innermost loop that multiplies to $dir/N.s and prints for each
# "N PRODUCTS FORM", the form being told from the look-ups: their width, and that of the indices.
loops() {
    awk -v dir="$dir" '
    function hex(s,  i, v) {
        v = 0
        s = tolower(s)
        for (i = 1; i <= length(s); i++) v = 16 * v + index("0123456789abcdef", substr(s, i, 1)) - 1
        return v
    }
    function flush_function(  i, j, inner, products, s, d, w, best, form, file) {
        for (i = 1; i <= n; i++) {
            if (target[i] == "" || target[i] > addr[i] || target[i] < addr[1]) continue
            inner = 1
            products = s = d = 0
            split("", w)
            for (j = i; j >= 1 && addr[j] >= target[i]; j--) {
                if (j < i && target[j] != "" && target[j] <= addr[j]) inner = 0
                if (op[j] == "smmla") products += 32
                if (op[j] == "sdot") products += 16
                if (op[j] ~ /^sm(la|ul)l2?$/) products += 8
                if (text[j] ~ /^ldr\ts[0-9]+, \[x[0-9]+, [xw]/) s++
                if (text[j] ~ /^ldr\td[0-9]+, \[x[0-9]+, [xw]/) d++
                if (text[j] ~ /^ubfi?[xz]?\t/ && match(text[j], /#[0-9]+$/))
                    w[substr(text[j], RSTART + 1)]++
            }
            if (!inner || !products) continue
            form = ""
            if (s + d >= 8) {
                best = 8
                if (w[10] > w[best]) best = 10
                if (w[12] > w[best]) best = 12
                form = ", len " (s > d ? 4 : 8) ", bits " best
            }
            file = dir "/" ++count ".s"
            print ".Lloop:" > file
            for (j = j + 1; j <= i; j++) {
                if (target[j] != "") sub(/[0-9a-f]+ <.*$/, ".Lloop", text[j])
                sub(/ *(<|\/\/).*$/, "", text[j])
                print "\t" text[j] > file
            }
            close(file)
            print count, products, form
        }
        n = 0
    }
    /^[0-9a-f]+ <.*>:$/ { flush_function(); next }
    /^ *[0-9a-f]+:\t/ {
        n++
        line = $0
        sub(/^ */, "", line)
        addr[n] = hex(substr(line, 1, index(line, ":") - 1))
        sub(/^[0-9a-f]+:\t/, "", line)
        text[n] = line
        op[n] = line
        sub(/[\t ].*/, "", op[n])
        target[n] = ""
        if (op[n] ~ /^(b|b\..*|cbn?z|tbn?z)$/ && match(line, /[0-9a-f]+ </))
            target[n] = hex(substr(line, RSTART, RLENGTH - 2))
    }
    END { flush_function() }'
}

status=0
iterations=500
"$mca" --version | sed -n 's/^ *\(.*LLVM version.*\)/\1/p'
printf '%-34s %-12s %9s %8s %14s\n' loop cpu products cycles cycles/product
for object in "$build"/kernels/arm/libkernels_*.a.p/gem*.o; do
    name=$(basename "$object" .c.o)
    rm -f "$dir"/*.s
    model=${cpu:-cortex-a76}
    case $name in *_i8mm) model=${cpu:-cortex-a710} ;; esac
    "$objdump" -d --no-show-raw-insn "$object" | loops > "$dir/list"
    if [ ! -s "$dir/list" ]; then
        echo "mca.sh: no inner loop found in $object" >&2
        status=1
    fi
    while read -r i products form; do
        case $name in *_seg_*) ;; *) form= ;; esac
        total=$("$mca" -mtriple=aarch64-linux-gnu -mcpu="$model" -mattr=+dotprod,+i8mm \
            -iterations=$iterations "$dir/$i.s" 2> "$dir/err" | sed -n 's/^Total Cycles: *//p')
        if [ -z "$total" ]; then
            echo "mca.sh: llvm-mca cannot read a loop of $object:" >&2
            head -n3 "$dir/err" >&2
            status=1
            continue
        fi
        awk -v l="$name$form" -v m="$model" -v p="$products" -v t="$total" -v n=$iterations \
            'BEGIN { printf "%-34s %-12s %9d %8.1f %14.3f\n", l, m, p, t / n, t / n / p }'
    done < "$dir/list"
done
exit $status

#!/usr/bin/env bash
# What the x86 variants are encoded as. No emulator knows AVX-VNNI and few machines have it without
# AVX-512, so that the objects themselves must show that they would run there: the dot product in
# its VEX encoding, and nothing of AVX-512 (EVEX, where 512-bit registers and masks begin; it is
# all that starts with byte 62 in 64-bit code). Usage: encodings.sh ROOT BUILD
build=$(cd "${2:-build}" && pwd) || exit 2
. "$(dirname "$0")/../lint/common.sh"

objects() { # objects ISA
    find "$build/kernels/x86/libkernels_$1.a.p" -name '*.o' | sort
}

# instructions OBJECT: one a line, bytes first.
instructions() {
    objdump -dw "$1" | sed -n 's/^ *[0-9a-f]*:\t//p'
}

is_evex='^62 '
is_avx512='%zmm|%k[0-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])'

check "objdump shows EVEX where it is: avx512vnni"
n=0
for o in $(objects avx512vnni); do
    n=$((n + 1))
    instructions "$o" | grep -qE "$is_evex.*vpdpbusd" || bad "${o##*/}: no EVEX vpdpbusd"
done
[ "$n" -gt 0 ] || bad "no objects of avx512vnni"

for isa in avx2 avxvnni; do
    check "no instruction of AVX-512: $isa"
    n=0
    for o in $(objects $isa); do
        n=$((n + 1))
        bad_lines "${o##*/}" < <(instructions "$o" | grep -E "$is_evex|$is_avx512" | head -n 3)
    done
    [ "$n" -gt 0 ] || bad "no objects of $isa"
done

check "every product has VEX vpdpbusd, as those of avx512vnni have EVEX: avxvnni"
for o in $(objects avxvnni); do
    instructions "$o" | grep -qE '^c4 .*vpdpbusd' || bad "${o##*/}: no VEX vpdpbusd"
done
names() { objects "$1" | sed "s,.*/,,; s/_$1.*//"; }
[ "$(names avxvnni)" = "$(names avx512vnni)" ] || bad "the two variants have different products"

check "no dot product: avx2"
for o in $(objects avx2); do
    bad_lines "${o##*/}" < <(instructions "$o" | grep -m 1 vpdpbusd)
done

finish

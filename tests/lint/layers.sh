#!/usr/bin/env bash
# Layers: who may include whom, who may print, end the program or read the environment.
# Usage: layers.sh [ROOT]
. "$(dirname "$0")/common.sh"

# includes FOLDER...: "file:line:<name>" or "file:line:"name"" of every include.
includes() {
    c_files "$@" | xargs -r grep -nHE '^[[:space:]]*#[[:space:]]*include' |
        sed -E 's/^([^:]+:[0-9]+:).*include[[:space:]]*([<"][^>"]*[>"]).*/\1\2/'
}

# allow FOLDER REGEX: includes of the folder that do not match (the regex sees <name> or "name").
not_allowed() {
    includes "$1" | grep -vE "^[^:]+:[0-9]+:($2)\$"
}

# All C code with comments and strings blanked, as "file:line:text".
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
code=$(c_files kernels core config daemon | xargs -r python3 "$here/strip.py")
code() { # code NAME...: those lines of the files or folders named
    local alternatives
    alternatives=$(printf '|%s' "$@")
    printf '%s\n' "$code" | grep -E "^(${alternatives#|})[/:]"
}

check "kernels/ includes only its own folder, a few libc headers and intrinsics"
bad_lines "not allowed in kernels/" < <(not_allowed kernels \
    '<(stddef|stdint|stdbool|string|math|assert|float)\.h>|<(immintrin|arm_neon|arm_acle)\.h>|"kernels/[^"]*"' |
    grep -vE '^kernels/cpu\.c:[0-9]+:<(cpuid|sys/auxv|asm/hwcap)\.h>$')

check "core/ includes core/ and the kernels' three headers"
bad_lines "not allowed in core/" < <(includes core | grep -E ':"' |
    grep -vE ':"(core/[^"]*|kernels/(kernels|planes|seg)\.h)"$')

check "core/ knows no loop, JSON, YAML, socket or intrinsic"
bad_lines "not allowed in core/" < <(includes core | grep -E \
    ':<(uv|yaml|llhttp|cjson/.*|cJSON|sys/socket|sys/un|netinet/.*|arpa/.*|netdb|immintrin|arm_neon|curses|syslog)(\.h)?>')

check "BLAS and LAPACK only in core/gemm.c and core/linalg.c"
bad_lines "belongs in core/gemm.c or core/linalg.c" < <(includes kernels core config daemon |
    grep -iE ':<[^>]*(cblas|lapack|openblas)[^>]*>' |
    grep -vE '^core/(make/)?(gemm|linalg)\.c:')

check "config/ includes only its own folder, core/defs.h, core/err.h, libc and libyaml"
bad_lines "not allowed in config/" < <(includes config | grep -E ':"' |
    grep -vE ':"(config/[^"]*|core/(defs|err|bytes)\.h)"$')
bad_lines "not allowed in config/" < <(includes config |
    grep -E ':<(uv|llhttp|cjson/.*|cJSON|sys/socket|sys/un|netinet/.*|immintrin|arm_neon)(\.h)?>')

check "libyaml only in config/"
bad_lines "belongs in config/" < <(includes kernels core daemon | grep -E ':<yaml\.h>')

check "libuv, llhttp and cJSON only in daemon/"
bad_lines "belongs in daemon/" < <(includes kernels core config |
    grep -E ':<(uv(/.*)?|llhttp|cjson/.*|cJSON)(\.h)?>')

check "daemon/ includes daemon/, core/ and config/, no kernels and no intrinsics"
bad_lines "not allowed in daemon/" < <(includes daemon | grep -E ':"' |
    grep -vE ':"((daemon|config)/[^"]*|core/[^"/]*\.h)"$')
bad_lines "not allowed in daemon/" < <(includes daemon | grep -E ':<(immintrin|arm_neon)\.h>')

check "the client is config/ and a socket: no engine; its doctor reads the sensors and the CPUs"
bad_lines "not allowed in the client" < <(includes daemon | grep -E '^daemon/ctl[^/]*:' |
    grep -E ':"' | grep -vE ':"(daemon/ctl[^"/]*\.h|config/config\.h|core/(defs|err)\.h)"$' |
    grep -vE '^daemon/ctl_doctor[a-z_]*\.c:[0-9]+:"(daemon/sense[a-z_]*|core/topology)\.h"$')

# The mains may print, read the environment and end the program; the packer's commands and what they
# share with ebb-bench print, as does ebb-bench's report.
mains='daemon/(main|ctl)\.c|core/make/packer\.c|core/bench/main\.c'
printers='daemon/ctl[a-z_]*\.c|daemon/(main|log)\.c|core/make/(packer|cmd|progress)[a-z_]*\.c|core/cmd/[a-z_]*\.c|core/bench/(main|report)\.c'
print_calls='\b(printf|puts|putchar|perror|vprintf)[[:space:]]*\(|\b(stdout|stderr)\b'

check "no printing outside the mains, the log, the commands and the report"
bad_lines "prints" < <(code kernels core config daemon | grep -E "^[^:]+:[0-9]+:.*($print_calls)" |
    grep -vE "^($printers|core/err\.c):")
if [ -f core/err.c ]; then
    # The one exception of core/: a failed assertion says where, just before abort().
    n=$(code core/err.c | grep -cE "$print_calls")
    [ "$n" -le 1 ] || bad "core/err.c prints $n times: only assert_fail() may"
fi

check "no exit, abort or environment outside the mains"
bad_lines "only a main() may" < <(code kernels core config daemon |
    grep -E '^[^:]+:[0-9]+:.*\b((secure_)?getenv|setenv|putenv|exit|_exit|_Exit|quick_exit|abort)[[:space:]]*\(' |
    grep -vE "^($mains):" | grep -vE '^core/err\.c:[0-9]+:[[:space:]]*abort\(\);' |
    grep -vE '^core/mem\.c:[0-9]+:.*\babort\(\);')

check "threads are made by the pool, the inference thread, the guard and the sensors only"
bad_lines "creates a thread" < <(code kernels core config daemon |
    grep -E '\b(pthread_create|uv_thread_create[a-z_]*|thrd_create)[[:space:]]*\(' |
    grep -vE '^(core/pool|daemon/guard|daemon/infer|daemon/sense_slow)\.c:')

check "no alloca, no attribute outside core/defs.h, no _GNU_SOURCE in files"
bad_lines "not in house style" < <(code core config daemon |
    grep -E '\balloca[[:space:]]*\(|__attribute__|define[[:space:]]+_[A-Z]+_SOURCE' |
    grep -v '^core/defs\.h:')

finish

#!/usr/bin/env bash
# Each lint must be able to fail: feeds every rule a bad sample in a small tree of its own, and
# checks that the lint that passes on the clean tree names the sample. Usage: selftest.sh
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n_passed=0
n_failed=0

fresh() {
    rm -rf "$tmp/t"
    mkdir -p "$tmp/t"/{kernels,core/make,config,daemon,tests,build}
    cp "$here/../../.clang-format" "$tmp/t/"
    printf '/* A good header. */\n#ifndef EBB_CORE_GOOD_H\n#define EBB_CORE_GOOD_H\n\n#include <stddef.h>\n\nsize_t good_size(void);\n\n#endif\n' > "$tmp/t/core/good.h"
    printf '/* A good file: printf( and getenv( in a comment are no calls. */\n#include "core/good.h"\n\nsize_t good_size(void) {\n    return sizeof("exit(1) // no comment");\n}\n' > "$tmp/t/core/good.c"
}

verdict() { # verdict OK WHAT
    if [ "$1" = 1 ]; then
        n_passed=$((n_passed + 1))
        echo "ok   $2"
    else
        n_failed=$((n_failed + 1))
        echo "FAIL $2"
        sed 's/^/    /' "$tmp/out"
    fi
}

passes() { # passes LINT: on the clean tree
    fresh
    bash "$here/$1.sh" "$tmp/t" > "$tmp/out" 2>&1
    verdict $((1 - $?)) "$1 passes on a clean tree"
}

# catches LINT FILE TEXT: the lint fails with that file in the clean tree, and names it.
catches() {
    fresh
    mkdir -p "$(dirname "$tmp/t/$2")"
    printf "$3" > "$tmp/t/$2"
    if ! bash "$here/$1.sh" "$tmp/t" > "$tmp/out" 2>&1 &&
        grep -qF "$2" "$tmp/out" && tail -n1 "$tmp/out" | grep -q ' [1-9][0-9]* failed'; then
        verdict 1 "$1 catches $2: $(printf '%q' "${3:0:44}")"
    else
        verdict 0 "$1 catches $2: $(printf '%q' "${3:0:44}")"
    fi
}

library() { # library OBJECT SYMBOL: a static library with that one symbol
    mkdir -p "$tmp/t/build/core"
    echo "int $2(void); int $2(void) { return 0; }" | gcc -x c -c - -o "$tmp/t/build/core/$1.c.o"
    ar rc "$tmp/t/build/core/lib.a" "$tmp/t/build/core/$1.c.o"
}

for lint in layers text headers format; do
    passes $lint
done
catches layers kernels/bad.c '#include <stdlib.h>\n'
catches layers kernels/bad.c '#include "core/good.h"\n'
catches layers core/bad.c '#include <uv.h>\n'
catches layers core/bad.c '#include <sys/socket.h>\n'
catches layers core/bad.c '#include "daemon/http.h"\n'
catches layers core/bad.c '#include "kernels/x86/gemv.h"\n'
catches layers core/bad.c '#include <cblas.h>\n'
catches layers core/make/bad.c '#include <lapacke.h>\n'
catches layers config/bad.c '#include "core/pack.h"\n'
catches layers config/bad.c '#include <uv.h>\n'
catches layers daemon/bad.c '#include <yaml.h>\n'
catches layers daemon/bad.c '#include "kernels/kernels.h"\n'
catches layers daemon/ctl_bad.c '#include "core/engine.h"\n'
catches layers daemon/ctl_bad.c '#include "daemon/sense.h"\n'
catches layers core/bad.c 'void f(void) {\n    printf("x");\n}\n'
catches layers core/make/bad.c 'void f(void) {\n    fputs("x", stderr);\n}\n'
catches layers daemon/bad.c 'void f(void) {\n    exit(1);\n}\n'
catches layers core/bad.c 'char *f(void) {\n    return getenv("X");\n}\n'
catches layers core/bad.c 'void f(void) {\n    abort();\n}\n'
catches layers daemon/bad.c 'void f(void) {\n    pthread_create(0, 0, 0, 0);\n}\n'
catches layers core/bad.c '#define _GNU_SOURCE\n'
catches layers core/err.c 'void f(void) {\n    fputs("a", stderr);\n    fputs("b", stderr);\n}\n'
catches text core/bad.c '/* Head. */\nint a; // no\n'
catches text core/bad.c '/* Head. */\n\tint a;\n'
catches text core/bad.c '/* Head. */\nint a; \n'
catches text core/bad.c '/* Head. */\r\n'
catches text core/bad.c '/* Head. */'
catches text core/bad.c '/* Head. */\n\n'
catches text core/bad.c 'int a;\n'
catches text core/bad.h '/* Head. */\n#ifndef BAD_H\n#define BAD_H\n#endif\n'
catches text core/long.c "/* Head. */\n$(printf '/* x */\\n%.0s' $(seq 901))"
catches text core/bad.c '/* TO''DO: later. */\n'
catches text README.md 'see /wor''k/tree\n'
catches text README.md 'see iss''ue 3\n'
catches text core/blob.bin '\x7fELF\x01\x02\x00\x00\x00\n'
catches text bad.sh '#!/bin/sh\nif\n'
catches headers core/bad.h '/* Head. */\nsize_t f(void);\n'
catches format core/bad.c 'int  a ;\n'

fresh
library tok_bpe tok_create
bash "$here/names.sh" "$tmp/t" "$tmp/t/build" > "$tmp/out" 2>&1
verdict $((1 - $?)) "names passes tok_create in tok_bpe.c"
fresh
library tok_bpe bpe2_create
! bash "$here/names.sh" "$tmp/t" "$tmp/t/build" > "$tmp/out" 2>&1 && grep -q bpe2_create "$tmp/out"
verdict $((1 - $?)) "names catches bpe2_create in tok_bpe.c"
fresh
! bash "$here/names.sh" "$tmp/t" "$tmp/t/build" > "$tmp/out" 2>&1
verdict $((1 - $?)) "names fails where nothing is built"

echo "$n_passed passed, $n_failed failed"
[ "$n_failed" -eq 0 ]

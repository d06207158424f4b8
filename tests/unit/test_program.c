/* What is mapped from files is locked. */
#include <errno.h>

#include "core/err.h"
#include "daemon/program.h"
#include "tests/t.h"

static void the_program_is_locked(void) {
    struct err e = {0};
    uint64_t bytes = 0;
    int r = program_lock(&bytes, &e);
    /* Where the tests run the limit may be small; what was locked by then is counted. */
    if (r < 0) {
        CHECK(r == -ENOMEM || r == -EPERM || r == -EAGAIN);
        CHECK(e.msg[0]);
        return;
    }
    CHECK(bytes > 500 << 10); /* the C library alone has more */
    CHECK(bytes < 256 << 20);
}

static const struct t_case cases[] = {
    {"the_program_is_locked", the_program_is_locked},
};

int main(int argc, char **argv) {
    return t_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}

/* A pressure file from any bytes: both totals, or unknown. */
#include <stdlib.h>

#include "core/err.h"
#include "daemon/sense_psi.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sense_psi p = {.some_us = 1234567, .full_us = 7654321};
    struct err e = {0};
    int r = sense_psi_parse((const char *)data, size, &p, &e);
    if (r < 0 && (p.some_us != 1234567 || p.full_us != 7654321 || e.code != r)) abort();
    if (r == 0 && size < 26) abort(); /* the shortest good file */
    return 0;
}

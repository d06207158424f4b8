/* /proc/vmstat and /proc/self/stat from any bytes: values, or unknown and untouched. */
#include <stdlib.h>

#include "core/err.h"
#include "daemon/sense_vmstat.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sense_vmstat v = {.refaults = 12, .major_faults = 34, .alloc_stalls = 56};
    uint64_t own = 77;
    struct err e = {0};
    int r = sense_vmstat_parse((const char *)data, size, &v, &e);
    if (e.code != r) abort();
    if (r < 0 && (v.refaults != 12 || v.major_faults != 34 || v.alloc_stalls != 56)) abort();
    e.code = 0;
    r = sense_vmstat_parse_self((const char *)data, size, &own, &e);
    if (r < 0 && (own != 77 || e.code != r)) abort();
    return 0;
}

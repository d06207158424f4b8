/* A clock from any bytes: never zero, as it is divided by. */
#include <stdlib.h>

#include "core/err.h"
#include "daemon/sense_cpufreq.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t khz = 77;
    struct err e = {0};
    int r = sense_cpufreq_parse_khz((const char *)data, size, &khz, &e);
    if (r < 0 && (khz != 77 || e.code != r)) abort();
    if (r == 0 && khz == 0) abort();
    return 0;
}

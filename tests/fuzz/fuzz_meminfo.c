/* /proc/meminfo from any bytes: a value that stands in the text, or unknown. */
#include <stdlib.h>

#include "core/err.h"
#include "daemon/sense_meminfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint64_t untouched = 0x5a5a5a5a5a5a5a5b; /* odd: no number of KiB */
    uint64_t v = untouched;
    struct err e = {0};
    int r = sense_meminfo_parse((const char *)data, size, &v, &e);
    if (r < 0 && (v != untouched || e.code != r)) abort();
    if (r == 0 && v % 1024 != 0) abort();
    return 0;
}

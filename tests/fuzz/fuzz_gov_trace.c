/* A line of the governor's trace from any bytes: refused, or written back as it was. */
#include <stdlib.h>
#include <string.h>

#include "core/gov_trace.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "L,3,2199023255902,2:0:1:100,0:0:2:250,2:1:3:1099511627776",
    "S,-1,268435456,16777216,67108864,30000000,1800000000,1000000,5000000,120,100,1,8000,3000,1,4",
    "C,1,1,1,1,0,1,536870912,-1,1000,500,0,0,-1500,0,-1,144000000,251658,0,0,7,0,0,0,0,8,5,heat",
    "G,1234567,41943040,1048576,3,12",
};

uint8_t *fuzz_seed(unsigned i, size_t *ret_n) {
    if (i >= ARRAY_LEN(seeds)) return NULL;
    *ret_n = strlen(seeds[i]);
    uint8_t *copy = malloc(*ret_n);
    if (copy) memcpy(copy, seeds[i], *ret_n);
    return copy;
}

static void check(const char *line, const char *back, size_t n) {
    if (n == 0 || back[n - 1] != '\n' || strlen(line) != n - 1 || memcmp(line, back, n - 1) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Shorter by the newline, so that what was read has room to be written. */
    static char line[GOV_TRACE_MAX - 1], back[GOV_TRACE_MAX];
    struct ladder *l;
    struct gov_settings set;
    struct gov_input in;
    struct gov_trace_answer a;
    uint64_t now_us;
    size_t n = MIN(size, sizeof(line) - 1);
    if (n > 0) memcpy(line, data, n);
    line[n] = '\0';
    struct gov_trace_guard g;
    if (gov_trace_get_guard(line, &g, NULL) == 0)
        check(line, back, gov_trace_put_guard(&g, back, sizeof(back)));
    if (gov_trace_get_ladder(line, &l, NULL) == 0) {
        check(line, back, gov_trace_put_ladder(l, back, sizeof(back)));
        ladder_destroy(l);
    }
    if (gov_trace_get_settings(line, &set, NULL) == 0)
        check(line, back, gov_trace_put_settings(&set, back, sizeof(back)));
    if (gov_trace_get_call(line, &now_us, &in, &a, NULL) == 0) {
        struct gov_output out = {.position = a.position, .stage = a.stage, .reason = a.reason};
        check(line, back, gov_trace_put_call(now_us, &in, &out, back, sizeof(back)));
    }
    return 0;
}

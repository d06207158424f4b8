/* The files that ebb-sim takes, from any bytes: a trace, whose calls go through the governor as
 * they are, and a world, which is asked what it holds. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/sim/replay.h"
#include "tests/sim/world.h"

static const char *const seeds[] = {
    "# a trace\n"
    "L,3,2000,0:0:1:300,1:0:1:300,0:1:3:500,2:0:2:400\n"
    "S,-1,268435456,16777216,67108864,0,1800000000,0,5000000,120,100,1,8000,3000,0,4\n"
    "C,1000000,1,1,1,1,1,536870912,-1,0,0,0,0,20000,0,-1,0,50,0,0,0,0,0,0,0,0,0,start\n"
    "C,1100000,1,1,1,1,0,1,1000,0,0,0,0,0,0,-1,2000,50,0,0,0,0,0,0,0,0,0,steady\n"
    "C,1150000,1,1,1,1,1,1,1000,50000,50000,5000,1,-9000,1,-1,2000,50,0,0,0,0,0,0,0,4,0,emergency\n"
    "S,-1,268435456,16777216,67108864,0,1800000000,0,5000000,2,100,0,8000,3000,0,1\n"
    "C,9150000,0,0,0,0,0,0,-1,0,0,0,0,0,0,1000,1000,50,0,0,4,0,0,0,0,4,0,mem_unknown\n"
    "C,9250000,1,0,1,1,1,99999999999,-1,50000,50000,5000,0,30000,0,-1,1000,50,0,0,4,0,0,0,0,4,0,"
    "steady\n",
    "time_s,left_mib,stall_percent,celsius\n0,1024,0,45\n# a remark\n1.25,330.5,12.5,\n9,,,-3\n",
};

uint8_t *fuzz_seed(unsigned i, size_t *ret_n) {
    if (i >= sizeof(seeds) / sizeof(seeds[0])) return NULL;
    *ret_n = strlen(seeds[i]);
    uint8_t *copy = malloc(*ret_n);
    if (copy) memcpy(copy, seeds[i], *ret_n);
    return copy;
}

static void check_world(const struct world *w) {
    uint64_t span_us = world_span_us(w);
    struct world_sample s;
    for (unsigned i = 0; i <= 8; i++) {
        world_at(w, span_us / 8 * i, &s);
        if (s.stall_permille > 1000 || s.left_bytes > UINT64_C(1) << 44) abort();
    }
}

static void check_call(void *ud, const struct replay_call *c) {
    (void)ud;
    const struct gov_output *out = c->out;
    if (out->position > ladder_n_steps(c->ladder) || out->stage >= GOV_STAGES) abort();
    if (out->threads < 1 || out->threads > c->set->max_threads) abort();
    if (out->duty_permille < 1 || out->duty_permille > 1000 || out->level > 3) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world *w;
    struct replay_result got;
    const char *text = data ? (const char *)data : "";
    if (world_parse("w", text, size, &w, NULL) == 0) {
        check_world(w);
        world_destroy(w);
    }
    if (replay_run("t", text, size, check_call, NULL, &got, NULL) == 0 && got.n_same > got.n_calls)
        abort();
    return 0;
}

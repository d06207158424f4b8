/* What ebb-bench has measured, as text for people and as JSON; to standard output. */
#ifndef EBB_CORE_BENCH_REPORT_H
#define EBB_CORE_BENCH_REPORT_H

#include "core/bench/spread.h"
#include "core/defs.h"

struct report {
    const char *model, *cpu;
    const char *rung; /* NULL: several */
    bool is_on_ladder;
    uint32_t position; /* is_on_ladder */
    uint32_t n_threads, n_prompt, n_gen, n_batch, n_reps;
    uint64_t bytes_per_token;
    /* Over the repetitions; n is 0 where nothing was measured. ratio: decode's reading as a share
     * of plain reading, of each repetition */
    struct spread prefill_tps, decode_tps, batch_tps, read_gbps, plain_gbps, ratio;
    struct spread gap_ms; /* over all tokens of all repetitions */
    double gap_p99_ms;
};

void report_print(const struct report *r);
void report_print_json(const struct report *r);

#endif

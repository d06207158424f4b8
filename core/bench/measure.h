/* Speed of the engine on a loaded pack: prompt, decode, several requests together, and beside them
 * plain reading on the same threads.
 *
 * A round does each of them once, so that rounds are interleaved: a machine that changes speed
 * changes all. Each starts with an empty KV cache, as llama-bench's do. Tokens are greedy. */
#ifndef EBB_CORE_BENCH_MEASURE_H
#define EBB_CORE_BENCH_MEASURE_H

#include "core/defs.h"

struct err;
struct kern_ops;
struct loaded;
struct measure;

enum { MEASURE_MAX_BATCH = 64 };

struct measure_opts {
    const struct kern_ops *ops;
    uint32_t n_threads; /* as pool_create() takes it */
    uint32_t n_prompt;  /* tokens; 0: no prompt is measured */
    uint32_t n_gen;     /* tokens a request; 0: neither decode nor batch */
    uint32_t n_batch;   /* requests together, 1 .. MEASURE_MAX_BATCH; 1: no batch */
    uint32_t chunk;     /* prompt tokens a step, 1 .. ENGINE_MAX_ROWS */
};

struct measure_round {
    double plain_gbps;
    double prefill_tps, decode_tps, batch_tps; /* tokens a second; 0 if not measured. batch: of all
                                                  requests together */
};

/* `l` and `o->ops` are borrowed for its life. 0, -EINVAL, -ENOMEM or the system's error. */
int measure_create(const struct loaded *l, const struct measure_opts *o, struct measure **ret,
                   struct err *e) MUST_CHECK;
void measure_destroy(struct measure *m); /* accepts NULL */
unsigned measure_threads(const struct measure *m);

/* Each once, short where it can be, for nothing but the first touch of memory and code. 0 or the
 * engine's error. */
int measure_warm_up(struct measure *m, struct err *e) MUST_CHECK;
/* gaps_s[n_gen]: the time of each token of the decoding alone. 0 or the engine's error. */
int measure_round(struct measure *m, struct measure_round *ret, double *gaps_s,
                  struct err *e) MUST_CHECK;

#endif

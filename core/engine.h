/* The engine: the transformer's forward pass over a batch of rows.
 *
 * A row is one token of one session. Rows of one session have consecutive positions in order, and
 * its KV cache holds everything before the first of them. All rows go through a layer together, so
 * each weight is read once a step; a row's result does not depend on the others in the batch, on
 * the thread count, or on where the batch was cut (kernels.h states why). No allocation in a step.
 * Thread: inference (or the one thread of a tool). */
#ifndef EBB_CORE_ENGINE_H
#define EBB_CORE_ENGINE_H

#include "core/defs.h"
#include "core/model.h"

struct engine;
struct err;
struct kern_ops;
struct kv;
struct mem;
struct pack;
struct plan;
struct pool;

struct engine_opts {
    uint32_t max_rows; /* rows of a step, 1 .. 512 */
    uint32_t max_ctx;  /* positions that RoPE tables and attention scratch cover */
};

struct engine_row {
    struct kv *kv; /* capacity > pos */
    uint32_t pos;
    uint32_t token; /* < n_vocab */
    float *logits;  /* NULL, or room for n_vocab rounded up to 8 floats */
};

/* All pointers are borrowed for the engine's life. `core` is the core extent's slab data. */
int engine_create(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                  const struct pack *pack, const float *core, const struct engine_opts *opts,
                  struct engine **ret, struct err *e) MUST_CHECK;
void engine_destroy(struct engine *en); /* accepts NULL */
uint64_t engine_scratch_bytes(const struct engine *en);

/* One step. 0, -EINVAL (too many rows, position beyond max_ctx or the KV's capacity, token out of
 * range) or the error of reading an untied embedding row; then no logits are valid, and positions
 * from the first row's on are undefined in the KVs. */
int engine_step(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                uint32_t n_rows, struct err *e) MUST_CHECK;

#endif

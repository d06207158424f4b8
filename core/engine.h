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
struct pages;
struct plan;
struct pool;

enum { ENGINE_MAX_ROWS = 512 };

struct engine_opts {
    uint32_t max_rows; /* rows of a step, 1 .. ENGINE_MAX_ROWS */
    uint32_t max_ctx;  /* positions that attention scratch covers, 1 .. MODEL_MAX_CTX */
    /* Not 0: for measuring weights. Activations keep what int8 loses of them as a second int8
     * vector, and products run over both: four more digits for twice the time. Rounding by itself
     * makes two runs differ by more than a layer's lower rung does, so without this their distance
     * says little of the weights. The number is how many rows' logits are made at a time; it costs
     * memory for as many. */
    uint32_t fine_rows;
    /* Where engine_step() gets the units that a plan has at RUNG_PAGED; borrowed, and the engine is
     * its only inference thread. NULL: such plans are refused. */
    struct pages *pages;
};

struct engine_row {
    struct kv *kv; /* capacity > pos */
    uint32_t pos;
    uint32_t token; /* < n_vocab */
    /* NULL, or room for n_vocab rounded up to 8 floats. Rows whose buffers lie at equal distances,
     * in the order of the rows, read the output matrix once together; others once each. */
    float *logits;
};

/* All pointers are borrowed for the engine's life. `core` is the core extent's slab data.
 * 0, -EINVAL or -ENOMEM. */
int engine_create(struct mem *m, struct pool *pool, const struct kern_ops *ops,
                  const struct pack *pack, const float *core, const struct engine_opts *opts,
                  struct engine **ret, struct err *e) MUST_CHECK;
void engine_destroy(struct engine *en); /* accepts NULL */

uint64_t engine_scratch_bytes(const struct engine *en);
const struct model_hparams *engine_hparams(const struct engine *en); /* borrowed, as the pack's */
uint32_t engine_max_rows(const struct engine *en);
struct mem *engine_mem(const struct engine *en); /* borrowed: where the engine's scratch is from */

/* One step. 0, -EINVAL (too many rows, position beyond max_ctx or the KV's capacity, token out of
 * range, a plan of another model or with a unit that has no weights) or the error of reading an
 * untied embedding row or a paged unit, which the step waits for where it needs it, or -EAGAIN:
 * a newer plan gives memory back and waits (store_urge(), pages_interrupt()); then no logits are
 * valid, positions from the first row's on are undefined in the KVs, and the step is to be taken
 * again under that plan. */
int engine_step(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                uint32_t n_rows, struct err *e) MUST_CHECK;

/* The next step is not broken off, so that tokens come however fast plans do. */
void engine_spare(struct engine *en);

/* A step in parts, for who runs several plans that are alike up to some layer: x[n_rows][n_embd] is
 * the residual stream of the rows, the caller's. The three after each other, over all layers, give
 * what engine_step() gives, to the bit. Each looks only at the units of the plan that it runs, so
 * the others need not be bound; a paged unit is refused. Errors as above.
 *
 * engine_embed() writes x as it is before layer 0. engine_layers() takes x from before layer
 * `first` to before layer `last` (first <= last <= n_layers); it writes the keys and values of the
 * rows for these layers and reads those of earlier positions, of no other layer. So rows that begin
 * at position 0 need nothing from the step that made their x, and one KV can serve one pass after
 * the other. engine_head() writes the logits of the rows that want them; it reads neither KV nor
 * position. */
int engine_embed(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                 uint32_t n_rows, float *x, struct err *e) MUST_CHECK;
int engine_layers(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                  uint32_t n_rows, uint32_t first, uint32_t last, float *x,
                  struct err *e) MUST_CHECK;
int engine_head(struct engine *en, const struct plan *plan, const struct engine_row *rows,
                uint32_t n_rows, const float *x, struct err *e) MUST_CHECK;

#endif

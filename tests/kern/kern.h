/* Shared by the kernel tests: variants, guarded buffers, inputs.
 *
 * Every variant that this machine can run is compared with the reference. Buffers lie between
 * unreadable pages, so a read or write beyond them ends the program at the instruction. */
#ifndef EBB_TESTS_KERN_KERN_H
#define EBB_TESTS_KERN_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "tests/t.h"

struct variant {
    const char *name;
    unsigned flags; /* what kern_init() is given */
};

/* All variants of all CPU families, the reference first. */
extern const struct variant variants[];
extern const unsigned n_variants;

/* The variants under test: those that can run here and that --cpu= allows, without the reference.
 * false at the end. Start with *i = 0. */
bool variant_next(unsigned *i, struct kern_ops *ret);
bool variant_can_run(const struct variant *v);

/* Memory for one array. EDGE_END: its last byte lies before an unreadable page; EDGE_BEGIN: its
 * first byte lies after one. What remains between the pages is a canary. */
enum edge { EDGE_END, EDGE_BEGIN };
enum { EDGE_COUNT = EDGE_BEGIN + 1 };

struct guarded {
    uint8_t *map;  /* owned: unreadable page, `cap` bytes, unreadable page */
    size_t cap;    /* bytes */
    uint8_t *data; /* the array: n bytes within */
    size_t n;
};

/* Makes room for n bytes, filled with the canary. align: of the first byte, a power of two up to
 * a page; at EDGE_END the array may so lie up to align - 1 bytes off the page. Reuses g's map. */
void *guarded_get(struct guarded *g, size_t n, size_t align, enum edge edge);
/* Whether everything around the array still is the canary. */
bool guarded_intact(const struct guarded *g);
void guarded_free(struct guarded *g);
enum { CANARY = 0xa5 };

/* Inputs that break things, by name. */
enum fill {
    FILL_ZERO,
    FILL_LOW,  /* all at the least value */
    FILL_HIGH, /* all at the greatest */
    FILL_ALTERNATING,
    FILL_ONE_HOT,
    FILL_TINY, /* denormal floats; codes 0 and 1 */
    FILL_RANDOM,
};
enum { FILL_COUNT = FILL_RANDOM + 1 };
const char *fill_name(enum fill f);

/* n integers in [low, high]. */
void fill_bytes(uint8_t *ret, size_t n, enum fill f, int low, int high, uint64_t *rng);
/* n floats in [-max, max]. */
void fill_floats(float *ret, size_t n, enum fill f, float max, uint64_t *rng);
/* n fp16 in [-max, max]. */
void fill_f16(uint16_t *ret, size_t n, enum fill f, float max, uint64_t *rng);
float rand_float(uint64_t *rng, float max);
uint32_t rand_below(uint64_t *rng, uint32_t n);

/* A batch of activations, each array in memory of its own. */
struct guarded_batch {
    struct guarded q, scale, qsum, psum;
    struct kern_acts x; /* the same, after batch_make() */
};
void batch_make(struct guarded_batch *a, uint32_t n_in, uint32_t n_tok, enum fill f, enum edge edge,
                uint64_t *rng);
void batch_free(struct guarded_batch *a);

/* A matrix product under test; what it multiplies is its own business. */
typedef void product_fn(const void *ud, uint32_t n_tok, float *y, size_t ldy, uint32_t rt0,
                        uint32_t rt1);

/* What one comparison of products is about; printed when it fails. */
struct shape {
    uint32_t n_out, n_in, n_tok, rt0, rt1;
    enum fill codes, acts;
    enum edge edge;
};

struct output {
    struct guarded y, expected;
};
void output_free(struct output *o);

/* Runs fn on all rows, then on a random range of row tiles, and compares with `want`: the
 * reference's y for all tokens and rows, its row length all row tiles. Returns whether every bit
 * and every canary is right; what (NULL: say nothing) begins the report. */
bool product_check(struct output *o, product_fn *fn, const void *ud, struct shape s,
                   const float *want, const char *what, uint64_t *rng);
/* y of all tokens and row tiles; the caller frees it. */
float *product_all(product_fn *fn, const void *ud, uint32_t n_out, uint32_t n_tok);

/* Whether a child process that calls fn lives to its end. */
bool child_survives(void (*fn)(void));

/* Test cases of the other files. */
void test_mul_variants(void);
void test_mul_reference(void);
void test_mul_catches_bad(void);
void test_row(void);
void test_seg_layout(void);
void test_seg_reference(void);
void test_seg_catches_bad(void);
void test_seg_variants(void);
void test_gather(void);
void test_quant_acts(void);
void test_rmsnorm(void);
void test_group_cost(void);
void test_nearest(void);
void test_rope(void);
void test_quant_kv(void);
void test_attn(void);
void test_attn_exp(void);
void test_silu_mul(void);
void test_f16(void);
void test_log_softmax(void);

/* Prints speeds of all variants under test; is_segs: only of segments, beside the high plane. */
void bench(bool is_segs);

#endif
